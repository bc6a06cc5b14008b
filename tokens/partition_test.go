// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// proxiedSentinels puts a proxy in front of each Sentinel. It returns their addresses and a
// function that runs for each proxy.
func proxiedSentinels(t *testing.T, group *redistest.SentinelServers) (addrs []string, each func(func(*redistest.Proxy))) {
	var proxies []*redistest.Proxy
	for _, s := range group.Sentinels {
		p := redistest.Proxied(t, s)
		proxies = append(proxies, p)
		addrs = append(addrs, p.Addr())
	}
	return addrs, func(do func(*redistest.Proxy)) {
		for _, p := range proxies {
			do(p)
		}
	}
}

func sentinelOpener(addrs ...string) storetest.Opener {
	return shortTimeout(tokens.RedisOptions{Addresses: addrs, MasterName: redistest.MasterName})
}

// A gateway is partitioned together with the old primary from most of the Sentinels, which
// elect a new primary. The old primary still accepts writes, and a Sentinel that the
// gateway reaches knows nothing of the election. The gateway notices only because the
// replica has left the old primary.
func TestOutage_PartitionedWithOldPrimary(t *testing.T) {
	for name, reached := range map[string]bool{"from all Sentinels": false, "from three of four Sentinels": true} {
		for fault, cut := range map[string]func(*redistest.Proxy){
			"unreachable": func(p *redistest.Proxy) { p.Cut(t) },
			"silent":      func(p *redistest.Proxy) { p.Silent(t) },
		} {
			t.Run(name+", "+fault, func(t *testing.T) {
				group := redistest.Sentinel(t)
				addrs, each := proxiedSentinels(t, group)
				if reached {
					addrs = append(addrs, group.Deaf(t).Addr())
				}
				s := newFixture(t, newGateway(t, sentinelOpener(addrs...)), newGateway(t, sentinelOpener(group.Addrs()...)))
				ctx := t.Context()

				each(cut)
				// Before the failover the replica confirms the primary, so the gateway works as usual.
				retry(t, "the gateway is ready", func() error { return s.a.Ready(ctx) })
				storetest.Eventually(t, "the gateway answers from memory", s.a.Fresh)
				tok := new(tokens.Token)
				retry(t, "the gateway issues a token", func() (err error) {
					tok, err = s.a.Issue(ctx, tokens.Grant{Application: s.app, Mail: "alone@example.org", Scopes: s.app.Scopes})
					return err
				})
				retry(t, "the gateway accepts a token of another gateway", func() error { _, err := s.a.Verify(ctx, s.uncached.Value); return err })
				storetest.Eventually(t, "the gateway refuses a wrong secret", func() bool {
					_, _, err := s.a.Authenticate(ctx, s.app.ID, "wrong")
					require.Error(t, err)
					return errors.Is(err, tokens.ErrInvalidClient)
				})

				c := newTraffic(t)
				c.valid("partitioned", s.a, s.cached.Value)
				c.valid("partitioned", s.a, tok.Value)
				former, master, demote := group.Depose(t)
				storetest.Eventually(t, "the other gateway uses the new primary", func() bool {
					before := master.Client().DBSize(ctx).Val()
					_, err := s.b.Issue(ctx, tokens.Grant{Application: s.app, Mail: "ahead@example.org", Scopes: s.app.Scopes})
					return err == nil && master.Client().DBSize(ctx).Val() > before
				})
				app, secret := storetest.App(t, s.b, func(n *tokens.Application) { n.Refresh = true })
				fresh := storetest.Issue(t, s.b, app, "ahead@example.org")
				require.NoError(t, s.b.RevokeToken(ctx, s.toRevoke.Value))
				c.revoked("partitioned", s.a, s.toRevoke.Value, time.Now())
				c.valid("partitioned", s.a, fresh.Value)
				c.valid("connected", s.b, fresh.Value)

				// From the start of the failover, the gateway refuses no request because of data on the
				// old primary, and acknowledges no write that only the old primary has.
				_, _, err := s.a.Authenticate(ctx, app.ID, secret)
				requireUnavailable(t, err)
				_, err = s.a.Inspect(ctx, fresh.Refresh)
				requireUnavailable(t, err)
				_, err = s.a.Refresh(ctx, app, fresh.Refresh)
				requireUnavailable(t, err)
				_, err = s.a.CurrentApplication(ctx, app.ID)
				requireUnavailable(t, err)
				_, err = s.a.User(ctx, "ahead@example.org")
				requireUnavailable(t, err)
				_, err = s.a.Adopt(ctx, "a-stranger", "secret", func(context.Context) (tokens.Application, error) {
					return tokens.Application{}, tokens.ErrInvalidClient
				})
				requireUnavailable(t, err)
				_, err = s.a.BeginIdempotent(ctx, app.ID, "user", "key", [32]byte{})
				requireUnavailable(t, err)
				_, err = s.a.Issue(ctx, tokens.Grant{Application: s.app, Mail: "alone@example.org", Scopes: s.app.Scopes})
				requireUnavailable(t, err)
				requireUnavailable(t, s.a.RevokeUser(ctx, "unknown@example.org"))

				storetest.Eventually(t, "after the staleness bound the gateway stops answering from memory", func() bool {
					_, err := s.a.Verify(ctx, s.cached.Value)
					return isUnavailable(err)
				})
				require.Equal(t, "master", former.Client().Do(ctx, "ROLE").Val().([]any)[0], "the old primary still reports itself as a master")
				_, err = s.a.Verify(ctx, s.uncached.Value)
				requireUnavailable(t, err)
				_, _, err = s.a.Authenticate(ctx, s.app.ID, "wrong")
				requireUnavailable(t, err)

				each(func(p *redistest.Proxy) { p.Restore(t) })
				demote()
				s.recovered()
				c.end()
				retry(t, "the new application can log in", func() error { _, _, err := s.a.Authenticate(ctx, app.ID, secret); return err })
				retry(t, "its token is accepted", func() error { _, err := s.a.Verify(ctx, fresh.Value); return err })
				retry(t, "no acknowledged token is lost", func() error { _, err := s.b.Verify(ctx, tok.Value); return err })
				_, err = s.a.Verify(ctx, s.toRevoke.Value)
				require.ErrorIs(t, err, tokens.ErrTokenInvalid)
			})
		}
	}
}

// A gateway that still uses the old primary after a failover lacks changes made at the new
// primary. It answers that the store is unavailable instead of refusing.
func TestOutage_NoRefusalFromOldPrimary(t *testing.T) {
	group := redistest.Sentinel(t)
	addrs, each := proxiedSentinels(t, group)
	// Without heartbeats, the refusal itself has to confirm the primary.
	slow := func(o *tokens.Options) { o.Staleness = time.Hour }
	behind := storetest.Node(t, sentinelOpener(addrs...), slow)
	ahead := newGateway(t, sentinelOpener(group.Addrs()...))
	ctx := t.Context()
	app, secret := storetest.App(t, ahead)
	retry(t, "the application can log in", func() error { _, _, err := behind.Authenticate(ctx, app.ID, secret); return err })
	tok := storetest.Issue(t, ahead, app, "alice@example.org")
	retry(t, "its token is accepted", func() error { _, err := behind.Verify(ctx, tok.Value); return err })
	setActive := func(active bool) {
		retry(t, "the application is updated", func() error {
			_, err := ahead.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error { n.Active = active; return nil })
			return err
		})
	}
	setActive(false)
	storetest.Eventually(t, "the other gateway refuses the inactive application", func() bool {
		_, err := behind.Verify(ctx, tok.Value)
		return errors.Is(err, tokens.ErrInactiveApplication)
	})

	each(func(p *redistest.Proxy) { p.Silent(t) }) // so that no announcement arrives
	_, master, demote := group.Depose(t)
	storetest.Eventually(t, "the other gateway uses the new primary", func() bool {
		before := master.Client().DBSize(ctx).Val()
		_, err := ahead.Issue(ctx, tokens.Grant{Application: app, Mail: "ahead@example.org", Scopes: app.Scopes})
		return err == nil && master.Client().DBSize(ctx).Val() > before
	})
	setActive(true)
	rotated := ""
	retry(t, "the secret is rotated", func() (err error) { _, rotated, err = ahead.RotateSecret(ctx, app.ID, 0, time.Hour); return err })
	another, anotherSecret := storetest.App(t, ahead)
	for _, silent := range []bool{true, false} {
		if !silent {
			each(func(p *redistest.Proxy) { p.Restore(t) })
		}
		for what, login := range map[string]func() error{
			"a new secret":                     func() error { _, _, err := behind.Authenticate(ctx, app.ID, rotated); return err },
			"the old secret":                   func() error { _, _, err := behind.Authenticate(ctx, app.ID, secret); return err },
			"a new application":                func() error { _, _, err := behind.Authenticate(ctx, another.ID, anotherSecret); return err },
			"a token of an active application": func() error { _, err := behind.Verify(ctx, tok.Value); return err },
			"a lookup of a new application":    func() error { _, err := behind.CurrentApplication(ctx, another.ID); return err },
		} {
			if silent {
				requireUnavailable(t, login())
			} else {
				retry(t, what, login)
			}
		}
	}
	storetest.Eventually(t, "a wrong secret is refused", func() bool {
		_, _, err := behind.Authenticate(ctx, app.ID, "wrong")
		require.Error(t, err)
		return errors.Is(err, tokens.ErrInvalidClient) || isUnavailable(err)
	})
	demote()
}

// Writes to the old primary are not acknowledged, and the client repeats them at the new
// one. The gateway must not replay its own version over them.
func TestOutage_RepeatedWritesSurviveReplay(t *testing.T) {
	group := redistest.Sentinel(t)
	addrs, each := proxiedSentinels(t, group)
	// Without heartbeats it looks for the new primary only when a request needs it.
	behind := storetest.Node(t, sentinelOpener(addrs...), func(o *tokens.Options) { o.Staleness = time.Hour })
	ahead := newGateway(t, sentinelOpener(group.Addrs()...))
	ctx := t.Context()
	app, _ := storetest.App(t, ahead)
	storetest.Issue(t, ahead, app, "alice@example.org")
	retry(t, "the user is cached", func() error { _, err := behind.User(ctx, "alice@example.org"); return err })

	each(func(p *redistest.Proxy) { p.Silent(t) })
	former, master, demote := group.Depose(t)
	storetest.Eventually(t, "the other gateway uses the new primary", func() bool {
		before := master.Client().DBSize(ctx).Val()
		_, err := ahead.Issue(ctx, tokens.Grant{Application: app, Mail: "ahead@example.org", Scopes: app.Scopes})
		return err == nil && master.Client().DBSize(ctx).Val() > before
	})
	version := func(n *redistest.Server) int64 {
		v, _ := n.Client().HGet(ctx, "mg1:a:"+app.ID, "v").Int64()
		return v
	}
	storetest.Eventually(t, "the old primary accepts writes", func() bool {
		_, _, err := behind.RotateSecret(ctx, app.ID, 0, 0)
		requireUnavailable(t, err)
		requireUnavailable(t, behind.RevokeApplication(ctx, app.ID))
		return version(former) > app.Version+3
	})
	var secret string
	retry(t, "the secret is rotated", func() (err error) { _, secret, err = ahead.RotateSecret(ctx, app.ID, 0, 0); return err })
	retry(t, "the tokens are revoked", func() error { return ahead.RevokeApplication(ctx, app.ID) })
	var tok *tokens.Token
	retry(t, "a token is issued", func() (err error) {
		app, _, err = ahead.Authenticate(ctx, app.ID, secret)
		if err == nil {
			tok, err = ahead.Issue(ctx, tokens.Grant{Application: app, Mail: "alice@example.org", Scopes: app.Scopes})
		}
		return err
	})
	want := version(master)

	each(func(p *redistest.Proxy) { p.Restore(t) })
	demote()
	retry(t, "the gateway finds the new primary", func() error { return behind.Ready(ctx) })
	retry(t, "the new secret is accepted", func() error { _, _, err := behind.Authenticate(ctx, app.ID, secret); return err })
	retry(t, "the new token is accepted", func() error { _, err := behind.Verify(ctx, tok.Value); return err })
	require.Equal(t, want, version(master))
	retry(t, "the other gateway accepts the token", func() error { _, err := ahead.Inspect(ctx, tok.Value); return err })
}

// Without Sentinels and without the replica, nothing confirms that the primary is still
// the primary. The gateway recovers when either of them returns.
func TestOutage_SentinelsAndReplicaUnreachable(t *testing.T) {
	group := redistest.Sentinel(t)
	addrs, each := proxiedSentinels(t, group)
	a := newGateway(t, sentinelOpener(addrs...))
	app, _ := storetest.App(t, a)
	tok := storetest.Issue(t, a, app, "alice@example.org")
	var replica *redistest.Server
	for _, d := range group.Data {
		if d != group.Master(t) {
			replica = d
		}
	}
	c := newTraffic(t)
	c.valid("a", a, tok.Value)
	unconfirmed := func() {
		storetest.Eventually(t, "the gateway is not ready", func() bool { return isUnavailable(a.Ready(t.Context())) })
		storetest.Eventually(t, "the gateway stops answering from memory", func() bool { _, err := a.Verify(t.Context(), tok.Value); return isUnavailable(err) })
	}
	confirmed := func(why string) {
		storetest.Eventually(t, why, func() bool { return a.Ready(t.Context()) == nil && a.Fresh() })
	}
	each(func(p *redistest.Proxy) { p.Cut(t) })
	confirmed("the replica confirms the primary")
	replica.Pause(t)
	unconfirmed()
	each(func(p *redistest.Proxy) { p.Restore(t) })
	confirmed("the Sentinels confirm the primary")
	each(func(p *redistest.Proxy) { p.Silent(t) })
	unconfirmed()
	replica.Resume(t)
	confirmed("the replica confirms the primary again")
	replica.Kill(t)
	unconfirmed()
	each(func(p *redistest.Proxy) { p.Restore(t) })
	confirmed("the Sentinels confirm the primary again")
}
