// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// A failover hits batches of writes (tokens being issued) and of reads (of tokens that the other
// gateway does not know). Every caller gets its own answer or ErrUnavailable, and no token that
// was issued is lost.
func TestBatches_SentinelFailover(t *testing.T) {
	for name, failover := range map[string]func(*testing.T, *redistest.SentinelServers, *redistest.Server){
		"ordered":        func(t *testing.T, g *redistest.SentinelServers, _ *redistest.Server) { g.Failover(t) },
		"primary killed": func(t *testing.T, _ *redistest.SentinelServers, former *redistest.Server) { former.Kill(t) },
		"primary silent": func(t *testing.T, _ *redistest.SentinelServers, former *redistest.Server) {
			former.Pause(t)
			t.Cleanup(func() { former.Resume(t) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			group := redistest.Sentinel(t)
			open := shortTimeout(tokens.RedisOptions{Addresses: group.Addrs(), MasterName: redistest.MasterName})
			var batches atomic.Int64
			observed := func(t *testing.T) *tokens.Store {
				s := open(t)
				s.OnCommand(func(_ context.Context, c tokens.Command) {
					if c.Name == "pipeline" && c.Problem == "" {
						batches.Add(1)
					}
				})
				return s
			}
			a, b := newGateway(t, observed), newGateway(t, observed)
			app, _ := storetest.App(t, a)
			var issued sync.Map
			var verified atomic.Int64
			c := newTraffic(t)
			for range 16 {
				c.loop(func() string {
					tok, err := a.Issue(context.Background(), tokens.Grant{Application: app, Mail: "busy@example.org", Scopes: app.Scopes})
					if isUnavailable(err) {
						return ""
					}
					if err != nil {
						return "issuing: " + err.Error()
					}
					issued.Store(tok.Value, nil)
					switch id, err := b.Verify(context.Background(), tok.Value); {
					case err == nil && id.TokenID != tok.ID:
						return "the answer is of another token"
					case err == nil:
						verified.Add(1)
					case !isUnavailable(err):
						return "a token just issued was refused: " + err.Error()
					}
					return ""
				})
			}
			more := func(what string) {
				answers, trips := verified.Load()+500, batches.Load()+50
				storetest.Eventually(t, what, func() bool { return verified.Load() > answers && batches.Load() > trips })
			}
			more("batches are sent")
			former := group.Master(t)
			failover(t, group, former)
			group.AwaitFailover(t, former)
			more("batches are sent to the new primary")
			c.end()
			third := newGateway(t, open)
			issued.Range(func(raw, _ any) bool {
				retry(t, "no issued token is lost", func() error { _, err := third.Verify(t.Context(), raw.(string)); return err })
				return true
			})
		})
	}
}
