// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// commands are all commands that the gateway sends, itself or in scripts, with arguments
// that Redis accepts; a question mark stands for a key or a channel. Those of the feed come
// on top. A test compares them with what a server has counted. docs/redis.md has the line
// that permits them.
var commands = []string{
	"PING", "TIME", "INFO server", "WAIT 0 1", "SCAN 0", "MULTI", "EXEC",
	"EVAL return 0", "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0",
	"EXISTS ?", "DEL ?", "EXPIRE ? 1", "PEXPIRE ? 1", "PEXPIREAT ? 1", "PERSIST ?", "PTTL ?",
	"GET ?", "SET ? x", "SETNX ? x", "GETRANGE ? 0 0", "SETRANGE ? 0 x", "INCR ?", "INCRBY ? 0",
	"HSET ? f x", "HSETNX ? f x", "HGET ? f", "HMGET ? f", "HGETALL ?", "HEXISTS ? f", "HKEYS ?", "HLEN ?", "HINCRBY ? f 1", "HDEL ? f",
	"ZADD ? 0 x", "ZRANGEBYLEX ? - +", "ZREM ? x", "SADD ? x", "SMEMBERS ?", "SREM ? x",
}

// channelCommands are the commands of the feed; see DB.Subscribe.
func (db *DB) channelCommands() []string {
	if db.cluster() != nil {
		return []string{"SPUBLISH ? -", "SSUBSCRIBE ?", "SUBSCRIBE ?"}
	}
	return []string{"PUBLISH ? -", "SUBSCRIBE ?"}
}

// keyPatterns are the keys of the gateway.
var keyPatterns = []string{
	KeyPrefix + "a:*", KeyIndex, KeyPrefix + "b:*", KeyPrefix + "c:*", KeyPrefix + "f:*", KeyFeed, KeyGateways,
	KeyPrefix + "i:*", KeyInstallation, KeyPrefix + "k:*", KeyPrefix + "l:*", KeyPrefix + "m:*", KeyPrefix + "n:*",
	KeyPrefix + "q:*", KeyPrefix + "r:*", KeyRekeyed, KeyPrefix + "s:*", KeyPrefix + "t:*", KeyPrefix + "u:*", KeyPrefix + "x:*",
}

// channels are the channels of the gateway.
var channels = []string{ChannelFeed, ChannelNode + "*"}

// optional are the commands and keys that requests can do without. WAIT is not among them
// if it is used; see DB.needs.
var optional = []string{"ZRANGEBYLEX", "SCAN", "SUBSCRIBE", "SSUBSCRIBE", "WAIT", "INFO", KeyGateways, KeyRekeyed}

// permissionsScript asks Redis which commands its user may run, and runs none of them.
// Commands are arrays of words. It answers 1 or 0: for each command, with any of the keys
// and channels; for each key, whether it may be read, then written; for each channel.
var permissionsScript = NewScript(`
if not redis.acl_check_cmd then return {} end
local ask, answer = cjson.decode(ARGV[1]), {}
local function may(commands, names)
	for _, command in ipairs(commands) do
		for _, name in ipairs(names) do
			local words = {}
			for i, word in ipairs(command) do words[i] = word == '?' and name or word end
			if redis.acl_check_cmd(unpack(words)) then return 1 end
		end
	end
	return 0
end
for _, command in ipairs(ask.commands) do answer[#answer + 1] = may({command}, ask.names) end
for _, key in ipairs(ask.keys) do
	answer[#answer + 1] = may(ask.read, {key})
	answer[#answer + 1] = may(ask.write, {key})
end
for _, channel in ipairs(ask.channels) do answer[#answer + 1] = may(ask.channel, {channel}) end
return answer`)

// permissionsQuestion is the argument of permissionsScript.
func permissionsQuestion(channelCommands []string) string {
	words := func(commands ...string) (list [][]string) {
		for _, c := range commands {
			list = append(list, strings.Fields(c))
		}
		return list
	}
	examples := func(patterns []string) (list []string) {
		for _, p := range patterns {
			list = append(list, strings.ReplaceAll(p, "*", "permissions"))
		}
		return list
	}
	keys, told := examples(keyPatterns), examples(channels)
	text, _ := json.Marshal(map[string]any{ // strings alone, so it cannot fail
		"commands": words(slices.Concat(commands, channelCommands)...), "keys": keys, "channels": told, "names": slices.Concat(keys, told),
		"read":    words("GET ?", "HGET ? f", "SMEMBERS ?", "ZRANGEBYLEX ? - +"),
		"write":   words("DEL ?", "HDEL ? f", "SREM ? x", "ZREM ? x"),
		"channel": words(channelCommands...),
	})
	return string(text)
}

// Permissions lists what the gateway needs and its Redis user may not do, by server. Each server
// has its own users.
type Permissions []Lack

// Lack is what the user may not do at one server.
type Lack struct {
	// Server is its host:port; "" for a single server.
	Server   string
	Commands []string
	// Keys and Channels are patterns. " (to read)" or " (to write)" follows one that
	// lacks only that.
	Keys, Channels []string
	// Refusing means that requests cannot be served without what is missing.
	Refusing bool
}

// OK reports whether nothing is missing.
func (p Permissions) OK() bool { return len(p) == 0 }

// Refusing reports whether requests cannot be served without what is missing.
func (p Permissions) Refusing() bool {
	return slices.ContainsFunc(p, func(l Lack) bool { return l.Refusing })
}

// String lists what is missing, and where.
func (p Permissions) String() string {
	var parts []string
	for _, s := range sayings(p, func(l Lack) (string, string) { return l.Server, l.String() }) {
		if s.servers != "" {
			s.what += " at " + s.servers
		}
		parts = append(parts, s.what)
	}
	return strings.Join(parts, "; ")
}

// String lists what is missing.
func (p Lack) String() string {
	var parts []string
	for _, of := range []struct {
		what string
		list []string
	}{{"command", p.Commands}, {"key", p.Keys}, {"channel", p.Channels}} {
		switch {
		case len(of.list) == 0:
		case len(of.list) == 1 && !strings.Contains(of.list[0], "*"):
			parts = append(parts, "the "+of.what+" "+of.list[0])
		default:
			parts = append(parts, "the "+of.what+"s "+strings.Join(of.list, ", "))
		}
	}
	return strings.Join(parts, " and ")
}

// Permissions asks Redis what its user may not do. Redis before version 7 cannot tell; then
// nothing is missing. The error is ErrUnavailable.
func (db *DB) Permissions(ctx context.Context) (Permissions, error) {
	var mu sync.Mutex
	var all Permissions
	err := db.onPrimaries(ctx, func(ctx context.Context, c redis.Cmdable) error {
		l, err := db.permissionsAt(ctx, c)
		if l.Server = db.nameOf(c); l.String() != "" {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, l)
		}
		return err
	})
	if err != nil {
		return nil, failure.Unavailable("asking what the user may do", err)
	}
	slices.SortFunc(all, func(x, y Lack) int { return strings.Compare(x.Server, y.Server) })
	return all, nil
}

func (db *DB) permissionsAt(ctx context.Context, c redis.Cmdable) (p Lack, err error) {
	channelCommands := db.channelCommands()
	answers, err := permissionsScript.Run(ctx, c, nil, permissionsQuestion(channelCommands)).BoolSlice()
	if err != nil {
		for _, command := range []string{"EVALSHA", "EVAL"} { // the script itself needs these
			if redis.HasErrorPrefix(err, "NOPERM") && strings.Contains(err.Error(), "'"+strings.ToLower(command)+"'") {
				return Lack{Commands: []string{command}, Refusing: true}, nil
			}
		}
		return Lack{}, err
	}
	if len(answers) == 0 {
		return Lack{}, nil
	}
	next := func() (permitted bool) {
		permitted, answers = answers[0], answers[1:]
		return permitted
	}
	for _, c := range slices.Concat(commands, channelCommands) {
		if name, _, _ := strings.Cut(c, " "); !next() {
			p.Commands = append(p.Commands, name)
			p.Refusing = p.Refusing || db.needs(name)
		}
	}
	for _, pattern := range keyPatterns {
		read, written := next(), next()
		if read && written {
			continue
		}
		p.Refusing = p.Refusing || db.needs(pattern)
		if read {
			pattern += " (to write)"
		} else if written {
			pattern += " (to read)"
		}
		p.Keys = append(p.Keys, pattern)
	}
	for _, channel := range channels {
		if !next() {
			p.Channels, p.Refusing = append(p.Channels, channel), true
		}
	}
	p.shorten(channelCommands)
	return p, nil
}

// needs reports whether requests need a command or a key.
func (db *DB) needs(name string) bool {
	return !slices.Contains(optional, name) || name == "WAIT" && (db.wait > 0 || db.sentinels != nil)
}

// shorten replaces a list of all keys, or all channels, by one pattern. The commands that
// need these are then removed: whether they are permitted cannot be told.
func (p *Lack) shorten(channelCommands []string) {
	drop := func(list []string) {
		p.Commands = slices.DeleteFunc(p.Commands, func(name string) bool {
			return slices.ContainsFunc(list, func(c string) bool { return strings.HasPrefix(c, name+" ?") })
		})
	}
	for _, what := range []string{"", " (to read)", " (to write)"} {
		if !slices.ContainsFunc(keyPatterns, func(pattern string) bool { return !slices.Contains(p.Keys, pattern+what) }) {
			p.Keys = []string{KeyPrefix + "*" + what}
			drop(commands)
		}
	}
	if len(p.Channels) == len(channels) {
		p.Channels = []string{KeyPrefix + "*"}
		drop(channelCommands)
	}
}

const (
	// permissionsTTL is how long permissions are cached. A refused command ends it at once.
	permissionsTTL = 5 * time.Second
	// lackingTTL is the same while something is missing, so that a fix is noticed soon.
	lackingTTL = time.Second
)

type permissionCache struct {
	mu      sync.Mutex
	known   Permissions
	until   time.Time
	refused atomic.Bool // a command was refused since they were read
}

// Permitted is Permissions, cached for some seconds unless Redis refuses a command.
func (db *DB) Permitted(ctx context.Context) (Permissions, error) {
	c := &db.permissions
	c.mu.Lock()
	defer c.mu.Unlock()
	if refused := c.refused.Swap(false); !refused && time.Now().Before(c.until) {
		return c.known, nil
	}
	p, err := db.Permissions(ctx)
	if err != nil {
		c.until = time.Time{}
		return p, err
	}
	ttl := permissionsTTL
	if !p.OK() {
		ttl = lackingTTL
	}
	c.known, c.until = p, time.Now().Add(ttl)
	return p, nil
}

// Refusing returns ErrUnavailable if the user lacks what requests need.
func (db *DB) Refusing(ctx context.Context) error {
	p, err := db.Permitted(ctx)
	if err != nil || !p.Refusing() {
		return err
	}
	return failure.Unavailable("serving requests", &lackError{permissions: p})
}

// Explained adds what the user lacks to an error with which Redis refused it. The error of
// a script names neither the command nor the key.
func (db *DB) Explained(ctx context.Context, err error) error {
	if !IsForbidden(err) {
		return err
	}
	if p, failed := db.Permissions(ctx); failed == nil && !p.OK() {
		return &lackError{permissions: p, err: err}
	}
	return err
}

// lackError says which permissions are missing.
type lackError struct {
	permissions Permissions
	err         error // what Redis refused; nil if nothing yet
}

func (l *lackError) Error() string { return "NOPERM: the user may not use " + l.permissions.String() }
func (l *lackError) Unwrap() error { return l.err }
