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

// Outages, each with a real fault. Whatever happens: what was revoked is not
// accepted any more after the bound, what is valid is refused only as
// ErrUnavailable, and everything recovers by itself.

const (
	// bound is short, so that the tests are. It is long enough for heartbeats on
	// a busy machine to be in time now and then.
	bound = 500 * time.Millisecond
	// redisTimeout is shorter than the faults last and longer than a busy machine
	// takes to answer.
	redisTimeout = 250 * time.Millisecond
)

func impatient(o tokens.RedisOptions) storetest.Opener {
	o.Timeout = redisTimeout
	return opener(o)
}

func node(t *testing.T, open storetest.Opener) *tokens.Authority {
	t.Helper()
	return storetest.Node(t, open, func(o *tokens.Options) { o.Staleness = bound })
}

// isStorm reports whether the error blames the store and nobody else.
func isStorm(err error) bool {
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

func requireStorm(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.True(t, isStorm(err), "got: %v", err)
}

// patiently does what may fail as unavailable for a while, until it succeeds.
func patiently(t *testing.T, what string, do func() error) {
	t.Helper()
	var last error
	storetest.Eventually(t, what, func() bool {
		last = do()
		if last != nil && !isStorm(last) {
			t.Fatalf("%s: %v", what, last)
		}
		return last == nil
	})
}

// crowd uses tokens all the time and notes every answer that must not be.
type crowd struct {
	t    *testing.T
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newCrowd(t *testing.T) *crowd {
	ctx, stop := context.WithCancel(context.Background())
	c := &crowd{t: t, ctx: ctx, stop: stop}
	t.Cleanup(c.leave)
	return c
}

// leave ends the crowd.
func (c *crowd) leave() {
	c.stop()
	c.wg.Wait()
}

func (c *crowd) loop(f func() (problem string)) {
	c.wg.Go(func() {
		for c.ctx.Err() == nil {
			if problem := f(); problem != "" {
				c.t.Error(problem)
				return
			}
			time.Sleep(time.Millisecond) // the pace of one impatient client
		}
	})
}

// valid uses a token that must never be refused.
func (c *crowd) valid(name string, a *tokens.Authority, raw string) {
	c.loop(func() string {
		if _, err := a.Verify(context.Background(), raw); err != nil && !isStorm(err) {
			return fmt.Sprintf("%s: a valid token was refused: %v", name, err)
		}
		if _, err := a.Inspect(context.Background(), raw); err != nil && !isStorm(err) {
			return fmt.Sprintf("%s: a valid token was inspected as: %v", name, err)
		}
		return ""
	})
}

// revoked uses a token that was revoked, as acknowledged, at the given time.
func (c *crowd) revoked(name string, a *tokens.Authority, raw string, at time.Time) {
	c.loop(func() string {
		began := time.Now()
		if _, err := a.Verify(context.Background(), raw); err == nil && began.Sub(at) > bound {
			return fmt.Sprintf("%s: a revoked token was accepted %v after the revocation", name, began.Sub(at))
		}
		return ""
	})
}

// scene is an application with tokens, known to node a and new to it.
type scene struct {
	t              *testing.T
	a, b           *tokens.Authority // a has the fault, b has it only if all have it
	app            *tokens.Application
	secret         string
	known, unknown *tokens.Token
	doomed         *tokens.Token // known to a; revoked by b during the fault, if b can
}

func newScene(t *testing.T, a, b *tokens.Authority) *scene {
	s := &scene{t: t, a: a, b: b}
	s.app, s.secret = storetest.App(t, b, func(n *tokens.Application) { n.Refresh = true })
	s.known = storetest.Issue(t, b, s.app, "known@example.org")
	s.unknown = storetest.Issue(t, b, s.app, "unknown@example.org")
	s.doomed = storetest.Issue(t, b, s.app, "doomed@example.org")
	for _, tok := range []*tokens.Token{s.known, s.doomed} {
		patiently(t, "the token is known", func() error { _, err := a.Verify(t.Context(), tok.Value); return err })
	}
	return s
}

// allUnavailable requires that a can do nothing that needs Redis, and says so.
func (s *scene) allUnavailable() {
	s.t.Helper()
	ctx := s.t.Context()
	_, _, err := s.a.Authenticate(ctx, s.app.ID, s.secret)
	requireStorm(s.t, err)
	_, _, err = s.a.Authenticate(ctx, s.app.ID, "wrong")
	requireStorm(s.t, err)
	_, err = s.a.Issue(ctx, tokens.Grant{Application: s.app, Mail: "new@example.org", Scopes: s.app.Scopes})
	requireStorm(s.t, err)
	_, err = s.a.Verify(ctx, s.unknown.Value)
	requireStorm(s.t, err)
	_, err = s.a.Inspect(ctx, s.known.Value)
	requireStorm(s.t, err)
	_, err = s.a.Inspect(ctx, s.known.Refresh)
	requireStorm(s.t, err)
	_, err = s.a.Refresh(ctx, s.app, s.known.Refresh)
	requireStorm(s.t, err)
	requireStorm(s.t, s.a.RevokeToken(ctx, s.known.ID))
	requireStorm(s.t, s.a.RevokeOwnToken(ctx, s.app, s.known.Refresh))
	requireStorm(s.t, s.a.RevokeUser(ctx, "known@example.org"))
	requireStorm(s.t, s.a.RevokeAll(ctx))
	_, err = s.a.UpdateApplication(ctx, s.app.ID, 0, func(n *tokens.Application) error { n.Note = "no"; return nil })
	requireStorm(s.t, err)
}

// recovered waits until all is as before on both nodes. What was tried during
// the fault may have been done, so new tokens are used.
func (s *scene) recovered() {
	s.t.Helper()
	ctx := s.t.Context()
	for _, n := range []*tokens.Authority{s.a, s.b} {
		storetest.Eventually(s.t, "the feed is fresh again", n.Fresh)
		patiently(s.t, "the secret is right again", func() error {
			_, _, err := n.Authenticate(ctx, s.app.ID, s.secret)
			return err
		})
		var tok *tokens.Token
		patiently(s.t, "tokens are issued again", func() (err error) {
			tok, err = n.Issue(ctx, tokens.Grant{Application: s.app, Mail: "after@example.org", Scopes: s.app.Scopes})
			return err
		})
		for _, other := range []*tokens.Authority{s.a, s.b} {
			patiently(s.t, "and accepted", func() error { _, err := other.Verify(ctx, tok.Value); return err })
		}
		patiently(s.t, "and revoked", func() error { return n.RevokeToken(ctx, tok.Value) })
		for _, other := range []*tokens.Authority{s.a, s.b} {
			storetest.Eventually(s.t, "everywhere", func() bool {
				_, err := other.Verify(ctx, tok.Value)
				return errors.Is(err, tokens.ErrTokenInvalid)
			})
		}
	}
}

// One node is parted from Redis, in every way a network can do that.
func TestOutage_OneNodePartitioned(t *testing.T) {
	for name, fault := range map[string]func(*testing.T, *redistest.Proxy){
		"unreachable": func(t *testing.T, p *redistest.Proxy) { p.Cut(t) },
		"silent":      func(t *testing.T, p *redistest.Proxy) { p.Silent(t) },
		"slow":        func(t *testing.T, p *redistest.Proxy) { p.Latency(t, 3*redisTimeout) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Standalone(t)
			proxy := redistest.Proxied(t, server)
			s := newScene(t,
				node(t, impatient(tokens.RedisOptions{URL: proxy.URL()})),
				node(t, impatient(tokens.RedisOptions{URL: server.URL()})))
			c := newCrowd(t)
			c.valid("parted", s.a, s.known.Value)
			c.valid("well", s.b, s.known.Value)

			fault(t, proxy)
			require.NoError(t, s.b.RevokeToken(t.Context(), s.doomed.Value))
			c.revoked("parted", s.a, s.doomed.Value, time.Now())
			c.revoked("well", s.b, s.doomed.Value, time.Now())
			storetest.Eventually(t, "the parted node stops answering from memory", func() bool {
				_, err := s.a.Verify(t.Context(), s.known.Value)
				return err != nil
			})
			c.leave() // so that the tokens may be revoked below
			s.allUnavailable()

			proxy.Restore(t)
			s.recovered()
			_, err := s.a.Verify(t.Context(), s.doomed.Value)
			require.ErrorIs(t, err, tokens.ErrTokenInvalid)
		})
	}
}

// Redis is unavailable for everybody.
func TestOutage_RedisAway(t *testing.T) {
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
			open := impatient(tokens.RedisOptions{URL: server.URL()})
			s := newScene(t, node(t, open), node(t, open))
			require.NoError(t, s.a.RevokeToken(t.Context(), s.doomed.Value))
			c := newCrowd(t)
			c.valid("a", s.a, s.known.Value)
			c.valid("b", s.b, s.known.Value)
			c.revoked("a", s.a, s.doomed.Value, time.Now())
			c.revoked("b", s.b, s.doomed.Value, time.Now())

			fault.begin(server, t)
			storetest.Eventually(t, "nothing is answered from memory", func() bool {
				_, err := s.a.Verify(t.Context(), s.known.Value)
				return err != nil
			})
			// The tokens may not be revoked while the crowd takes them for valid.
			_, err := s.a.Issue(t.Context(), tokens.Grant{Application: s.app, Mail: "new@example.org", Scopes: s.app.Scopes})
			requireStorm(t, err)
			_, err = s.a.Verify(t.Context(), s.unknown.Value)
			requireStorm(t, err)
			fault.end(server, t)
			for _, tok := range []*tokens.Token{s.known, s.unknown} {
				patiently(t, "what was valid is valid", func() error { _, err := s.a.Verify(t.Context(), tok.Value); return err })
			}
			c.leave()
			s.recovered()
		})
	}
}

// A primary that has become a replica answers reads, perhaps with old news.
func TestOutage_ReadOnly(t *testing.T) {
	server := redistest.Standalone(t)
	open := impatient(tokens.RedisOptions{URL: server.URL()})
	s := newScene(t, node(t, open), node(t, open))
	require.NoError(t, s.a.RevokeToken(t.Context(), s.doomed.Value))
	c := newCrowd(t)
	c.valid("a", s.a, s.known.Value)
	c.revoked("b", s.b, s.doomed.Value, time.Now())

	server.SetReadOnly(t, true)
	_, err := s.a.Issue(t.Context(), tokens.Grant{Application: s.app, Mail: "new@example.org", Scopes: s.app.Scopes})
	requireStorm(t, err)
	// Nothing is revoked here before: a change still to be told would hold the
	// heartbeats up as well.
	storetest.Eventually(t, "a Redis that takes no writes is not believed for long", func() bool {
		_, err := s.a.Verify(t.Context(), s.known.Value)
		return isStorm(err)
	})
	c.leave()
	s.allUnavailable()
	server.SetReadOnly(t, false)
	s.recovered()
}

// A primary that cannot save refuses writes, and is the primary still.
func TestOutage_RedisFull(t *testing.T) {
	server := redistest.Standalone(t)
	open := impatient(tokens.RedisOptions{URL: server.URL()})
	s := newScene(t, node(t, open), node(t, open))
	c := newCrowd(t)
	c.valid("a", s.a, s.known.Value)
	require.NoError(t, server.Client().ConfigSet(t.Context(), "maxmemory", "1").Err())
	storetest.Eventually(t, "the feed is stale", func() bool { return !s.a.Fresh() })
	_, err := s.a.Issue(t.Context(), tokens.Grant{Application: s.app, Mail: "new@example.org", Scopes: s.app.Scopes})
	requireStorm(t, err)
	for _, tok := range []*tokens.Token{s.known, s.unknown} {
		patiently(t, "what is valid is accepted", func() error { _, err := s.a.Verify(t.Context(), tok.Value); return err })
	}
	require.NoError(t, server.Client().ConfigSet(t.Context(), "maxmemory", "0").Err())
	c.leave()
	s.recovered()
}

// An emptied Redis closes everything, on all of several gateways: the first one
// to see it must not hide it from the others.
func TestOutage_Flushed(t *testing.T) {
	server := redistest.Standalone(t)
	open := impatient(tokens.RedisOptions{URL: server.URL()})
	s := newScene(t, node(t, open), node(t, open))
	_, err := s.b.Verify(t.Context(), s.known.Value)
	require.NoError(t, err)
	server.FlushAll(t)
	for _, n := range []*tokens.Authority{s.a, s.b} {
		for _, tok := range []*tokens.Token{s.known, s.unknown} {
			storetest.Eventually(t, "no token is valid any more", func() bool {
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

// The feed is broken while Redis answers everything else.
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
			s := newScene(t,
				node(t, impatient(tokens.RedisOptions{URL: proxy.URL()})),
				node(t, impatient(tokens.RedisOptions{URL: server.URL()})))
			c := newCrowd(t)
			c.valid("deaf", s.a, s.known.Value)
			fault.begin(t, server, proxy)
			require.NoError(t, s.b.RevokeToken(t.Context(), s.doomed.Value))
			c.revoked("deaf", s.a, s.doomed.Value, time.Now())
			storetest.Eventually(t, "the revocation is seen", func() bool {
				_, err := s.a.Verify(t.Context(), s.doomed.Value)
				return errors.Is(err, tokens.ErrTokenInvalid)
			})
			if name != "cut once" {
				storetest.Eventually(t, "the feed is known to be broken", func() bool { return !s.a.Fresh() })
			}
			for _, tok := range []*tokens.Token{s.known, s.unknown} {
				patiently(t, "what is valid is accepted all the same", func() error { _, err := s.a.Verify(t.Context(), tok.Value); return err })
			}
			fault.end(t, server, proxy)
			c.leave()
			s.recovered()
		})
	}
}

// revocations are all the ways to end a token.
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

// What was revoked stays so when Redis is set back to before: the gateways write
// the lost changes again.
func TestOutage_RestoredFromOldSnapshot(t *testing.T) {
	for name, revoke := range revocations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Standalone(t)
			open := impatient(tokens.RedisOptions{URL: server.URL()})
			s := newScene(t, node(t, open), node(t, open))
			old := server.SaveSnapshot(t)
			if name == "before" {
				time.Sleep(time.Until(s.doomedSecond())) // instants in tokens are whole seconds
			}
			require.NoError(t, revoke(s.b, s.app, s.doomed))
			// As few as one change later, so that the number alone shows nothing.
			other, _ := storetest.App(t, s.b)
			late := storetest.Issue(t, s.b, other, "late@example.org")
			storetest.Eventually(t, "all have heard", func() bool { return s.a.Status(t.Context()).Feed.Changes == s.b.Status(t.Context()).Feed.Changes })

			for _, n := range []*tokens.Authority{s.a, s.b} {
				storetest.Eventually(t, "the token is refused", func() bool {
					_, err := n.Verify(t.Context(), s.doomed.Value)
					return err != nil && !isStorm(err)
				})
			}
			// From here on it was revoked long ago, for both.
			c := newCrowd(t)
			c.revoked("a", s.a, s.doomed.Value, time.Time{})
			c.revoked("b", s.b, s.doomed.Value, time.Time{})
			server.RestoreSnapshot(t, old)
			for _, n := range []*tokens.Authority{s.a, s.b} {
				storetest.Eventually(t, "the feed is fresh again", n.Fresh)
			}
			storetest.Eventually(t, "it is written again", func() bool {
				_, err := s.a.Inspect(t.Context(), s.doomed.Value)
				return errors.Is(err, tokens.ErrTokenInvalid) || errors.Is(err, tokens.ErrInactiveApplication)
			})
			if name != "before" { // instants in tokens are whole seconds
				patiently(t, "what was made a moment ago is made again", func() error {
					_, err := s.a.Verify(t.Context(), late.Value)
					return err
				})
			}
			if name == "disabled" || name == "deleted" {
				// Not said before all gateways have written again what they remember.
				storetest.Eventually(t, "the application is inactive", func() bool {
					_, _, err := s.a.Authenticate(t.Context(), s.app.ID, s.secret)
					require.Error(t, err)
					return errors.Is(err, tokens.ErrInactiveApplication)
				})
			}
		})
	}
}

// doomedSecond is when a whole second has passed since the tokens were issued.
func (s *scene) doomedSecond() time.Time { return time.Now().Truncate(time.Second).Add(time.Second) }

// A gateway that knows that changes are missing and not which, since it has just
// started, ends everything that was issued.
func TestOutage_RestoredAndNobodyRemembers(t *testing.T) {
	server := redistest.Standalone(t)
	open := impatient(tokens.RedisOptions{URL: server.URL()})
	first := node(t, open)
	s := newScene(t, first, first)
	old := server.SaveSnapshot(t)
	require.NoError(t, first.RevokeToken(t.Context(), s.doomed.Value))
	require.NoError(t, first.Close())

	second := node(t, open)
	storetest.Eventually(t, "it has heard how many changes there are", func() bool { return second.Status(t.Context()).Feed.Changes > 0 })
	server.RestoreSnapshot(t, old)
	for _, tok := range []*tokens.Token{s.doomed, s.known} {
		storetest.Eventually(t, "everything is revoked", func() bool {
			_, err := second.Verify(t.Context(), tok.Value)
			return errors.Is(err, tokens.ErrTokenInvalid)
		})
	}
	s.a, s.b = second, second
	s.recovered()
}

// A slot moves, with the keys in it, while everything is in use.
func TestOutage_ClusterSlotMoves(t *testing.T) {
	cluster := redistest.Cluster(t)
	open := impatient(tokens.RedisOptions{Addresses: cluster.Addrs(), Cluster: true})
	s := newScene(t, node(t, open), node(t, open))
	c := newCrowd(t)
	c.valid("a", s.a, s.known.Value)
	c.valid("b", s.b, s.unknown.Value)
	c.loop(func() string {
		tok, err := s.a.Issue(context.Background(), tokens.Grant{Application: s.app, Mail: "moving@example.org", Scopes: s.app.Scopes})
		if err != nil {
			if isStorm(err) {
				return ""
			}
			return "issuing: " + err.Error()
		}
		if _, err := s.b.Verify(context.Background(), tok.Value); err != nil && !isStorm(err) {
			return "a token just issued was refused: " + err.Error()
		}
		if err := s.b.RevokeToken(context.Background(), tok.Value); err != nil {
			if isStorm(err) {
				return ""
			}
			return "revoking: " + err.Error()
		}
		if _, err := s.b.Verify(context.Background(), tok.Value); err == nil {
			return "a token was accepted where it was revoked"
		}
		return ""
	})
	for _, key := range []string{"mg1:feed", "mg1:inst", "mg1:a:" + s.app.ID} {
		move := cluster.BeginSlotMove(t, cluster.Slot(t, key))
		move.Finish(t)
	}
	c.leave()
	s.recovered()
}

// A failover happens while everything is in use. What was acknowledged by the
// former primary alone may be lost; the gateways write it again.
func TestOutage_SentinelFailover(t *testing.T) {
	for name, failover := range map[string]func(*testing.T, *redistest.SentinelServers){
		"by order": func(t *testing.T, g *redistest.SentinelServers) { g.Failover(t) },
		"primary killed": func(t *testing.T, g *redistest.SentinelServers) {
			former := g.Master(t)
			former.Kill(t)
			g.AwaitFailover(t, former)
		},
	} {
		for _, wait := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, waiting for %d replicas", name, wait), func(t *testing.T) {
				group := redistest.Sentinel(t)
				open := impatient(tokens.RedisOptions{Addresses: group.Addrs(), MasterName: redistest.MasterName, WaitReplicas: wait})
				s := newScene(t, node(t, open), node(t, open))
				require.NoError(t, s.a.RevokeToken(t.Context(), s.doomed.Value))
				c := newCrowd(t)
				c.valid("a", s.a, s.known.Value)
				c.valid("b", s.b, s.unknown.Value)
				c.revoked("b", s.b, s.doomed.Value, time.Now())
				var mu sync.Mutex
				var minted, revoked []string
				c.loop(func() string {
					tok, err := s.a.Issue(context.Background(), tokens.Grant{Application: s.app, Mail: "busy@example.org", Scopes: s.app.Scopes})
					if err != nil {
						if isStorm(err) {
							return ""
						}
						return "issuing: " + err.Error()
					}
					mu.Lock()
					defer mu.Unlock()
					if len(minted)%2 == 0 {
						minted = append(minted, tok.Value)
						return ""
					}
					switch err := s.b.RevokeToken(context.Background(), tok.Value); {
					case err == nil:
						revoked = append(revoked, tok.Value)
						minted = append(minted, "")
					case isStorm(err):
					default:
						return "revoking: " + err.Error()
					}
					return ""
				})
				failover(t, group)
				if name == "primary killed" && wait > 0 {
					for _, d := range group.Data { // or there is no replica to wait for
						if !d.Running() {
							d.Start(t)
						}
					}
				}
				for _, n := range []*tokens.Authority{s.a, s.b} {
					storetest.Eventually(t, "the feed is fresh again", n.Fresh)
				}
				c.leave()
				s.recovered()
				for _, raw := range minted {
					if raw != "" {
						patiently(t, "no token that was given is lost", func() error { _, err := s.b.Verify(t.Context(), raw); return err })
					}
				}
				for _, raw := range revoked {
					for _, n := range []*tokens.Authority{s.a, s.b} {
						_, err := n.Inspect(t.Context(), raw)
						require.Error(t, err, "no revocation that was acknowledged is lost")
						require.NotErrorIs(t, err, tokens.ErrUnavailable)
					}
				}
			})
		}
	}
}

// A replica that has not got a revocation must not be taken for one that has.
func TestWaitReplicas_NeverConfirmsWhatTheyLack(t *testing.T) {
	group := redistest.Sentinel(t)
	open := impatient(tokens.RedisOptions{Addresses: group.Addrs(), MasterName: redistest.MasterName, WaitReplicas: 1})
	s := newScene(t, node(t, open), node(t, open))
	require.NoError(t, s.a.RevokeToken(t.Context(), s.doomed.Value))
	for _, d := range group.Data {
		if d != group.Master(t) {
			d.Pause(t)
			t.Cleanup(func() { d.Resume(t) })
		}
	}
	// Many, over many connections of the pool: none may be confirmed.
	for range 20 {
		requireStorm(t, s.a.RevokeToken(t.Context(), s.unknown.Value))
	}
}

// A reply that belongs to somebody else's question is not an identity.
func TestVerify_CrossedReplies(t *testing.T) {
	server := redistest.Standalone(t)
	s := newScene(t, node(t, opener(tokens.RedisOptions{URL: server.URL()})), node(t, opener(tokens.RedisOptions{URL: server.URL()})))
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
	_, err = s.b.Inspect(ctx, s.known.Value)
	require.ErrorIs(t, err, tokens.ErrTokenInvalid)
	require.Equal(t, "record_mismatch", tokens.Reason(err))
	for i, k := range keys {
		require.NoError(t, client.SetArgs(ctx, k, values[i], redis.SetArgs{KeepTTL: true}).Err())
	}
	_, err = s.b.Inspect(ctx, s.known.Value)
	require.NoError(t, err)

	// Another application's record, another user's record.
	doc := client.HGet(ctx, "mg1:a:"+mallory.ID, "d").Val()
	require.True(t, json.Valid([]byte(doc)))
	own := client.HGet(ctx, "mg1:a:"+s.app.ID, "d").Val()
	require.NoError(t, client.HSet(ctx, "mg1:a:"+s.app.ID, "d", doc).Err())
	_, err = s.b.Inspect(ctx, s.known.Value)
	requireStorm(t, err)
	other := node(t, opener(tokens.RedisOptions{URL: server.URL()})) // which remembers nothing
	_, _, err = other.Authenticate(ctx, s.app.ID, s.secret)
	requireStorm(t, err)
	require.NoError(t, client.HSet(ctx, "mg1:a:"+s.app.ID, "d", own).Err())
	u, err := s.b.User(ctx, "known@example.org")
	require.NoError(t, err)
	v, err := s.b.User(ctx, "doomed@example.org")
	require.NoError(t, err)
	require.NoError(t, client.HSet(ctx, "mg1:u:"+u.ID, "m", client.HGet(ctx, "mg1:u:"+v.ID, "m").Val()).Err())
	_, err = s.b.Inspect(ctx, s.known.Value)
	requireStorm(t, err)
}
