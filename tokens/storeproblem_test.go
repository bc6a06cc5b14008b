// SPDX-License-Identifier: MIT

package tokens_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// The report of a Redis user without the needed permissions names what it lacks.
func TestStoreProblem_RedisUser(t *testing.T) {
	server := redistest.Standalone(t)
	for name, tc := range map[string]struct {
		rules    []any
		password string
		ready    bool // requests are served, although the feed does not work
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
			storetest.Eventually(t, "the problem is reported", func() bool {
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

// Each Redis setting that loses state gives a warning with its line.
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
