// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// probe is one command that the gateway needs, made harmless: it touches a key of
// its own that ends within seconds.
type probe struct {
	name string
	run  func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder
}

// probes are the commands that the gateway uses, one of each kind that an ACL may
// forbid. docs/redis.md has the line that permits all of them.
var probes = []probe{
	{"PING", func(ctx context.Context, c redis.Pipeliner, _ string) redis.Cmder { return c.Ping(ctx) }},
	{"TIME", func(ctx context.Context, c redis.Pipeliner, _ string) redis.Cmder { return c.Time(ctx) }},
	{"GET", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder { return c.Get(ctx, key) }},
	{"SET", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder {
		return c.Set(ctx, key, "x", probeLife)
	}},
	{"SETRANGE", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder {
		return c.SetRange(ctx, key, 0, "y")
	}},
	{"GETRANGE", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder {
		return c.GetRange(ctx, key, 0, 0)
	}},
	{"PEXPIRE", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder {
		return c.PExpire(ctx, key, probeLife)
	}},
	{"PEXPIREAT", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder {
		return c.PExpireAt(ctx, key, time.Now().Add(probeLife))
	}},
	{"DEL", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder { return c.Del(ctx, key) }},
	{"HSET", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder {
		return c.HSet(ctx, key, "f", "x")
	}},
	{"HGET", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder { return c.HGet(ctx, key, "f") }},
	{"HMGET", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder { return c.HMGet(ctx, key, "f") }},
	{"HGETALL", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder { return c.HGetAll(ctx, key) }},
	{"HDEL", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder { return c.HDel(ctx, key, "f") }},
	{"ZADD", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder {
		return c.ZAdd(ctx, key, redis.Z{Member: "x"})
	}},
	{"ZRANGE", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder {
		return c.ZRangeArgs(ctx, redis.ZRangeArgs{Key: key, ByLex: true, Start: "-", Stop: "+", Count: 1})
	}},
	{"ZREM", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder { return c.ZRem(ctx, key, "x") }},
	{"SADD", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder { return c.SAdd(ctx, key, "x") }},
	{"SMEMBERS", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder { return c.SMembers(ctx, key) }},
	{"SREM", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder { return c.SRem(ctx, key, "x") }},
	{"EVAL", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder {
		return c.Eval(ctx, "return 1", []string{key})
	}},
	{"EVALSHA", func(ctx context.Context, c redis.Pipeliner, key string) redis.Cmder {
		return c.EvalSha(ctx, "ffffffffffffffffffffffffffffffffffffffff", []string{key})
	}},
	{"SCAN", func(ctx context.Context, c redis.Pipeliner, _ string) redis.Cmder {
		return c.Scan(ctx, 0, KeyPrefix+"probe:*", 1)
	}},
	{"PUBLISH", func(ctx context.Context, c redis.Pipeliner, _ string) redis.Cmder {
		return c.Publish(ctx, ChannelNode+"probe", "-")
	}},
	{"WAIT", func(ctx context.Context, c redis.Pipeliner, _ string) redis.Cmder { return c.Do(ctx, "WAIT", 0, 1) }},
	{"INFO", func(ctx context.Context, c redis.Pipeliner, _ string) redis.Cmder { return c.Info(ctx, "server") }},
}

// probeLife is when a probe's key ends that was not removed.
const probeLife = 5 * time.Second

// Permissions is what the Redis user may not do.
type Permissions struct {
	// Commands that it may not run.
	Commands []string
	// Keys and Channels tell that it may not use those that begin with mg1:.
	Keys, Channels bool
}

// OK reports whether nothing is missing.
func (p Permissions) OK() bool { return len(p.Commands) == 0 && !p.Keys && !p.Channels }

// String says what is missing, and how to permit it.
func (p Permissions) String() string {
	var parts []string
	if len(p.Commands) > 0 {
		parts = append(parts, "the commands "+strings.Join(p.Commands, ", "))
	}
	if p.Keys {
		parts = append(parts, "the keys mg1:*")
	}
	if p.Channels {
		parts = append(parts, "the channels mg1:*")
	}
	return strings.Join(parts, " and ")
}

// Permissions tries every command that the gateway needs, one by one, and returns
// those that Redis refuses to this user. The error is ErrUnavailable.
func (s *DB) Permissions(ctx context.Context) (Permissions, error) {
	var p Permissions
	key := KeyPrefix + "probe:" + vault.RandomID(12)
	// All of them in one go: Redis answers each for itself.
	pipe := s.rdb.Pipeline()
	answers := make([]redis.Cmder, 0, len(probes))
	for _, probe := range probes {
		answers = append(answers, probe.run(ctx, pipe, key))
		// What one probe left is of another type than the next one expects.
		if probe.name == "DEL" || probe.name == "HDEL" || probe.name == "ZREM" || probe.name == "SREM" {
			pipe.Del(ctx, key) // it ends by itself
		}
	}
	_, _ = pipe.Exec(ctx) // the answers have it
	for i, answer := range answers {
		if err := p.note(probes[i].name, answer.Err()); err != nil {
			return p, err
		}
	}
	ps := s.rdb.Subscribe(ctx, ChannelNode+"probe")
	defer func() { _ = ps.Close() }()
	_, err := ps.ReceiveTimeout(ctx, s.Timeout())
	return p, p.note("SUBSCRIBE", err)
}

// note takes down what Redis answered to a command. Only that it did not answer is
// an error: other answers (a wrong type, an unknown script) show that it may be run.
func (p *Permissions) note(command string, err error) error {
	answer, refused := errors.AsType[redis.Error](err)
	if err != nil && !refused && !errors.Is(err, redis.Nil) {
		return failure.Unavailable("trying "+command, err)
	}
	if !refused || !IsForbidden(err) {
		return nil
	}
	text := answer.Error()
	switch {
	case redis.HasErrorPrefix(err, "WRONGPASS"), redis.HasErrorPrefix(err, "NOAUTH"):
		return failure.Unavailable("trying "+command, err)
	case strings.Contains(text, "channel"):
		p.Channels = true
	case strings.Contains(text, "key"):
		p.Keys = true
	case !slices.Contains(p.Commands, command):
		p.Commands = append(p.Commands, command)
	}
	return nil
}

// lacking is a failure for want of permissions, with what is missing.
type lacking struct {
	permissions Permissions
	err         error
}

func (l *lacking) Error() string { return "NOPERM: the user may not use " + l.permissions.String() }
func (l *lacking) Unwrap() error { return l.err }
