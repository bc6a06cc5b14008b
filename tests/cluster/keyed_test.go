// SPDX-License-Identifier: MIT

package cluster

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// keyed is a creation under an Idempotency-Key, which is also the request's id.
type keyed struct {
	key  string
	node int    // the gateway
	room string // in the answer; "" if the status was not 201
}

// TestFailover_KeyedCreations creates rooms with Idempotency-Keys during a failover that loses the
// last writes. A repeat on another gateway must return the existing room for every value of
// wait_replicas.
func TestFailover_KeyedCreations(t *testing.T) {
	t.Parallel()
	for _, wait := range []int{0, 1} { // of two replicas
		t.Run(fmt.Sprintf("wait_replicas %d", wait), func(t *testing.T) {
			t.Parallel()
			redis := redistest.SentinelGroup(t, 2)
			c := startCluster(t, settings{store: func(i int) string {
				return strings.TrimSuffix(sentinelStore(redis)(i), "}") + fmt.Sprintf("wait_replicas %d\n}", wait)
			}})
			app := c.nodes[0].addApplication(t, `"limits":{"create":"off","create_user":"off"}`)
			token := app.mustMint(t, c.nodes[0], "keyed@example.org")

			const workers = 6
			stop := make(chan struct{})
			made := make([][]keyed, workers)
			var all sync.WaitGroup
			for w := range workers {
				all.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						case <-time.After(pause):
						}
						k := keyed{key: fmt.Sprintf("keyed-%d-%d-%d", wait, w, n), node: w % len(c.nodes)}
						if a, err := c.nodes[k.node].create(token, k.key, "Idempotency-Key", k.key); err == nil && a.Status == http.StatusCreated {
							k.room = between(a.Body, `"id":"`, `"`)
						}
						made[w] = append(made[w], k)
					}
				})
			}
			counted := func() int {
				n := 0
				c.meet.mu.Lock()
				defer c.meet.mu.Unlock()
				for key := range c.meet.creates {
					if between(key, "keyed-", "-") != "" {
						n++
					}
				}
				return n
			}
			more := func(n int) {
				want := counted() + n
				eventually(t, "rooms to be made", func() bool { return counted() >= want })
			}
			more(50)
			redis.Failover(t)
			more(20) // the new primary is in use
			close(stop)
			all.Wait()

			answered := 0
			for _, list := range made {
				for _, k := range list {
					other := c.nodes[(k.node+1)%len(c.nodes)]
					var room string
					var status int
					eventually(t, "an answer to "+k.key, func() bool {
						a, err := other.create(token, k.key, "Idempotency-Key", k.key)
						if err != nil {
							return false
						}
						status, room = a.Status, between(a.Body, `"id":"`, `"`)
						return status < 500
					})
					require.LessOrEqual(t, c.meet.created(k.key), 1, "a second room under %s", k.key)
					if k.room != "" {
						answered++
						require.Equal(t, http.StatusCreated, status, k.key)
						require.Equal(t, k.room, room, k.key)
					}
				}
			}
			require.GreaterOrEqual(t, answered, 70)
			t.Logf("%d keys answered before the repeats", answered)
		})
	}
}
