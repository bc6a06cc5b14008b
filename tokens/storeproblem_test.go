// SPDX-License-Identifier: MIT

package tokens_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// A Redis user that may not do what the gateway needs is told what it lacks.
func TestStoreProblem_RedisUser(t *testing.T) {
	server := redistest.Standalone(t)
	for name, tc := range map[string]struct {
		rules    []any
		password string
		ready    bool // requests are served, although the feed is not heard
		want     string
	}{
		"wrong password":      {[]any{"~mg1:*", "&mg1:*", "+@all"}, "wrong", false, "WRONGPASS"},
		"no scripting":        {[]any{"~mg1:*", "&mg1:*", "+@all", "-@scripting"}, "right", false, "EVAL"},
		"no subscribing":      {[]any{"~mg1:*", "&mg1:*", "+@all", "-subscribe", "-ssubscribe", "-psubscribe"}, "right", true, "SUBSCRIBE"},
		"no publishing":       {[]any{"~mg1:*", "&mg1:*", "+@all", "-publish"}, "right", false, "PUBLISH"},
		"another key pattern": {[]any{"~mg2:*", "&mg1:*", "+@all"}, "right", false, "key"},
		"another channel":     {[]any{"~mg1:*", "&mg2:*", "+@all"}, "right", false, "channel"},
		"read only":           {[]any{"%R~mg1:*", "&mg1:*", "+@all"}, "right", false, "key"},
		"switched off":        {[]any{"off", "~mg1:*", "&mg1:*", "+@all"}, "right", false, "WRONGPASS"},
	} {
		t.Run(name, func(t *testing.T) {
			command := append([]any{"ACL", "SETUSER", "limited", "reset", "on", ">right"}, tc.rules...)
			require.NoError(t, server.Client().Do(t.Context(), command...).Err())
			s, err := tokens.OpenRedis(tokens.RedisOptions{Addresses: []string{server.Addr()}, Username: "limited", Password: tc.password})
			require.NoError(t, err)
			a, err := tokens.New(tokens.Options{Store: s, Secrets: [][]byte{storetest.Secret}})
			require.NoError(t, err)
			a.Start()
			t.Cleanup(func() {
				require.NoError(t, a.Close())
				require.NoError(t, s.Close())
			})
			storetest.Eventually(t, "the cause is known", func() bool {
				if tc.ready {
					return a.FeedProblem(t.Context()) != ""
				}
				return a.Ready(t.Context()) != nil
			})
			problem := tokens.StoreProblem(a.Ready(t.Context()))
			t.Log(problem, "|", a.FeedProblem(t.Context()))
			if tc.ready {
				require.Empty(t, problem)
				problem = a.FeedProblem(t.Context())
			}
			require.Contains(t, problem, tc.want)
			require.NotContains(t, problem, "right")
		})
	}
}

// redisCommands are those that the gateway sends, by itself or in scripts.
var redisCommands = strings.Fields(`PING TIME EXISTS GET SET SETNX GETRANGE SETRANGE INCR INCRBY DEL EXPIRE PEXPIRE PEXPIREAT
	PERSIST PTTL HSET HSETNX HGET HMGET HGETALL HEXISTS HKEYS HLEN HINCRBY HDEL ZADD ZRANGEBYLEX ZREM SADD SMEMBERS SREM EVAL EVALSHA
	SCAN MULTI EXEC PUBLISH SUBSCRIBE WAIT INFO`)

// redisKeys are its keys, as in docs/redis.md.
var redisKeys = strings.Fields(`mg1:a:* mg1:apps mg1:b:* mg1:c:* mg1:f:* mg1:feed mg1:gateways mg1:i:* mg1:inst mg1:k:* mg1:l:* mg1:m:*
	mg1:n:* mg1:q:* mg1:r:* mg1:rekeyed mg1:s:* mg1:t:* mg1:u:* mg1:x:*`)

// spare are those without which requests are served.
var spare = map[string]bool{"ZRANGEBYLEX": true, "SCAN": true, "SUBSCRIBE": true, "WAIT": true, "INFO": true, "mg1:gateways": true, "mg1:rekeyed": true}

// Whatever single permission a Redis user lacks, it is named, and the gateway is not
// ready if requests need it.
func TestReady_EachPermission(t *testing.T) {
	server := redistest.Standalone(t)
	lacks := map[string][]any{}
	for _, c := range redisCommands {
		lacks[c] = []any{"~mg1:*", "&mg1:*", "+@all", "-" + strings.ToLower(c)}
	}
	for _, k := range redisKeys {
		lacks[k] = []any{"&mg1:*", "+@all"}
		for _, other := range redisKeys {
			if other != k {
				lacks[k] = append(lacks[k], "~"+other)
			}
		}
	}
	lacks["mg1:t:* (to write)"] = []any{"%R~mg1:*", "~mg1:[^t]*", "&mg1:*", "+@all"}
	lacks["mg1:u:* (to read)"] = []any{"%W~mg1:*", "~mg1:[^u]*", "&mg1:*", "+@all"}
	lacks["the keys mg1:*"] = []any{"~other:*", "&mg1:*", "+@all"}
	lacks["the channel mg1:feed"] = []any{"~mg1:*", "&mg1:node:*", "+@all"}
	lacks["the channels mg1:node:*"] = []any{"~mg1:*", "&mg1:feed", "+@all"}
	lacks["the channels mg1:*"] = []any{"~mg1:*", "+@all"}
	for name, rules := range lacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := "without-" + strings.ReplaceAll(name, " ", "-")
			require.NoError(t, server.Client().Do(t.Context(), append([]any{"ACL", "SETUSER", user, "reset", "on", ">right"}, rules...)...).Err())
			s, err := tokens.OpenRedis(tokens.RedisOptions{Addresses: []string{server.Addr()}, Username: user, Password: "right", Timeout: 10 * time.Second})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			a, err := tokens.New(tokens.Options{Store: s, Secrets: [][]byte{storetest.Secret}})
			require.NoError(t, err)
			problem := tokens.StoreProblem(a.Ready(t.Context()))
			if spare[name] {
				require.Empty(t, problem)
				require.Contains(t, strings.Join(a.Status(t.Context()).Store.Warnings, " "), "NOPERM: the Redis user may not use the ")
				problem = strings.Join(a.Status(t.Context()).Store.Warnings, " ")
			} else {
				require.Equal(t, "refused", a.Health(t.Context()).Problem)
				require.Contains(t, problem, "NOPERM: the user may not use the ")
			}
			require.Contains(t, problem, name)
			require.Regexp(t, `may not use the [^,;]*(;| \(docs)`, problem, "nothing else is missing")
			require.NoError(t, server.Client().Do(t.Context(), "ACL", "SETUSER", user, "~mg1:*", "&mg1:*", "+@all").Err())
			storetest.Eventually(t, "it is permitted", func() bool { return a.Ready(t.Context()) == nil })
		})
	}
}

// What a server has counted are the commands of the list above: of one that is new it
// must be asked whether it is permitted.
func TestReady_AllCommandsAreKnown(t *testing.T) {
	server := redistest.Standalone(t)
	open := func(t *testing.T) *tokens.Store {
		s, err := tokens.OpenRedis(tokens.RedisOptions{Addresses: []string{server.Addr()}, Timeout: 10 * time.Second})
		require.NoError(t, err)
		return s
	}
	storetest.Run(t, open)
	stats, err := server.Client().Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	var unknown []string
	for line := range strings.Lines(stats) {
		name, ok := strings.CutPrefix(line, "cmdstat_")
		name, _, _ = strings.Cut(name, ":")
		if name = strings.ToUpper(name); ok && !slices.Contains(redisCommands, name) {
			unknown = append(unknown, name)
		}
	}
	require.Subset(t, []string{"HELLO", "AUTH", "CLIENT|SETINFO", "SELECT", "CONFIG|SET"}, unknown)
}

// Settings of Redis that lose state are warned of, each by its line.
func TestStatus_StoreWarnings(t *testing.T) {
	server := redistest.Standalone(t)
	a := storetest.Node(t, func(t *testing.T) *tokens.Store {
		s, err := tokens.OpenRedis(tokens.RedisOptions{URL: server.URL()})
		require.NoError(t, err)
		return s
	})
	set := func(name, value string) {
		require.NoError(t, server.Client().ConfigSet(t.Context(), name, value).Err())
	}
	set("appendonly", "no")
	set("maxmemory-policy", "allkeys-lru")
	warnings := a.Status(t.Context()).Store.Warnings
	require.Len(t, warnings, 2)
	require.Contains(t, warnings[0], "`appendonly yes`")
	require.Contains(t, warnings[1], "allkeys-lru")
	require.Contains(t, warnings[1], "`maxmemory-policy noeviction`")
	set("appendonly", "yes")
	require.Len(t, a.Status(t.Context()).Store.Warnings, 1)
	set("maxmemory-policy", "noeviction")
	require.Empty(t, a.Status(t.Context()).Store.Warnings)
}
