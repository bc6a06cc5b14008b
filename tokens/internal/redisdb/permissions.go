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

const (
	// permissionsLife is how long what the user may do is taken to be known. A command
	// that is refused ends it at once.
	permissionsLife = 5 * time.Second
	// lackingLife is the same while something is missing, so that it is soon noticed
	// that it was permitted.
	lackingLife = time.Second
)

// need is a command that the gateway sends, by itself or in a script. A question mark
// among its arguments stands for a key or a channel.
type need struct {
	command string
	// spare tells that requests are served without it.
	spare bool
}

// needs are all commands that the gateway sends; a test compares them with what a
// server has counted. docs/redis.md has the line that permits them.
var needs = []need{
	{"PING", false},
	{"TIME", false},
	{"EXISTS ?", false},
	{"GET ?", false},
	{"SET ? x", false},
	{"SETNX ? x", false},
	{"GETRANGE ? 0 0", false},
	{"SETRANGE ? 0 x", false},
	{"INCR ?", false},
	{"INCRBY ? 0", false},
	{"DEL ?", false},
	{"EXPIRE ? 1", false},
	{"PEXPIRE ? 1", false},
	{"PEXPIREAT ? 1", false},
	{"PERSIST ?", false},
	{"PTTL ?", false},
	{"HSET ? f x", false},
	{"HSETNX ? f x", false},
	{"HGET ? f", false},
	{"HMGET ? f", false},
	{"HGETALL ?", false},
	{"HEXISTS ? f", false},
	{"HKEYS ?", false},
	{"HLEN ?", false},
	{"HINCRBY ? f 1", false},
	{"HDEL ? f", false},
	{"ZADD ? 0 x", false},
	{"ZRANGEBYLEX ? - +", true},
	{"ZREM ? x", false},
	{"SADD ? x", false},
	{"SMEMBERS ?", false},
	{"SREM ? x", false},
	{"MULTI", false},
	{"EXEC", false},
	{"EVAL return 0", false},
	{"EVALSHA ffffffffffffffffffffffffffffffffffffffff 0", false},
	{"SCAN 0", true},
	{"PUBLISH ? -", false},
	{"SUBSCRIBE ?", true},
	{"WAIT 0 1", true}, // but see Options.WaitReplicas
	{"INFO server", true},
}

type keyPattern struct {
	name string
	// spare tells that requests are served without it.
	spare bool
}

// patterns are the keys of the gateway, by what their names begin with, or whole.
var patterns = []keyPattern{
	{KeyPrefix + "a:*", false},
	{KeyPrefix + "apps", false},
	{KeyPrefix + "b:*", false},
	{KeyPrefix + "c:*", false},
	{KeyPrefix + "f:*", false},
	{KeyPrefix + "feed", false},
	{KeyPrefix + "gateways", true},
	{KeyPrefix + "i:*", false},
	{KeyPrefix + "inst", false},
	{KeyPrefix + "k:*", false},
	{KeyPrefix + "l:*", false},
	{KeyPrefix + "m:*", false},
	{KeyPrefix + "n:*", false},
	{KeyPrefix + "q:*", false},
	{KeyPrefix + "r:*", false},
	{KeyPrefix + "rekeyed", true},
	{KeyPrefix + "s:*", false},
	{KeyPrefix + "t:*", false},
	{KeyPrefix + "u:*", false},
	{KeyPrefix + "x:*", false},
}

// channels are those of the gateway.
var channels = []string{ChannelFeed, ChannelNode + "*"}

// mayScript asks Redis what its user may do, of commands that are given as arrays of
// words, and sends none of them. It answers 1 or 0: for each command, with whatever key
// or channel; for each key, whether it may be read, and written; for each channel.
var mayScript = NewScript(`
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
	answer[#answer + 1] = may(ask.reading, {key})
	answer[#answer + 1] = may(ask.writing, {key})
end
for _, channel in ipairs(ask.channels) do answer[#answer + 1] = may(ask.telling, {channel}) end
return answer`)

// mayQuestions are the argument of mayScript.
var mayQuestions = sync.OnceValue(func() string {
	words := func(commands ...string) (list [][]string) {
		for _, c := range commands {
			list = append(list, strings.Fields(c))
		}
		return list
	}
	var commands, keys, told []string
	for _, n := range needs {
		commands = append(commands, n.command)
	}
	for _, p := range patterns {
		keys = append(keys, example(p.name))
	}
	for _, c := range channels {
		told = append(told, example(c))
	}
	text, _ := json.Marshal(map[string]any{ // texts alone
		"commands": words(commands...), "keys": keys, "channels": told, "names": slices.Concat(keys, told),
		"reading": words("GET ?", "HGET ? f", "SMEMBERS ?", "ZRANGEBYLEX ? - +"),
		"writing": words("DEL ?", "HDEL ? f", "SREM ? x", "ZREM ? x"),
		"telling": words("PUBLISH ? x", "SUBSCRIBE ?"),
	})
	return string(text)
})

// example is a name that a pattern matches.
func example(pattern string) string { return strings.ReplaceAll(pattern, "*", "permissions") }

// Permissions is what the Redis user may not do.
type Permissions struct {
	// Commands that it may not run.
	Commands []string
	// Keys and Channels that it may not use, as patterns.
	Keys, Channels []string
	// Refusing tells that requests cannot be served without what is missing.
	Refusing bool
}

// OK reports whether nothing is missing.
func (p Permissions) OK() bool {
	return len(p.Commands) == 0 && len(p.Keys) == 0 && len(p.Channels) == 0
}

// String says what is missing.
func (p Permissions) String() string {
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

// Permissions asks Redis what of what the gateway needs its user may not do. Nothing
// is missing of which Redis does not tell: before version 7 it cannot. The error is
// ErrUnavailable.
func (s *DB) Permissions(ctx context.Context) (Permissions, error) {
	var mu sync.Mutex
	var all Permissions
	ask := func(ctx context.Context, c *redis.Client) error {
		p, err := s.permissionsAt(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		all.add(p)
		return err
	}
	var err error
	switch c := s.rdb.(type) {
	case *redis.ClusterClient: // each server has users of its own
		err = c.ForEachMaster(ctx, ask)
	case *redis.Client:
		err = ask(ctx, c)
	}
	if err != nil {
		return Permissions{}, failure.Unavailable("asking what the user may do", err)
	}
	return all, nil
}

func (s *DB) permissionsAt(ctx context.Context, c *redis.Client) (Permissions, error) {
	answers, err := mayScript.Run(ctx, c, nil, mayQuestions()).BoolSlice()
	if err != nil {
		for _, command := range []string{"evalsha", "eval"} { // without these it cannot be asked
			if redis.HasErrorPrefix(err, "NOPERM") && strings.Contains(err.Error(), "'"+command+"'") {
				return Permissions{Commands: []string{strings.ToUpper(command)}, Refusing: true}, nil
			}
		}
		return Permissions{}, err
	}
	if len(answers) == 0 {
		return Permissions{}, nil
	}
	var p Permissions
	next := func() (yes bool) {
		yes, answers = answers[0], answers[1:]
		return yes
	}
	for _, n := range needs {
		if !next() {
			name, _, _ := strings.Cut(n.command, " ")
			p.Commands = append(p.Commands, name)
			p.Refusing = p.Refusing || !n.spare || name == "WAIT" && (s.wait > 0 || s.sentinels != nil)
		}
	}
	for _, pattern := range patterns {
		switch read, written := next(), next(); {
		case read && written:
			continue
		case read:
			p.Keys = append(p.Keys, pattern.name+" (to write)")
		case written:
			p.Keys = append(p.Keys, pattern.name+" (to read)")
		default:
			p.Keys = append(p.Keys, pattern.name)
		}
		p.Refusing = p.Refusing || !pattern.spare
	}
	for _, channel := range channels {
		if !next() {
			p.Channels, p.Refusing = append(p.Channels, channel), true
		}
	}
	p.shorten()
	return p, nil
}

// shorten names what is missing of all keys, or all channels, once. Whether commands
// that need these are permitted cannot be told then.
func (p *Permissions) shorten() {
	told := []string{"PUBLISH", "SUBSCRIBE"}
	keyed := func(name string) bool {
		return !slices.Contains(told, name) && slices.ContainsFunc(needs, func(n need) bool { return strings.HasPrefix(n.command, name+" ?") })
	}
	for _, what := range []string{"", " (to read)", " (to write)"} {
		if !slices.ContainsFunc(patterns, func(k keyPattern) bool { return !slices.Contains(p.Keys, k.name+what) }) {
			p.Keys = []string{KeyPrefix + "*" + what}
			p.Commands = slices.DeleteFunc(p.Commands, keyed)
		}
	}
	if len(p.Channels) == len(channels) {
		p.Channels = []string{KeyPrefix + "*"}
		p.Commands = slices.DeleteFunc(p.Commands, func(name string) bool { return slices.Contains(told, name) })
	}
}

// add adds what is missing at another server.
func (p *Permissions) add(o Permissions) {
	union := func(to *[]string, from []string) {
		for _, name := range from {
			if !slices.Contains(*to, name) {
				*to = append(*to, name)
			}
		}
	}
	union(&p.Commands, o.Commands)
	union(&p.Keys, o.Keys)
	union(&p.Channels, o.Channels)
	p.Refusing = p.Refusing || o.Refusing
}

// permitted is what is known of the permissions.
type permitted struct {
	mu      sync.Mutex
	known   Permissions
	until   time.Time
	refused atomic.Bool // a command was, since they were found out
}

// Permitted is Permissions, found out anew when a command was refused, and every few
// seconds.
func (s *DB) Permitted(ctx context.Context) (Permissions, error) {
	s.permitted.mu.Lock()
	defer s.permitted.mu.Unlock()
	if refused := s.permitted.refused.Swap(false); !refused && time.Now().Before(s.permitted.until) {
		return s.permitted.known, nil
	}
	p, err := s.Permissions(ctx)
	if err != nil {
		s.permitted.until = time.Time{}
		return p, err
	}
	life := permissionsLife
	if !p.OK() {
		life = lackingLife
	}
	s.permitted.known, s.permitted.until = p, time.Now().Add(life)
	return p, nil
}

// Refusing returns an error if the user lacks what requests need. It is ErrUnavailable.
func (s *DB) Refusing(ctx context.Context) error {
	p, err := s.Permitted(ctx)
	if err != nil || !p.Refusing {
		return err
	}
	return failure.Unavailable("serving requests", &lacking{permissions: p})
}

// lacking is a failure for want of permissions, with what is missing.
type lacking struct {
	permissions Permissions
	err         error // what was refused; nil if nothing was yet
}

func (l *lacking) Error() string { return "NOPERM: the user may not use " + l.permissions.String() }
func (l *lacking) Unwrap() error { return l.err }
