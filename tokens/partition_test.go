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

// cutSentinels returns a way to the Sentinels that can be cut.
func cutSentinels(t *testing.T, group *redistest.SentinelServers) (addrs []string, each func(func(*redistest.Proxy))) {
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

func watchedBy(addrs ...string) storetest.Opener {
	return impatient(tokens.RedisOptions{Addresses: addrs, MasterName: redistest.MasterName})
}

// A gateway is cut off together with the old primary from most of the Sentinels,
// and these replace it. The old primary takes writes as before and the Sentinels
// that are reached, if any, have heard of nothing: all that tells is that its
// replica has left it.
func TestOutage_CutOffWithTheOldPrimary(t *testing.T) {
	for name, reached := range map[string]bool{"and no Sentinel": false, "and one Sentinel of four": true} {
		for fault, cut := range map[string]func(*redistest.Proxy){
			"cut off": func(p *redistest.Proxy) { p.Cut(t) },
			"silent":  func(p *redistest.Proxy) { p.Silent(t) },
		} {
			t.Run(name+", "+fault, func(t *testing.T) {
				group := redistest.Sentinel(t)
				addrs, each := cutSentinels(t, group)
				if reached {
					addrs = append(addrs, group.Deaf(t).Addr())
				}
				s := newScene(t, node(t, watchedBy(addrs...)), node(t, watchedBy(group.Addrs()...)))
				ctx := t.Context()

				each(cut)
				// Nothing else is wrong: the replica vouches for the primary.
				patiently(t, "the gateway goes on", func() error { return s.a.Ready(ctx) })
				storetest.Eventually(t, "and answers from memory", s.a.Fresh)
				tok := new(tokens.Token)
				patiently(t, "and issues", func() (err error) {
					tok, err = s.a.Issue(ctx, tokens.Grant{Application: s.app, Mail: "alone@example.org", Scopes: s.app.Scopes})
					return err
				})
				patiently(t, "and knows what others issue", func() error { _, err := s.a.Verify(ctx, s.unknown.Value); return err })
				storetest.Eventually(t, "and refuses who is wrong", func() bool {
					_, _, err := s.a.Authenticate(ctx, s.app.ID, "wrong")
					require.Error(t, err)
					return errors.Is(err, tokens.ErrInvalidClient)
				})

				c := newCrowd(t)
				c.valid("cut off", s.a, s.known.Value)
				c.valid("cut off", s.a, tok.Value)
				former, master, demote := group.Depose(t)
				storetest.Eventually(t, "the other gateway uses the new primary", func() bool {
					before := master.Client().DBSize(ctx).Val()
					_, err := s.b.Issue(ctx, tokens.Grant{Application: s.app, Mail: "ahead@example.org", Scopes: s.app.Scopes})
					return err == nil && master.Client().DBSize(ctx).Val() > before
				})
				app, secret := storetest.App(t, s.b, func(n *tokens.Application) { n.Refresh = true })
				fresh := storetest.Issue(t, s.b, app, "ahead@example.org")
				require.NoError(t, s.b.RevokeToken(ctx, s.doomed.Value))
				c.revoked("cut off", s.a, s.doomed.Value, time.Now())
				c.valid("cut off", s.a, fresh.Value)
				c.valid("well", s.b, fresh.Value)

				// From the first moment on nobody is turned away for what the old primary
				// says, and nothing is acknowledged that only it has.
				_, _, err := s.a.Authenticate(ctx, app.ID, secret)
				requireStorm(t, err)
				_, err = s.a.Inspect(ctx, fresh.Refresh)
				requireStorm(t, err)
				_, err = s.a.Refresh(ctx, app, fresh.Refresh)
				requireStorm(t, err)
				_, err = s.a.CurrentApplication(ctx, app.ID)
				requireStorm(t, err)
				_, err = s.a.User(ctx, "ahead@example.org")
				requireStorm(t, err)
				_, err = s.a.Adopt(ctx, "a-stranger", "secret", func(context.Context) (tokens.Application, error) {
					return tokens.Application{}, tokens.ErrInvalidClient
				})
				requireStorm(t, err)
				_, err = s.a.BeginIdempotent(ctx, app.ID, "user", "key", [32]byte{})
				requireStorm(t, err)
				_, err = s.a.Issue(ctx, tokens.Grant{Application: s.app, Mail: "alone@example.org", Scopes: s.app.Scopes})
				requireStorm(t, err)
				requireStorm(t, s.a.RevokeUser(ctx, "unknown@example.org"))

				storetest.Eventually(t, "it is not believed after the bound", func() bool {
					_, err := s.a.Verify(ctx, s.known.Value)
					return isStorm(err)
				})
				require.Equal(t, "master", former.Client().Do(ctx, "ROLE").Val().([]any)[0], "the old primary is still one")
				_, err = s.a.Verify(ctx, s.unknown.Value)
				requireStorm(t, err)
				_, _, err = s.a.Authenticate(ctx, s.app.ID, "wrong")
				requireStorm(t, err)

				each(func(p *redistest.Proxy) { p.Restore(t) })
				demote()
				s.recovered()
				c.leave()
				patiently(t, "the new application is known", func() error { _, _, err := s.a.Authenticate(ctx, app.ID, secret); return err })
				patiently(t, "its token is valid", func() error { _, err := s.a.Verify(ctx, fresh.Value); return err })
				patiently(t, "nothing is lost that was acknowledged", func() error { _, err := s.b.Verify(ctx, tok.Value); return err })
				_, err = s.a.Verify(ctx, s.doomed.Value)
				require.ErrorIs(t, err, tokens.ErrTokenInvalid)
			})
		}
	}
}

// Right after a failover, what was made at the new primary is unknown to a gateway
// that still asks the old one. It must not say so.
func TestOutage_NobodyIsRefusedByTheOldPrimary(t *testing.T) {
	group := redistest.Sentinel(t)
	addrs, each := cutSentinels(t, group)
	// No heartbeat comes to help: it is the refusal itself that asks.
	slow := func(o *tokens.Options) { o.Staleness = time.Hour }
	behind := storetest.Node(t, watchedBy(addrs...), slow)
	ahead := node(t, watchedBy(group.Addrs()...))
	ctx := t.Context()
	app, secret := storetest.App(t, ahead)
	patiently(t, "the application is known", func() error { _, _, err := behind.Authenticate(ctx, app.ID, secret); return err })
	tok := storetest.Issue(t, ahead, app, "alice@example.org")
	patiently(t, "its token is known", func() error { _, err := behind.Verify(ctx, tok.Value); return err })
	off := func(active bool) {
		patiently(t, "it is switched", func() error {
			_, err := ahead.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error { n.Active = active; return nil })
			return err
		})
	}
	off(false)
	storetest.Eventually(t, "that is known", func() bool {
		_, err := behind.Verify(ctx, tok.Value)
		return errors.Is(err, tokens.ErrInactiveApplication)
	})

	each(func(p *redistest.Proxy) { p.Silent(t) }) // so that no announcement is heard
	_, master, demote := group.Depose(t)
	storetest.Eventually(t, "the other gateway uses the new primary", func() bool {
		before := master.Client().DBSize(ctx).Val()
		_, err := ahead.Issue(ctx, tokens.Grant{Application: app, Mail: "ahead@example.org", Scopes: app.Scopes})
		return err == nil && master.Client().DBSize(ctx).Val() > before
	})
	off(true)
	rotated := ""
	patiently(t, "the secret is rotated", func() (err error) { _, rotated, err = ahead.RotateSecret(ctx, app.ID, 0, time.Hour); return err })
	another, anothers := storetest.App(t, ahead)
	for _, silent := range []bool{true, false} {
		if !silent {
			each(func(p *redistest.Proxy) { p.Restore(t) })
		}
		for what, login := range map[string]func() error{
			"a new secret":          func() error { _, _, err := behind.Authenticate(ctx, app.ID, rotated); return err },
			"the old one":           func() error { _, _, err := behind.Authenticate(ctx, app.ID, secret); return err },
			"a new application":     func() error { _, _, err := behind.Authenticate(ctx, another.ID, anothers); return err },
			"one that is active":    func() error { _, err := behind.Verify(ctx, tok.Value); return err },
			"one that is looked at": func() error { _, err := behind.CurrentApplication(ctx, another.ID); return err },
		} {
			if silent {
				requireStorm(t, login())
			} else {
				patiently(t, what, login)
			}
		}
	}
	storetest.Eventually(t, "who is wrong is refused", func() bool {
		_, _, err := behind.Authenticate(ctx, app.ID, "wrong")
		require.Error(t, err)
		return errors.Is(err, tokens.ErrInvalidClient) || isStorm(err)
	})
	demote()
}

// What a gateway wrote to the old primary was not acknowledged, and is done anew at
// the new one. When the gateway gets there, it must not write its own over that.
func TestOutage_WhatIsDoneAnewStays(t *testing.T) {
	group := redistest.Sentinel(t)
	addrs, each := cutSentinels(t, group)
	// It finds the new primary when it is asked, and not before.
	behind := storetest.Node(t, watchedBy(addrs...), func(o *tokens.Options) { o.Staleness = time.Hour })
	ahead := node(t, watchedBy(group.Addrs()...))
	ctx := t.Context()
	app, _ := storetest.App(t, ahead)
	storetest.Issue(t, ahead, app, "alice@example.org")
	patiently(t, "the user is known", func() error { _, err := behind.User(ctx, "alice@example.org"); return err })

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
	storetest.Eventually(t, "the old primary takes changes", func() bool {
		_, _, err := behind.RotateSecret(ctx, app.ID, 0, 0)
		requireStorm(t, err)
		requireStorm(t, behind.RevokeApplication(ctx, app.ID))
		return version(former) > app.Version+3
	})
	var secret string
	patiently(t, "the secret is rotated", func() (err error) { _, secret, err = ahead.RotateSecret(ctx, app.ID, 0, 0); return err })
	patiently(t, "the tokens are revoked", func() error { return ahead.RevokeApplication(ctx, app.ID) })
	var tok *tokens.Token
	patiently(t, "a token is issued", func() (err error) {
		app, _, err = ahead.Authenticate(ctx, app.ID, secret)
		if err == nil {
			tok, err = ahead.Issue(ctx, tokens.Grant{Application: app, Mail: "alice@example.org", Scopes: app.Scopes})
		}
		return err
	})
	is := version(master)

	each(func(p *redistest.Proxy) { p.Restore(t) })
	demote()
	patiently(t, "the gateway finds the new primary", func() error { return behind.Ready(ctx) })
	patiently(t, "the new secret is right", func() error { _, _, err := behind.Authenticate(ctx, app.ID, secret); return err })
	patiently(t, "the new token is valid", func() error { _, err := behind.Verify(ctx, tok.Value); return err })
	require.Equal(t, is, version(master))
	patiently(t, "for the other gateway too", func() error { _, err := ahead.Inspect(ctx, tok.Value); return err })
}

// Sentinels are away and so is the replica: the primary may have been replaced.
// It comes back by itself with either of them.
func TestOutage_SentinelsAndReplicaAway(t *testing.T) {
	group := redistest.Sentinel(t)
	addrs, each := cutSentinels(t, group)
	a := node(t, watchedBy(addrs...))
	app, _ := storetest.App(t, a)
	tok := storetest.Issue(t, a, app, "alice@example.org")
	var replica *redistest.Server
	for _, d := range group.Data {
		if d != group.Master(t) {
			replica = d
		}
	}
	c := newCrowd(t)
	c.valid("a", a, tok.Value)
	lost := func() {
		storetest.Eventually(t, "nobody vouches for the primary", func() bool { return isStorm(a.Ready(t.Context())) })
		storetest.Eventually(t, "and it is not believed", func() bool { _, err := a.Verify(t.Context(), tok.Value); return isStorm(err) })
	}
	well := func(why string) {
		storetest.Eventually(t, why, func() bool { return a.Ready(t.Context()) == nil && a.Fresh() })
	}
	each(func(p *redistest.Proxy) { p.Cut(t) })
	well("the replica vouches for it")
	replica.Pause(t)
	lost()
	each(func(p *redistest.Proxy) { p.Restore(t) })
	well("the Sentinels vouch for it")
	each(func(p *redistest.Proxy) { p.Silent(t) })
	lost()
	replica.Resume(t)
	well("the replica vouches for it again")
	replica.Kill(t)
	lost()
	each(func(p *redistest.Proxy) { p.Restore(t) })
	well("the Sentinels vouch for it again")
}
