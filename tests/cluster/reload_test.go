// SPDX-License-Identifier: MIT

package cluster

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// TestReload: a hundred reloads under load lose no token or revocation and leak no goroutines or
// connections.
func TestReload(t *testing.T) {
	t.Parallel()
	const poolSize = 10
	redis := redistest.Standalone(t)
	storeLine := func(s *redistest.Server) string {
		return fmt.Sprintf("store redis %s {\ntimeout 5s\npool_size %d\n}", s.URL(), poolSize)
	}
	c := startCluster(t, settings{store: func(int) string { return storeLine(redis) }, staleness: 5 * time.Second})
	l := newLedger(c.staleness)
	app := c.nodes[0].addApplication(t, "")
	warmUp := startLoad(t, c, l, app, 6, 4)
	warmUp.more(t, 300)
	warmUp.end()
	before := c.resting(t)

	o := startLoad(t, c, l, app, 6, 5)
	for i := range 100 {
		g := c.nodes[i%gateways]
		next := g.config
		next.gate += fmt.Sprintf("\nrequest_timeout %dms", 20000+i)
		if i%10 == 5 {
			bad := next
			bad.gate += "\nroom_url_base nonsense"
			require.Equal(t, http.StatusBadRequest, g.reload(t, bad).Status)
			continue
		}
		a := g.reload(t, next)
		require.Equal(t, http.StatusOK, a.Status, a.Body)
	}
	o.more(t, 100)

	// Rotate the secret as in docs/operations.md: all gateways accept it before one uses it.
	const newer = "newer-cluster-test-secret-0123456789-0123456789"
	for _, secrets := range []string{secret + "\nsecret " + newer, newer + "\nsecret " + secret} {
		for _, g := range c.nodes {
			g.config.global = strings.Replace(g.config.global, "secret "+secretsOf(g.config.global), "secret "+secrets, 1)
			a := g.reload(t, g.config)
			require.Equal(t, http.StatusOK, a.Status, a.Body)
			o.more(t, 50)
		}
	}
	o.more(t, 100)
	o.audit()
	o.end()
	o.checkCreates(t)
	l.report(t)

	var live *issued
	for _, k := range l.all() {
		if doubtful, _ := k.state(); doubtful.IsZero() {
			live = k
		}
	}
	require.NotNil(t, live)

	// Switch to another, empty store.
	other := redistest.Standalone(t)
	for _, g := range c.nodes {
		g.config.global = strings.Replace(g.config.global, storeLine(redis), storeLine(other), 1)
		a := g.reload(t, g.config)
		require.Equal(t, http.StatusOK, a.Status, a.Body)
		require.Equal(t, 401, g.rooms(t, live.value))
	}
	moved := c.nodes[0].addApplication(t, "")
	token := moved.mustMint(t, c.nodes[1], "moved@example.org")
	require.Equal(t, 200, c.nodes[2].rooms(t, token))

	// The gateway closes the old store after a minute.
	deadline := time.Now().Add(3 * time.Minute)
	for ; connections(t, redis, "normal")+connections(t, redis, "pubsub") > 0; time.Sleep(10 * pause) {
		require.True(t, time.Now().Before(deadline), "connections to the old store")
	}
	require.Equal(t, gateways, connections(t, other, "pubsub"))
	require.LessOrEqual(t, connections(t, other, "normal"), gateways*poolSize)
	for i, g := range c.nodes {
		eventually(t, g.name+" to have no more goroutines than before", func() bool {
			g.client.CloseIdleConnections()
			return g.goroutines(t) <= before[i]+5
		})
	}
}

// secretsOf returns the secrets in a configuration.
func secretsOf(global string) string {
	_, rest, _ := strings.Cut(global, "secret ")
	rest, _, _ = strings.Cut(rest, "\nstaleness")
	return rest
}

// resting returns the number of goroutines of each idle gateway.
func (c *cluster) resting(t testing.TB) []int {
	t.Helper()
	counts := make([]int, len(c.nodes))
	for i, g := range c.nodes {
		g.client.CloseIdleConnections()
		last := -1
		eventually(t, g.name+" to be idle", func() bool {
			counts[i], last = g.goroutines(t), counts[i]
			time.Sleep(5 * pause) // idle means that the count stays the same
			return counts[i] == last
		})
	}
	return counts
}

// connections counts the clients of a type, without the test's own.
func connections(t testing.TB, s *redistest.Server, kind string) int {
	t.Helper()
	own, err := s.Client().ClientInfo(t.Context()).Result()
	require.NoError(t, err)
	list, err := s.Client().Do(t.Context(), "CLIENT", "LIST", "TYPE", kind).Text()
	require.NoError(t, err)
	n := 0
	for line := range strings.Lines(list) {
		if !strings.Contains(line, fmt.Sprintf("id=%d ", own.ID)) {
			n++
		}
	}
	return n
}
