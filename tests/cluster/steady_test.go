// SPDX-License-Identifier: MIT

package cluster

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// TestSteady_RequestsCostNoRedisCommands: cached tokens are served from memory. Only creating a room
// writes to Redis, the room's slug.
func TestSteady_RequestsCostNoRedisCommands(t *testing.T) {
	t.Parallel()
	redis := redistest.Standalone(t)
	c := startCluster(t, settings{
		store:     func(int) string { return "store redis " + redis.URL() + " {\ntimeout 5s\n}" },
		staleness: time.Minute, // so that heartbeats are rare, and the feed stays fresh on a busy machine
	})
	app := c.nodes[0].addApplication(t, "")
	var known []string
	for i := range 10 {
		token := app.mustMint(t, c.nodes[0], fmt.Sprintf("steady-%d@example.org", i))
		known = append(known, token)
	}
	for _, g := range c.nodes {
		for _, token := range known {
			// Reads before the feed is fresh are not cached.
			eventually(t, "the token to be served from memory", func() bool {
				before := commands(t, redis)
				require.Equal(t, 200, g.rooms(t, token))
				return len(without(commands(t, redis), before)) == 0
			})
		}
	}

	before, created := commands(t, redis), 0
	for i := range 1000 {
		g, token := c.nodes[i%gateways], known[i%len(known)]
		if i%10 == 0 {
			a, err := g.create(token, fmt.Sprintf("steady-%d", i))
			require.NoError(t, err)
			require.Equal(t, http.StatusCreated, a.Status)
			created++
			continue
		}
		require.Equal(t, http.StatusOK, g.rooms(t, token))
	}
	made := without(commands(t, redis), before)
	require.LessOrEqual(t, made["set"], created)
	delete(made, "set")
	for command, times := range made {
		// Heartbeats and the list of gateways take a few commands a minute. A command caused by
		// requests would be counted once for each.
		require.Less(t, times, created, "requests cause %s: %v", command, made)
	}
}

// commands returns the number of calls of each command, including those in scripts.
func commands(t testing.TB, s *redistest.Server) map[string]int {
	t.Helper()
	info, err := s.Client().Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	calls := map[string]int{}
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok || name == "info" {
			continue
		}
		text, _, _ := strings.Cut(rest, ",")
		calls[name], err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	return calls
}

// without returns the calls between two counts.
func without(after, before map[string]int) map[string]int {
	made := map[string]int{}
	for name, n := range after {
		if n -= before[name]; n > 0 {
			made[name] = n
		}
	}
	return made
}

// BenchmarkRevocationLag measures the time from sending a revocation to one gateway until another
// one refuses the token.
func BenchmarkRevocationLag(b *testing.B) {
	redis := redistest.Standalone(b)
	c := startCluster(b, settings{store: func(int) string { return "store redis " + redis.URL() }, staleness: 5 * time.Second})
	app := c.nodes[0].addApplication(b, "")
	var lags []time.Duration
	for i := 0; b.Loop(); i++ {
		token := app.mustMint(b, c.nodes[0], "lag@example.org")
		other := c.nodes[1+i%2]
		require.Equal(b, 200, other.rooms(b, token))
		sent := time.Now()
		revoked := make(chan *gatewaytest.Answer, 1)
		go func() {
			a, _ := app.revoke(c.nodes[0], token)
			revoked <- a
		}()
		for other.takes(b, token) {
		}
		lags = append(lags, time.Since(sent))
		require.Equal(b, 200, (<-revoked).Status)
	}
	slices.Sort(lags)
	b.ReportMetric(float64(lags[len(lags)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// takes reports whether a gateway accepts a token. It requests an invalid room id, which the gateway
// answers without Meet: with 404 if the token is accepted.
func (g *gateway) takes(t testing.TB, token string) bool {
	t.Helper()
	return g.call(t, http.MethodGet, roomsPath+"/not-a-uuid", "", "Authorization", gatewaytest.Bearer(token)).Status == http.StatusNotFound
}
