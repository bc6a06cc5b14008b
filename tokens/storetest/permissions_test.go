// SPDX-License-Identifier: MIT

package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// redisCommands are the commands that the gateway sends, itself or in scripts.
var redisCommands = strings.Fields(`PING TIME EXISTS GET SET SETNX GETRANGE SETRANGE INCR INCRBY DEL EXPIRE PEXPIRE PEXPIREAT
	PERSIST PTTL HSET HSETNX HGET HMGET HGETALL HEXISTS HKEYS HLEN HINCRBY HDEL ZADD ZRANGEBYLEX ZREM SADD SMEMBERS SREM EVAL EVALSHA
	SCAN MULTI EXEC PUBLISH SUBSCRIBE WAIT INFO`)

// redisKeys are the keys of the gateway, as in docs/redis.md.
var redisKeys = strings.Fields(`mg1:a:* mg1:apps mg1:b:* mg1:c:* mg1:f:* mg1:feed mg1:gateways mg1:i:* mg1:inst mg1:k:* mg1:l:* mg1:m:*
	mg1:n:* mg1:q:* mg1:r:* mg1:rekeyed mg1:s:* mg1:t:* mg1:u:* mg1:x:*`)

// optional are the commands and keys that requests do not need.
var optional = map[string]bool{"ZRANGEBYLEX": true, "SCAN": true, "SUBSCRIBE": true, "WAIT": true, "INFO": true, "mg1:gateways": true, "mg1:rekeyed": true}

// Ready and the status name each permission that a Redis user lacks. The gateway is not
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
			a, err := tokens.New(tokens.Options{Store: s, Secrets: [][]byte{Secret}})
			require.NoError(t, err)
			problem := tokens.StoreProblem(a.Ready(t.Context()))
			if optional[name] {
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
			Eventually(t, "the gateway is ready", func() bool { return a.Ready(t.Context()) == nil })
		})
	}
}

// The gateway sends only commands from the list above. A new command must be added to the
// permissions that it checks.
func TestReady_ChecksAllCommands(t *testing.T) {
	server := redistest.Standalone(t)
	open := func(t *testing.T) *tokens.Store {
		s, err := tokens.OpenRedis(tokens.RedisOptions{Addresses: []string{server.Addr()}, Timeout: 10 * time.Second})
		require.NoError(t, err)
		return s
	}
	runSuite(t, open)
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
