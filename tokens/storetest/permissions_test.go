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

// redisCommands are the commands that the gateway sends, itself or in scripts, besides those of
// the feed.
var redisCommands = strings.Fields(`PING TIME EXISTS GET SET SETNX GETRANGE SETRANGE INCR INCRBY DEL EXPIRE PEXPIRE PEXPIREAT
	PERSIST PTTL HSET HSETNX HGET HMGET HGETALL HEXISTS HKEYS HLEN HINCRBY HDEL ZADD ZRANGEBYLEX ZREM SADD SMEMBERS SREM EVAL EVALSHA
	SCAN MULTI EXEC WAIT INFO`)

// feedCommands are those of the feed, and clusterFeedCommands those in a Cluster. Gateways of
// version 0.1 use SUBSCRIBE in a Cluster.
var (
	feedCommands        = []string{"PUBLISH", "SUBSCRIBE"}
	clusterFeedCommands = []string{"SPUBLISH", "SSUBSCRIBE", "SUBSCRIBE"}
)

// redisKeys are the keys of the gateway, as in docs/redis.md.
var redisKeys = strings.Fields(`mg1:a:* mg1:apps mg1:b:* mg1:c:* mg1:f:* mg1:feed mg1:gateways mg1:i:* mg1:inst mg1:k:* mg1:l:* mg1:m:*
	mg1:n:* mg1:q:* mg1:r:* mg1:rekeyed mg1:s:* mg1:t:* mg1:u:* mg1:x:*`)

// optional are the commands and keys that requests do not need.
var optional = map[string]bool{"ZRANGEBYLEX": true, "SCAN": true, "SUBSCRIBE": true, "SSUBSCRIBE": true, "WAIT": true, "INFO": true, "mg1:gateways": true, "mg1:rekeyed": true}

// Ready and the status name each permission that a Redis user lacks. The gateway is not
// ready if requests need it.
func TestReady_EachPermission(t *testing.T) {
	lacks := lackingChannels()
	for _, c := range append(redisCommands, feedCommands...) {
		lacks[c] = lackingCommand(c)
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
	server := redistest.Standalone(t)
	requireNamed(t, lacks, tokens.RedisOptions{Addresses: []string{server.Addr()}}, server)
}

// A Cluster needs other permissions for the feed.
func TestReady_EachPermissionOfAClusterFeed(t *testing.T) {
	lacks := lackingChannels()
	for _, c := range clusterFeedCommands {
		lacks[c] = lackingCommand(c)
	}
	cluster := redistest.Cluster(t)
	requireNamed(t, lacks, tokens.RedisOptions{Addresses: cluster.Addrs(), Cluster: true}, cluster.Nodes...)
}

func lackingCommand(name string) []any {
	return []any{"~mg1:*", "&mg1:*", "+@all", "-" + strings.ToLower(name)}
}

func lackingChannels() map[string][]any {
	return map[string][]any{
		"the channel mg1:feed":               {"~mg1:*", "&mg1:node:*", "+@all"},
		"the channels mg1:node:{mg1:feed}:*": {"~mg1:*", "&mg1:feed", "+@all"},
		"the channels mg1:*":                 {"~mg1:*", "+@all"},
	}
}

// requireNamed requires that the gateway names what a user lacks, and nothing else. lacks are the
// rules of each user.
func requireNamed(t *testing.T, lacks map[string][]any, o tokens.RedisOptions, servers ...*redistest.Server) {
	t.Helper()
	acl := func(t *testing.T, rules ...any) {
		t.Helper()
		for _, s := range servers {
			require.NoError(t, s.Client().Do(t.Context(), append([]any{"ACL", "SETUSER"}, rules...)...).Err())
		}
	}
	for name, rules := range lacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, user := o, "without-"+strings.ReplaceAll(name, " ", "-")
			acl(t, append([]any{user, "reset", "on", ">right"}, rules...)...)
			o.Username, o.Password, o.Timeout = user, "right", 10*time.Second
			s, err := tokens.OpenRedis(o)
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
			require.Regexp(t, `may not use the [^,;]*( at 127[^;(]*)?(;| \(docs)`, problem, "nothing else is missing")
			acl(t, user, "~mg1:*", "&mg1:*", "+@all")
			Eventually(t, "the gateway is ready", func() bool { return a.Ready(t.Context()) == nil })
		})
	}
}

// The gateway sends only commands from the lists above. A new command must be added to the
// permissions that it checks.
func TestReady_ChecksAllCommands(t *testing.T) {
	server := redistest.Standalone(t)
	runSuite(t, opener(tokens.RedisOptions{URL: server.URL()}))
	require.Subset(t, []string{"HELLO", "AUTH", "CLIENT|SETINFO", "SELECT", "CONFIG|SET"}, unlisted(t, feedCommands, server))
}

// unlisted are the commands that servers have counted and that are neither in redisCommands nor in
// feed.
func unlisted(t *testing.T, feed []string, servers ...*redistest.Server) (list []string) {
	t.Helper()
	for _, s := range servers {
		stats, err := s.Client().Info(t.Context(), "commandstats").Result()
		require.NoError(t, err)
		for line := range strings.Lines(stats) {
			name, ok := strings.CutPrefix(line, "cmdstat_")
			name, _, _ = strings.Cut(name, ":")
			if name = strings.ToUpper(name); ok && !slices.Contains(redisCommands, name) && !slices.Contains(feed, name) {
				list = append(list, name)
			}
		}
	}
	return list
}
