// SPDX-License-Identifier: MIT

package cluster

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

func TestCluster_SharedState(t *testing.T) {
	t.Parallel()
	redis := redistest.Standalone(t)
	c := startCluster(t, settings{
		store:     func(int) string { return "store redis " + redis.URL() + " {\ntimeout 5s\n}" },
		staleness: 5 * time.Second,
		exchange:  300 * time.Millisecond,
	})
	one, two, three := c.nodes[0], c.nodes[1], c.nodes[2]
	app := one.addApplication(t, `"refresh":true`)

	t.Run("a token works on every gateway until one revokes it", func(t *testing.T) {
		token := app.mustMint(t, one, "ada@example.org")
		for _, g := range c.nodes {
			require.Equal(t, 200, g.rooms(t, token), g.name) // cached from now on
		}
		app.mustRevoke(t, three, token)
		c.refusedEverywhere(t, token)
		require.Equal(t, 200, two.rooms(t, app.mustMint(t, two, "ada@example.org")), "another token for the same user")
	})

	t.Run("sixteen first requests cause one exchange", func(t *testing.T) {
		for round := range 3 {
			before := c.meet.Exchanges()
			mail := fmt.Sprintf("first-%d@example.org", round)
			for _, a := range atOnce(t, 16, func(i int) (*gatewaytest.Answer, error) { return app.mint(c.nodes[i%gateways], mail) }) {
				accessToken(t, a)
			}
			require.Equal(t, 1, c.meet.Exchanges()-before)
		}
	})

	t.Run("concurrent refreshes on all gateways return one pair", func(t *testing.T) {
		a, err := app.mint(one, "grace@example.org")
		require.NoError(t, err)
		for range 3 {
			token, _ := a.JSON(t)["refresh_token"].(string)
			require.NotEmpty(t, token)
			pairs := map[[2]any]bool{}
			for _, a = range atOnce(t, 2*gateways, func(i int) (*gatewaytest.Answer, error) { return app.refresh(c.nodes[i%gateways], token) }) {
				for _, g := range c.nodes {
					require.Equal(t, 200, g.rooms(t, accessToken(t, a)))
				}
				pairs[[2]any{a.JSON(t)["access_token"], a.JSON(t)["refresh_token"]}] = true
			}
			require.Len(t, pairs, 1)
		}
	})

	t.Run("a change on one gateway applies to all", func(t *testing.T) {
		token := app.mustMint(t, two, "linus@example.org")
		for _, g := range c.nodes {
			require.Equal(t, 200, g.rooms(t, token), g.name)
		}
		one.patch(t, app, `{"scopes":["rooms:create"]}`)
		for _, g := range c.nodes {
			eventually(t, "the scopes to apply", func() bool { return g.rooms(t, token) == 403 })
		}
		one.patch(t, app, `{"scopes":["rooms:list"],"active":false}`)
		c.refusedEverywhere(t, token)
		a, err := app.mint(three, "linus@example.org")
		require.NoError(t, err)
		require.Equal(t, 401, a.Status, a.Body)
		two.patch(t, app, `{"active":true}`)
		for _, g := range c.nodes {
			eventually(t, "the application to be active", func() bool { return g.rooms(t, token) == 200 })
		}
		a = three.call(t, http.MethodDelete, three.admin+"/meet-gateway/applications/"+app.ID, "")
		require.Equal(t, 204, a.Status, a.Body)
		c.refusedEverywhere(t, token)
	})
}

// refusedEverywhere checks that no gateway accepts a revoked token after the staleness bound. The
// revocation was acknowledged before the call.
func (c *cluster) refusedEverywhere(t *testing.T, token string) {
	t.Helper()
	acknowledged := time.Now()
	for _, g := range c.nodes {
		eventually(t, g.name+" to refuse", func() bool {
			began := time.Now()
			status := g.rooms(t, token)
			require.False(t, status == 200 && began.Sub(acknowledged) > c.staleness, "%s accepted it after the bound", g.name)
			return status == 401
		})
		// 503 is permitted right after a failover or a loss of data.
		for what, ask := range map[string]func(testing.TB, string) int{"rooms": g.rooms, "identity": g.identity} {
			eventually(t, g.name+" to refuse at "+what, func() bool {
				status := ask(t, token)
				require.NotEqual(t, 200, status)
				return status == 401
			})
		}
	}
}

// atOnce makes n concurrent requests.
func atOnce(t testing.TB, n int, request func(i int) (*gatewaytest.Answer, error)) []*gatewaytest.Answer {
	t.Helper()
	answers, errs := make([]*gatewaytest.Answer, n), make([]error, n)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			answers[i], errs[i] = request(i)
		})
	}
	close(start)
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return answers
}
