// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// Outage tests with real faults. In each of them a revoked token is refused after the
// staleness bound, a valid token is refused only with ErrUnavailable, and the gateways
// recover without help.

const (
	// bound keeps the tests short, but is long enough for some heartbeats to be in time on a
	// slow machine.
	bound = 500 * time.Millisecond
	// redisTimeout is shorter than the faults and longer than Redis takes to answer on a slow
	// machine.
	redisTimeout = 250 * time.Millisecond
)

func shortTimeout(o tokens.RedisOptions) storetest.Opener {
	o.Timeout = redisTimeout
	return opener(o)
}

func newGateway(t *testing.T, open storetest.Opener) *tokens.Authority {
	t.Helper()
	return storetest.Node(t, open, func(o *tokens.Options) { o.Staleness = bound })
}

// isUnavailable reports whether the error is ErrUnavailable and does not match any
// refusal.
func isUnavailable(err error) bool {
	if !errors.Is(err, tokens.ErrUnavailable) {
		return false
	}
	for _, blame := range []error{
		tokens.ErrNotFound, tokens.ErrInvalidClient, tokens.ErrInactiveApplication, tokens.ErrTokenInvalid,
		tokens.ErrTokenExpired, tokens.ErrTokenForeign, tokens.ErrTokenMalformed, tokens.ErrInvalidGrant,
	} {
		if errors.Is(err, blame) {
			return false
		}
	}
	return true
}

func requireUnavailable(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.True(t, isUnavailable(err), "got: %v", err)
}

// retry repeats do while it fails with ErrUnavailable, until it succeeds.
func retry(t *testing.T, what string, do func() error) {
	t.Helper()
	var last error
	storetest.Eventually(t, what, func() bool {
		last = do()
		if last != nil && !isUnavailable(last) {
			t.Fatalf("%s: %v", what, last)
		}
		return last == nil
	})
}

// traffic uses tokens continuously and reports each wrong answer.
type traffic struct {
	t    *testing.T
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newTraffic(t *testing.T) *traffic {
	ctx, stop := context.WithCancel(context.Background())
	c := &traffic{t: t, ctx: ctx, stop: stop}
	t.Cleanup(c.end)
	return c
}

// end stops the traffic.
func (c *traffic) end() {
	c.stop()
	c.wg.Wait()
}

func (c *traffic) loop(f func() (problem string)) {
	c.wg.Go(func() {
		for c.ctx.Err() == nil {
			if problem := f(); problem != "" {
				c.t.Error(problem)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// valid uses a token that must never be refused.
func (c *traffic) valid(name string, a *tokens.Authority, raw string) {
	c.loop(func() string {
		if _, err := a.Verify(context.Background(), raw); err != nil && !isUnavailable(err) {
			return fmt.Sprintf("%s: a valid token was refused: %v", name, err)
		}
		if _, err := a.Inspect(context.Background(), raw); err != nil && !isUnavailable(err) {
			return fmt.Sprintf("%s: a valid token was inspected as: %v", name, err)
		}
		return ""
	})
}

// revoked uses a token whose revocation was acknowledged at the given time.
func (c *traffic) revoked(name string, a *tokens.Authority, raw string, at time.Time) {
	c.loop(func() string {
		began := time.Now()
		if _, err := a.Verify(context.Background(), raw); err == nil && began.Sub(at) > bound {
			return fmt.Sprintf("%s: a revoked token was accepted %v after the revocation", name, began.Sub(at))
		}
		return ""
	})
}

// fixture is an application with tokens that both gateways use.
type fixture struct {
	t                *testing.T
	a, b             *tokens.Authority // the fault hits a, and b only if it hits all gateways
	app              *tokens.Application
	secret           string
	cached, uncached *tokens.Token
	toRevoke         *tokens.Token // cached by a; revoked by b during the fault
}

func newFixture(t *testing.T, a, b *tokens.Authority) *fixture {
	s := &fixture{t: t, a: a, b: b}
	s.app, s.secret = storetest.App(t, b, func(n *tokens.Application) { n.Refresh = true })
	s.cached = storetest.Issue(t, b, s.app, "known@example.org")
	s.uncached = storetest.Issue(t, b, s.app, "unknown@example.org")
	s.toRevoke = storetest.Issue(t, b, s.app, "doomed@example.org")
	for _, tok := range []*tokens.Token{s.cached, s.toRevoke} {
		retry(t, "the token is accepted", func() error { _, err := a.Verify(t.Context(), tok.Value); return err })
	}
	return s
}

// allUnavailable requires that every operation of a that needs Redis fails with
// ErrUnavailable.
func (s *fixture) allUnavailable() {
	s.t.Helper()
	ctx := s.t.Context()
	_, _, err := s.a.Authenticate(ctx, s.app.ID, s.secret)
	requireUnavailable(s.t, err)
	_, _, err = s.a.Authenticate(ctx, s.app.ID, "wrong")
	requireUnavailable(s.t, err)
	_, err = s.a.Issue(ctx, tokens.Grant{Application: s.app, Mail: "new@example.org", Scopes: s.app.Scopes})
	requireUnavailable(s.t, err)
	_, err = s.a.Verify(ctx, s.uncached.Value)
	requireUnavailable(s.t, err)
	_, err = s.a.Inspect(ctx, s.cached.Value)
	requireUnavailable(s.t, err)
	_, err = s.a.Inspect(ctx, s.cached.Refresh)
	requireUnavailable(s.t, err)
	_, err = s.a.Refresh(ctx, s.app, s.cached.Refresh)
	requireUnavailable(s.t, err)
	requireUnavailable(s.t, s.a.RevokeToken(ctx, s.cached.ID))
	requireUnavailable(s.t, s.a.RevokeOwnToken(ctx, s.app, s.cached.Refresh))
	requireUnavailable(s.t, s.a.RevokeUser(ctx, "known@example.org"))
	requireUnavailable(s.t, s.a.RevokeAll(ctx))
	_, err = s.a.UpdateApplication(ctx, s.app.ID, 0, func(n *tokens.Application) error { n.Note = "no"; return nil })
	requireUnavailable(s.t, err)
}

// recovered waits until both gateways work again. It issues new tokens, because operations
// that failed during the fault may have been carried out.
func (s *fixture) recovered() {
	s.t.Helper()
	ctx := s.t.Context()
	for _, n := range []*tokens.Authority{s.a, s.b} {
		storetest.Eventually(s.t, "the feed is fresh again", n.Fresh)
		retry(s.t, "the secret is accepted again", func() error {
			_, _, err := n.Authenticate(ctx, s.app.ID, s.secret)
			return err
		})
		var tok *tokens.Token
		retry(s.t, "tokens are issued again", func() (err error) {
			tok, err = n.Issue(ctx, tokens.Grant{Application: s.app, Mail: "after@example.org", Scopes: s.app.Scopes})
			return err
		})
		for _, other := range []*tokens.Authority{s.a, s.b} {
			retry(s.t, "the new token is accepted", func() error { _, err := other.Verify(ctx, tok.Value); return err })
		}
		retry(s.t, "the new token is revoked", func() error { return n.RevokeToken(ctx, tok.Value) })
		for _, other := range []*tokens.Authority{s.a, s.b} {
			storetest.Eventually(s.t, "both gateways refuse the new token", func() bool {
				_, err := other.Verify(ctx, tok.Value)
				return errors.Is(err, tokens.ErrTokenInvalid)
			})
		}
	}
}

// One gateway is partitioned from Redis, in each way that a network allows.
func TestOutage_OneGatewayPartitioned(t *testing.T) {
	for name, fault := range map[string]func(*testing.T, *redistest.Proxy){
		"unreachable": func(t *testing.T, p *redistest.Proxy) { p.Cut(t) },
		"silent":      func(t *testing.T, p *redistest.Proxy) { p.Silent(t) },
		"slow":        func(t *testing.T, p *redistest.Proxy) { p.Latency(t, 3*redisTimeout) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Standalone(t)
			proxy := redistest.Proxied(t, server)
			s := newFixture(t,
				newGateway(t, shortTimeout(tokens.RedisOptions{URL: proxy.URL()})),
				newGateway(t, shortTimeout(tokens.RedisOptions{URL: server.URL()})))
			c := newTraffic(t)
			c.valid("partitioned", s.a, s.cached.Value)
			c.valid("connected", s.b, s.cached.Value)

			fault(t, proxy)
			require.NoError(t, s.b.RevokeToken(t.Context(), s.toRevoke.Value))
			c.revoked("partitioned", s.a, s.toRevoke.Value, time.Now())
			c.revoked("connected", s.b, s.toRevoke.Value, time.Now())
			storetest.Eventually(t, "the partitioned gateway stops answering from memory", func() bool {
				_, err := s.a.Verify(t.Context(), s.cached.Value)
				return err != nil
			})
			c.end() // the fixture revokes its tokens below
			s.allUnavailable()

			proxy.Restore(t)
			s.recovered()
			_, err := s.a.Verify(t.Context(), s.toRevoke.Value)
			require.ErrorIs(t, err, tokens.ErrTokenInvalid)
		})
	}
}

// Redis is unavailable for all gateways.
func TestOutage_RedisUnavailable(t *testing.T) {
	for name, fault := range map[string]struct {
		begin, end func(*redistest.Server, *testing.T)
	}{
		"stopped": {
			func(s *redistest.Server, t *testing.T) { s.Stop(t) },
			func(s *redistest.Server, t *testing.T) { s.Start(t) },
		},
		"killed": {
			func(s *redistest.Server, t *testing.T) { s.Kill(t) },
			func(s *redistest.Server, t *testing.T) { s.Start(t) },
		},
		"silent": {
			func(s *redistest.Server, t *testing.T) { s.Pause(t) },
			func(s *redistest.Server, t *testing.T) { s.Resume(t) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Standalone(t, "--appendonly", "yes", "--appendfsync", "always")
			open := shortTimeout(tokens.RedisOptions{URL: server.URL()})
			s := newFixture(t, newGateway(t, open), newGateway(t, open))
			require.NoError(t, s.a.RevokeToken(t.Context(), s.toRevoke.Value))
			c := newTraffic(t)
			c.valid("a", s.a, s.cached.Value)
			c.valid("b", s.b, s.cached.Value)
			c.revoked("a", s.a, s.toRevoke.Value, time.Now())
			c.revoked("b", s.b, s.toRevoke.Value, time.Now())

			fault.begin(server, t)
			storetest.Eventually(t, "the gateway stops answering from memory", func() bool {
				_, err := s.a.Verify(t.Context(), s.cached.Value)
				return err != nil
			})
			// The traffic still expects the tokens to be valid, so none is revoked here.
			_, err := s.a.Issue(t.Context(), tokens.Grant{Application: s.app, Mail: "new@example.org", Scopes: s.app.Scopes})
			requireUnavailable(t, err)
			_, err = s.a.Verify(t.Context(), s.uncached.Value)
			requireUnavailable(t, err)
			fault.end(server, t)
			for _, tok := range []*tokens.Token{s.cached, s.uncached} {
				retry(t, "a valid token is accepted again", func() error { _, err := s.a.Verify(t.Context(), tok.Value); return err })
			}
			c.end()
			s.recovered()
		})
	}
}

// A gateway stops relying on a primary that has become a replica: it still answers reads,
// perhaps with stale data.
func TestOutage_ReadOnly(t *testing.T) {
	server := redistest.Standalone(t)
	open := shortTimeout(tokens.RedisOptions{URL: server.URL()})
	s := newFixture(t, newGateway(t, open), newGateway(t, open))
	require.NoError(t, s.a.RevokeToken(t.Context(), s.toRevoke.Value))
	c := newTraffic(t)
	c.valid("a", s.a, s.cached.Value)
	c.revoked("b", s.b, s.toRevoke.Value, time.Now())

	server.SetReadOnly(t, true)
	_, err := s.a.Issue(t.Context(), tokens.Grant{Application: s.app, Mail: "new@example.org", Scopes: s.app.Scopes})
	requireUnavailable(t, err)
	// No revocation before this point: a change that waits for publication would delay the
	// heartbeats as well.
	storetest.Eventually(t, "the gateway stops answering from memory", func() bool {
		_, err := s.a.Verify(t.Context(), s.cached.Value)
		return isUnavailable(err)
	})
	c.end()
	s.allUnavailable()
	server.SetReadOnly(t, false)
	s.recovered()
}

// A full primary refuses writes, and tokens are still verified.
func TestOutage_RedisFull(t *testing.T) {
	server := redistest.Standalone(t)
	open := shortTimeout(tokens.RedisOptions{URL: server.URL()})
	s := newFixture(t, newGateway(t, open), newGateway(t, open))
	c := newTraffic(t)
	c.valid("a", s.a, s.cached.Value)
	require.NoError(t, server.Client().ConfigSet(t.Context(), "maxmemory", "1").Err())
	storetest.Eventually(t, "the feed is stale", func() bool { return !s.a.Fresh() })
	_, err := s.a.Issue(t.Context(), tokens.Grant{Application: s.app, Mail: "new@example.org", Scopes: s.app.Scopes})
	requireUnavailable(t, err)
	for _, tok := range []*tokens.Token{s.cached, s.uncached} {
		retry(t, "a valid token is accepted", func() error { _, err := s.a.Verify(t.Context(), tok.Value); return err })
	}
	require.NoError(t, server.Client().ConfigSet(t.Context(), "maxmemory", "0").Err())
	c.end()
	s.recovered()
}

// After Redis is emptied, every gateway refuses all tokens, also if another one detects it
// first.
func TestOutage_RedisEmptied(t *testing.T) {
	server := redistest.Standalone(t)
	open := shortTimeout(tokens.RedisOptions{URL: server.URL()})
	s := newFixture(t, newGateway(t, open), newGateway(t, open))
	_, err := s.b.Verify(t.Context(), s.cached.Value)
	require.NoError(t, err)
	server.FlushAll(t)
	for _, n := range []*tokens.Authority{s.a, s.b} {
		for _, tok := range []*tokens.Token{s.cached, s.uncached} {
			storetest.Eventually(t, "the token is refused", func() bool {
				_, err := n.Verify(t.Context(), tok.Value)
				return errors.Is(err, tokens.ErrTokenInvalid)
			})
		}
		_, _, err := n.Authenticate(t.Context(), s.app.ID, s.secret)
		require.ErrorIs(t, err, tokens.ErrInvalidClient)
	}
	s.app, s.secret = storetest.App(t, s.a)
	s.recovered()
}

// The feed is broken while all other commands work.
func TestOutage_FeedCut(t *testing.T) {
	for name, fault := range map[string]struct {
		begin, end func(*testing.T, *redistest.Server, *redistest.Proxy)
	}{
		"cut once": {
			func(t *testing.T, s *redistest.Server, _ *redistest.Proxy) { s.CutFeeds(t) },
			func(*testing.T, *redistest.Server, *redistest.Proxy) {},
		},
		"refused": {
			func(t *testing.T, s *redistest.Server, _ *redistest.Proxy) { s.RefuseFeeds(t) },
			func(t *testing.T, s *redistest.Server, _ *redistest.Proxy) { s.AllowFeeds(t) },
		},
		"mute": {
			func(t *testing.T, _ *redistest.Server, p *redistest.Proxy) { p.MuteFeeds(t) },
			func(t *testing.T, _ *redistest.Server, p *redistest.Proxy) { p.Restore(t) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Standalone(t)
			proxy := redistest.Proxied(t, server)
			s := newFixture(t,
				newGateway(t, shortTimeout(tokens.RedisOptions{URL: proxy.URL()})),
				newGateway(t, shortTimeout(tokens.RedisOptions{URL: server.URL()})))
			c := newTraffic(t)
			c.valid("feed cut", s.a, s.cached.Value)
			fault.begin(t, server, proxy)
			require.NoError(t, s.b.RevokeToken(t.Context(), s.toRevoke.Value))
			c.revoked("feed cut", s.a, s.toRevoke.Value, time.Now())
			storetest.Eventually(t, "the revoked token is refused", func() bool {
				_, err := s.a.Verify(t.Context(), s.toRevoke.Value)
				return errors.Is(err, tokens.ErrTokenInvalid)
			})
			if name != "cut once" {
				storetest.Eventually(t, "the feed is stale", func() bool { return !s.a.Fresh() })
			}
			for _, tok := range []*tokens.Token{s.cached, s.uncached} {
				retry(t, "a valid token is accepted without the feed", func() error { _, err := s.a.Verify(t.Context(), tok.Value); return err })
			}
			fault.end(t, server, proxy)
			c.end()
			s.recovered()
		})
	}
}

// revocations are all ways to end a token.
var revocations = map[string]func(a *tokens.Authority, app *tokens.Application, tok *tokens.Token) error{
	"token": func(a *tokens.Authority, _ *tokens.Application, tok *tokens.Token) error {
		return a.RevokeToken(context.Background(), tok.Value)
	},
	"token id": func(a *tokens.Authority, _ *tokens.Application, tok *tokens.Token) error {
		return a.RevokeToken(context.Background(), tok.ID)
	},
	"user": func(a *tokens.Authority, _ *tokens.Application, _ *tokens.Token) error {
		return a.RevokeUser(context.Background(), "doomed@example.org")
	},
	"grant": func(a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		return a.RevokeGrant(context.Background(), app.ID, "doomed@example.org")
	},
	"application": func(a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		return a.RevokeApplication(context.Background(), app.ID)
	},
	"disabled": func(a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		_, err := a.UpdateApplication(context.Background(), app.ID, 0, func(n *tokens.Application) error { n.Active = false; return nil })
		return err
	},
	"domain": func(a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		_, err := a.UpdateApplication(context.Background(), app.ID, 0, func(n *tokens.Application) error { n.Domains = nil; return nil })
		return err
	},
	"deleted": func(a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		return a.DeleteApplication(context.Background(), app.ID, 0)
	},
	"all": func(a *tokens.Authority, _ *tokens.Application, _ *tokens.Token) error {
		return a.RevokeAll(context.Background())
	},
	"before": func(a *tokens.Authority, _ *tokens.Application, _ *tokens.Token) error {
		return a.RevokeBefore(context.Background(), time.Now())
	},
}

// A revocation stays in force when Redis is restored from an older snapshot: the gateways
// replay the lost changes.
func TestOutage_RestoredFromOldSnapshot(t *testing.T) {
	for name, revoke := range revocations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Standalone(t)
			open := shortTimeout(tokens.RedisOptions{URL: server.URL()})
			s := newFixture(t, newGateway(t, open), newGateway(t, open))
			old := server.SaveSnapshot(t)
			if name == "before" {
				time.Sleep(time.Until(s.nextSecond())) // tokens hold times in whole seconds
			}
			require.NoError(t, revoke(s.b, s.app, s.toRevoke))
			// Only few changes follow the snapshot, so that the change number alone reveals nothing.
			other, _ := storetest.App(t, s.b)
			late := storetest.Issue(t, s.b, other, "late@example.org")
			storetest.Eventually(t, "both gateways have received all changes", func() bool { return s.a.Status(t.Context()).Feed.Changes == s.b.Status(t.Context()).Feed.Changes })

			for _, n := range []*tokens.Authority{s.a, s.b} {
				storetest.Eventually(t, "the token is refused", func() bool {
					_, err := n.Verify(t.Context(), s.toRevoke.Value)
					return err != nil && !isUnavailable(err)
				})
			}
			// Both gateways have received the revocation, so no bound applies any more.
			c := newTraffic(t)
			c.revoked("a", s.a, s.toRevoke.Value, time.Time{})
			c.revoked("b", s.b, s.toRevoke.Value, time.Time{})
			server.RestoreSnapshot(t, old)
			for _, n := range []*tokens.Authority{s.a, s.b} {
				storetest.Eventually(t, "the feed is fresh again", n.Fresh)
			}
			storetest.Eventually(t, "the revocation is restored", func() bool {
				_, err := s.a.Inspect(t.Context(), s.toRevoke.Value)
				return errors.Is(err, tokens.ErrTokenInvalid) || errors.Is(err, tokens.ErrInactiveApplication)
			})
			if name != "before" { // tokens hold times in whole seconds
				retry(t, "a recent token is restored", func() error {
					_, err := s.a.Verify(t.Context(), late.Value)
					return err
				})
			}
			if name == "disabled" || name == "deleted" {
				// The gateway says so only after all gateways have replayed.
				storetest.Eventually(t, "the application is inactive", func() bool {
					_, _, err := s.a.Authenticate(t.Context(), s.app.ID, s.secret)
					require.Error(t, err)
					return errors.Is(err, tokens.ErrInactiveApplication)
				})
			}
		})
	}
}

// nextSecond returns the start of the next second.
func (s *fixture) nextSecond() time.Time { return time.Now().Truncate(time.Second).Add(time.Second) }

// A gateway that has just started and detects missing changes revokes all tokens, because
// no journal holds the changes.
func TestOutage_RestoredWithoutJournal(t *testing.T) {
	server := redistest.Standalone(t)
	open := shortTimeout(tokens.RedisOptions{URL: server.URL()})
	first := newGateway(t, open)
	s := newFixture(t, first, first)
	old := server.SaveSnapshot(t)
	require.NoError(t, first.RevokeToken(t.Context(), s.toRevoke.Value))
	require.NoError(t, first.Close())

	second := newGateway(t, open)
	storetest.Eventually(t, "the gateway knows the number of changes", func() bool { return second.Status(t.Context()).Feed.Changes > 0 })
	server.RestoreSnapshot(t, old)
	for _, tok := range []*tokens.Token{s.toRevoke, s.cached} {
		storetest.Eventually(t, "the token is revoked", func() bool {
			_, err := second.Verify(t.Context(), tok.Value)
			return errors.Is(err, tokens.ErrTokenInvalid)
		})
	}
	s.a, s.b = second, second
	s.recovered()
}

// A Cluster slot moves with its keys while the gateways serve requests.
func TestOutage_ClusterSlotMoves(t *testing.T) {
	cluster := redistest.Cluster(t)
	open := shortTimeout(tokens.RedisOptions{Addresses: cluster.Addrs(), Cluster: true})
	s := newFixture(t, newGateway(t, open), newGateway(t, open))
	c := newTraffic(t)
	c.valid("a", s.a, s.cached.Value)
	c.valid("b", s.b, s.uncached.Value)
	c.loop(func() string {
		tok, err := s.a.Issue(context.Background(), tokens.Grant{Application: s.app, Mail: "moving@example.org", Scopes: s.app.Scopes})
		if err != nil {
			if isUnavailable(err) {
				return ""
			}
			return "issuing: " + err.Error()
		}
		if _, err := s.b.Verify(context.Background(), tok.Value); err != nil && !isUnavailable(err) {
			return "a token just issued was refused: " + err.Error()
		}
		if err := s.b.RevokeToken(context.Background(), tok.Value); err != nil {
			if isUnavailable(err) {
				return ""
			}
			return "revoking: " + err.Error()
		}
		if _, err := s.b.Verify(context.Background(), tok.Value); err == nil {
			return "the gateway that revoked a token accepted it"
		}
		return ""
	})
	for _, key := range []string{"mg1:feed", "mg1:inst", "mg1:a:" + s.app.ID} {
		move := cluster.BeginSlotMove(t, cluster.Slot(t, key))
		move.Finish(t)
	}
	c.end()
	s.recovered()
}

// A failover happens while the gateways serve requests. The new primary may lack
// acknowledged writes, which the gateways replay.
func TestOutage_SentinelFailover(t *testing.T) {
	for name, failover := range map[string]func(*testing.T, *redistest.SentinelServers){
		"ordered": func(t *testing.T, g *redistest.SentinelServers) { g.Failover(t) },
		"primary killed": func(t *testing.T, g *redistest.SentinelServers) {
			former := g.Master(t)
			former.Kill(t)
			g.AwaitFailover(t, former)
		},
	} {
		for _, wait := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, waiting for %d replicas", name, wait), func(t *testing.T) {
				group := redistest.Sentinel(t)
				open := shortTimeout(tokens.RedisOptions{Addresses: group.Addrs(), MasterName: redistest.MasterName, WaitReplicas: wait})
				s := newFixture(t, newGateway(t, open), newGateway(t, open))
				require.NoError(t, s.a.RevokeToken(t.Context(), s.toRevoke.Value))
				c := newTraffic(t)
				c.valid("a", s.a, s.cached.Value)
				c.valid("b", s.b, s.uncached.Value)
				c.revoked("b", s.b, s.toRevoke.Value, time.Now())
				var mu sync.Mutex
				var issued, revoked []string
				c.loop(func() string {
					tok, err := s.a.Issue(context.Background(), tokens.Grant{Application: s.app, Mail: "busy@example.org", Scopes: s.app.Scopes})
					if err != nil {
						if isUnavailable(err) {
							return ""
						}
						return "issuing: " + err.Error()
					}
					mu.Lock()
					defer mu.Unlock()
					if len(issued)%2 == 0 {
						issued = append(issued, tok.Value)
						return ""
					}
					switch err := s.b.RevokeToken(context.Background(), tok.Value); {
					case err == nil:
						revoked = append(revoked, tok.Value)
						issued = append(issued, "")
					case isUnavailable(err):
					default:
						return "revoking: " + err.Error()
					}
					return ""
				})
				failover(t, group)
				if name == "primary killed" && wait > 0 {
					for _, d := range group.Data { // so that there is a replica to wait for
						if !d.Running() {
							d.Start(t)
						}
					}
				}
				for _, n := range []*tokens.Authority{s.a, s.b} {
					storetest.Eventually(t, "the feed is fresh again", n.Fresh)
				}
				c.end()
				s.recovered()
				for _, raw := range issued {
					if raw != "" {
						retry(t, "no issued token is lost", func() error { _, err := s.b.Verify(t.Context(), raw); return err })
					}
				}
				for _, raw := range revoked {
					for _, n := range []*tokens.Authority{s.a, s.b} {
						_, err := n.Inspect(t.Context(), raw)
						require.Error(t, err, "no acknowledged revocation is lost")
						require.NotErrorIs(t, err, tokens.ErrUnavailable)
					}
				}
			})
		}
	}
}

// A revocation is never confirmed while no replica has it.
func TestWaitReplicas_UnacknowledgedIsAnError(t *testing.T) {
	group := redistest.Sentinel(t)
	open := shortTimeout(tokens.RedisOptions{Addresses: group.Addrs(), MasterName: redistest.MasterName, WaitReplicas: 1})
	s := newFixture(t, newGateway(t, open), newGateway(t, open))
	require.NoError(t, s.a.RevokeToken(t.Context(), s.toRevoke.Value))
	for _, d := range group.Data {
		if d != group.Master(t) {
			d.Pause(t)
			t.Cleanup(func() { d.Resume(t) })
		}
	}
	// Many attempts use many connections of the pool. None may be confirmed.
	for range 20 {
		requireUnavailable(t, s.a.RevokeToken(t.Context(), s.uncached.Value))
	}
}

// A reply to another command never authenticates a request.
func TestVerify_CrossedReplies(t *testing.T) {
	server := redistest.Standalone(t)
	s := newFixture(t, newGateway(t, opener(tokens.RedisOptions{URL: server.URL()})), newGateway(t, opener(tokens.RedisOptions{URL: server.URL()})))
	mallory, _ := storetest.App(t, s.b, func(n *tokens.Application) { n.Domains = []string{"*"} })
	ctx, client := t.Context(), server.Client()
	keys, err := client.Keys(ctx, "mg1:t:*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 3)
	values := make([]string, len(keys))
	for i, k := range keys {
		values[i] = client.Get(ctx, k).Val()
	}
	for i, k := range keys {
		require.NoError(t, client.SetArgs(ctx, k, values[(i+1)%len(keys)], redis.SetArgs{KeepTTL: true}).Err())
	}
	_, err = s.b.Inspect(ctx, s.cached.Value)
	require.ErrorIs(t, err, tokens.ErrTokenInvalid)
	require.Equal(t, "record_mismatch", tokens.Reason(err))
	for i, k := range keys {
		require.NoError(t, client.SetArgs(ctx, k, values[i], redis.SetArgs{KeepTTL: true}).Err())
	}
	_, err = s.b.Inspect(ctx, s.cached.Value)
	require.NoError(t, err)

	// The records of another application and of another user are refused as well.
	doc := client.HGet(ctx, "mg1:a:"+mallory.ID, "d").Val()
	require.True(t, json.Valid([]byte(doc)))
	own := client.HGet(ctx, "mg1:a:"+s.app.ID, "d").Val()
	require.NoError(t, client.HSet(ctx, "mg1:a:"+s.app.ID, "d", doc).Err())
	_, err = s.b.Inspect(ctx, s.cached.Value)
	requireUnavailable(t, err)
	other := newGateway(t, opener(tokens.RedisOptions{URL: server.URL()})) // with an empty cache
	_, _, err = other.Authenticate(ctx, s.app.ID, s.secret)
	requireUnavailable(t, err)
	require.NoError(t, client.HSet(ctx, "mg1:a:"+s.app.ID, "d", own).Err())
	u, err := s.b.User(ctx, "known@example.org")
	require.NoError(t, err)
	v, err := s.b.User(ctx, "doomed@example.org")
	require.NoError(t, err)
	require.NoError(t, client.HSet(ctx, "mg1:u:"+u.ID, "m", client.HGet(ctx, "mg1:u:"+v.ID, "m").Val()).Err())
	_, err = s.b.Inspect(ctx, s.cached.Value)
	requireUnavailable(t, err)
}
