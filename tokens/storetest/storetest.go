// SPDX-License-Identifier: MIT

// Package storetest says what the gateway relies on, whichever Redis is behind
// it. The same suite runs over the embedded store, a single server, a group
// watched by Sentinel and a Cluster.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/embedded"
)

// Secret is a good secret for tests.
var Secret = []byte("storetest-secret-0123456789abcdef")

// Opener opens the store under test. Every call is another client of the same
// Redis, as another gateway would be.
type Opener func(t *testing.T) *tokens.Store

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	for name, test := range map[string]func(*testing.T, Opener){
		"Applications":  testApplications,
		"Conflicts":     testConflicts,
		"Aliases":       testAliases,
		"Lists":         testLists,
		"Secrets":       testSecrets,
		"Users":         testUsers,
		"Tokens":        testTokens,
		"Revocations":   testRevocations,
		"TwoNodes":      testTwoNodes,
		"Refresh":       testRefresh,
		"RefreshRace":   testRefreshRace,
		"RefreshReuse":  testRefreshReuse,
		"MeetTokens":    testMeetTokens,
		"SecretRotated": testSecretRotated,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
	runMore(t, open)
}

// Node opens a store and starts an authority on it, as one gateway does.
func Node(t *testing.T, open Opener, change ...func(*tokens.Options)) *tokens.Authority {
	t.Helper()
	o := tokens.Options{Store: open(t), Secrets: [][]byte{Secret}}
	for _, c := range change {
		c(&o)
	}
	a, err := tokens.New(o)
	require.NoError(t, err)
	a.Start()
	t.Cleanup(func() {
		require.NoError(t, a.Close())
		require.NoError(t, o.Store.Close())
	})
	Eventually(t, "the feed is heard", a.Fresh)
	return a
}

// Eventually waits until the condition holds, and fails the test if it never does.
func Eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came true that %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// App registers an application that may do everything for example.org.
func App(t *testing.T, a *tokens.Authority, change ...func(*tokens.Application)) (*tokens.Application, string) {
	t.Helper()
	in := tokens.Application{
		Name: "Calendar", Active: true, Domains: []string{"example.org"},
		Scopes: tokens.Scopes{tokens.ScopeRoomsList, tokens.ScopeRoomsRetrieve, tokens.ScopeRoomsCreate},
	}
	for _, c := range change {
		c(&in)
	}
	app, secret, err := a.CreateApplication(t.Context(), in)
	require.NoError(t, err)
	return app, secret
}

// Issue issues a token for the application and the address.
func Issue(t *testing.T, a *tokens.Authority, app *tokens.Application, mail tokens.Mail) *tokens.Token {
	t.Helper()
	tok, err := a.Issue(t.Context(), tokens.Grant{Application: app, Mail: mail, BackendUserID: "b0b00000-0000-4000-8000-00000000000b", Scopes: app.Scopes})
	require.NoError(t, err)
	return tok
}

func testApplications(t *testing.T, open Opener) {
	ctx := t.Context()
	a := Node(t, open)
	app, secret := App(t, a, func(n *tokens.Application) {
		n.Domains = []string{"Example.ORG", ".example.net"}
		n.DeniedMails = []tokens.Mail{"Boss@example.org"}
		n.TokenLifetime = tokens.Duration(10 * time.Minute)
		n.RoomDefaults = tokens.RoomDefaults{AccessLevel: "restricted", Configuration: json.RawMessage(`{"everyone_can_mute":true}`)}
		n.Limits = map[string]string{"token": "10/1m"}
		n.Backend = &tokens.BackendCredentials{ClientID: "at-meet", ClientSecret: "at-meet-secret"}
		n.Note = "a note"
	})
	require.Regexp(t, `^[0-9A-Za-z]{32}$`, app.ID)
	require.True(t, tokens.ChecksumOK(secret))
	require.Equal(t, []string{"example.org", ".example.net"}, app.Domains)

	other := Node(t, open)
	read, err := other.Application(ctx, app.ID)
	require.NoError(t, err)
	require.Equal(t, app.Backend, read.Backend)
	require.Equal(t, app.RoomDefaults, read.RoomDefaults)
	require.Equal(t, "restricted", read.RoomDefaults.AccessLevel)
	require.Equal(t, app.TokenLifetime, read.TokenLifetime)
	require.Equal(t, app.DeniedMails, read.DeniedMails)
	shown, err := json.Marshal(read)
	require.NoError(t, err)
	require.NotContains(t, string(shown), "at-meet-secret")
	require.NotContains(t, string(shown), secret)
	require.NotContains(t, fmt.Sprintf("%+v %#v %v", read.Backend, read.Backend, *read.Backend), "at-meet-secret")

	_, err = a.Application(ctx, "00000000000000000000000000000000")
	require.ErrorIs(t, err, tokens.ErrNotFound)

	require.NoError(t, a.DeleteApplication(ctx, app.ID, 0))
	Eventually(t, "the other node has forgotten the application", func() bool {
		_, err := other.Application(ctx, app.ID)
		return errors.Is(err, tokens.ErrNotFound)
	})
	require.ErrorIs(t, a.DeleteApplication(ctx, app.ID, 0), tokens.ErrNotFound)
}

func testConflicts(t *testing.T, open Opener) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	app, _ := App(t, a)

	_, err := a.UpdateApplication(ctx, app.ID, app.Version, func(n *tokens.Application) error { n.Note = "first"; return nil })
	require.NoError(t, err)
	_, err = b.UpdateApplication(ctx, app.ID, app.Version, func(n *tokens.Application) error { n.Note = "second"; return nil })
	require.ErrorIs(t, err, tokens.ErrConflict)

	// Two admins at once, neither naming a version: nothing is lost.
	const each = 8
	var wg sync.WaitGroup
	for _, node := range []*tokens.Authority{a, b} {
		wg.Go(func() {
			for range each {
				_, err := node.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error {
					n.Domains = append(n.Domains, fmt.Sprintf("number-%d.example", len(n.Domains)))
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	Eventually(t, "both nodes see all changes", func() bool {
		x, errA := a.Application(ctx, app.ID)
		y, errB := b.Application(ctx, app.ID)
		return errA == nil && errB == nil && len(x.Domains) == 1+2*each && len(y.Domains) == 1+2*each
	})
	refused := errors.New("refused by the caller")
	_, err = a.UpdateApplication(ctx, app.ID, 0, func(*tokens.Application) error { return refused })
	require.ErrorIs(t, err, refused)
}

func testAliases(t *testing.T, open Opener) {
	ctx := t.Context()
	a := Node(t, open)
	app, secret := App(t, a, func(n *tokens.Application) { n.Aliases = []string{"550e8400-e29b-41d4-a716-446655440000"} })
	byAlias, err := a.Application(ctx, "550e8400-e29b-41d4-a716-446655440000")
	require.NoError(t, err)
	require.Equal(t, app.ID, byAlias.ID)
	found, _, err := a.Authenticate(ctx, "550e8400-e29b-41d4-a716-446655440000", secret)
	require.NoError(t, err)
	require.Equal(t, app.ID, found.ID)

	_, _, err = a.CreateApplication(ctx, tokens.Application{Name: "Thief", Aliases: []string{"mine", "550e8400-e29b-41d4-a716-446655440000"}})
	require.ErrorIs(t, err, tokens.ErrConflict)
	_, _, err = a.CreateApplication(ctx, tokens.Application{Name: "Shadow", Aliases: []string{app.ID}})
	require.ErrorIs(t, err, tokens.ErrConflict)
	_, err = a.Application(ctx, "mine")
	require.ErrorIs(t, err, tokens.ErrNotFound, "aliases taken on the way were given back")

	_, err = a.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error { n.Aliases = nil; return nil })
	require.NoError(t, err)
	_, err = a.Application(ctx, "550e8400-e29b-41d4-a716-446655440000")
	require.ErrorIs(t, err, tokens.ErrNotFound)
}

func testLists(t *testing.T, open Opener) {
	ctx := t.Context()
	a := Node(t, open)
	prefix := "List" + tokens.NewPassword()[:8]
	want := []string{}
	for i := range 7 {
		name := fmt.Sprintf("%s %d", prefix, i)
		App(t, a, func(n *tokens.Application) { n.Name = name })
		want = append(want, name)
	}
	var got []string
	o := tokens.ListOptions{Prefix: prefix, Limit: 3}
	for pages := 0; ; pages++ {
		require.Less(t, pages, 4)
		p, err := a.Applications(ctx, o)
		require.NoError(t, err)
		for _, app := range p.Applications {
			got = append(got, app.Name)
		}
		if p.Next == "" {
			break
		}
		o.After = p.Next
	}
	require.Equal(t, want, got)
}

func testSecrets(t *testing.T, open Opener) {
	ctx := t.Context()
	c := newClock()
	a := Node(t, open, func(o *tokens.Options) { o.Now = c.Now })
	app, first := App(t, a)

	_, info, err := a.Authenticate(ctx, app.ID, first)
	require.NoError(t, err)
	require.True(t, info.Expires.IsZero())
	for _, wrong := range []string{"", "x", first + "x", first[:len(first)-1], "mgs_" + first[4:8]} {
		_, _, err = a.Authenticate(ctx, app.ID, wrong)
		require.ErrorIs(t, err, tokens.ErrInvalidClient)
	}
	_, _, unknown := a.Authenticate(ctx, "00000000000000000000000000000000", first)
	_, _, wrong := a.Authenticate(ctx, app.ID, "wrong")
	require.ErrorIs(t, unknown, tokens.ErrInvalidClient)
	require.Equal(t, wrong.Error(), unknown.Error())

	_, second, err := a.RotateSecret(ctx, app.ID, 0, time.Hour)
	require.NoError(t, err)
	_, info, err = a.Authenticate(ctx, app.ID, first)
	require.NoError(t, err)
	require.WithinDuration(t, c.Now().Add(time.Hour), info.Expires, time.Second)
	_, third, err := a.RotateSecret(ctx, app.ID, 0, 2*time.Hour)
	require.NoError(t, err)
	_, _, err = a.Authenticate(ctx, app.ID, first)
	require.ErrorIs(t, err, tokens.ErrInvalidClient, "only two live at a time")
	c.pass(3 * time.Hour)
	_, _, err = a.Authenticate(ctx, app.ID, second)
	require.ErrorIs(t, err, tokens.ErrInvalidClient, "its grace is over")
	_, _, err = a.Authenticate(ctx, app.ID, third)
	require.NoError(t, err)
	app, fourth, err := a.RotateSecret(ctx, app.ID, 0, 0)
	require.NoError(t, err)
	require.Len(t, app.Secrets, 1)
	_, _, err = a.Authenticate(ctx, app.ID, third)
	require.ErrorIs(t, err, tokens.ErrInvalidClient)

	_, err = a.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error { n.Active = false; return nil })
	require.NoError(t, err)
	_, _, err = a.Authenticate(ctx, app.ID, fourth)
	require.ErrorIs(t, err, tokens.ErrInactiveApplication)
	_, _, err = a.Authenticate(ctx, app.ID, third)
	require.ErrorIs(t, err, tokens.ErrInvalidClient, "inactive is only told to who has the right secret")
}

func testUsers(t *testing.T, open Opener) {
	ctx := t.Context()
	nodes := []*tokens.Authority{Node(t, open), Node(t, open)}
	app, _ := App(t, nodes[0])
	mail, err := tokens.ParseMail(tokens.NewPassword()[:12] + "@example.org")
	require.NoError(t, err)

	_, err = nodes[0].User(ctx, string(mail))
	require.ErrorIs(t, err, tokens.ErrNotFound)
	ids := make([]string, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			tok, err := nodes[i%2].Issue(ctx, tokens.Grant{Application: app, Mail: mail, Scopes: app.Scopes})
			if err != nil {
				t.Error(err)
				return
			}
			id, err := nodes[i%2].Inspect(ctx, tok.Value)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = id.User.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Regexp(t, `^[0-9A-Za-z]{8}$`, id)
		require.Equal(t, ids[0], id, "one address has one id, however many ask first")
	}
	u, err := nodes[1].User(ctx, string(mail))
	require.NoError(t, err)
	require.Equal(t, ids[0], u.ID)
	require.Equal(t, mail, u.Mail)
	require.Equal(t, app.ID, u.FirstSeenBy)
}

func testTokens(t *testing.T, open Opener) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	app, _ := App(t, a)
	tok := Issue(t, a, app, "alice@example.org")
	require.Equal(t, time.Hour, tok.Lifetime)

	for _, node := range []*tokens.Authority{a, b, a, b} {
		id, err := node.Verify(ctx, tok.Value)
		require.NoError(t, err)
		require.Equal(t, tokens.AccessToken, id.Credential)
		require.Equal(t, app.ID, id.Application.ID)
		require.Equal(t, tokens.Mail("alice@example.org"), id.User.Mail)
		require.Equal(t, app.Scopes, id.Scopes)
		require.Equal(t, tok.ID, id.TokenID)
		require.WithinDuration(t, time.Now().Add(time.Hour), id.Expires, 3*time.Second)
	}
	before := b.Status(ctx).Cache.Hits
	_, err := b.Verify(ctx, tok.Value)
	require.NoError(t, err)
	require.Equal(t, before+1, b.Status(ctx).Cache.Hits, "a known token is answered from memory")

	// Signed by the right key, and never recorded.
	stranger, err := tokens.New(tokens.Options{Store: Elsewhere(t), Secrets: [][]byte{Secret}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stranger.Close()) })
	strangersApp, _ := App(t, stranger)
	forged := Issue(t, stranger, strangersApp, "alice@example.org")
	_, err = a.Verify(ctx, forged.Value)
	require.ErrorIs(t, err, tokens.ErrTokenInvalid)
	require.Equal(t, "unknown_token", tokens.Reason(err))

	short, err := a.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error {
		n.TokenLifetime = tokens.Duration(time.Minute)
		n.Scopes = n.Scopes[:1]
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, time.Minute, Issue(t, a, short, "alice@example.org").Lifetime)
	Eventually(t, "the live token has lost the scopes on the other node", func() bool {
		id, err := b.Verify(ctx, tok.Value)
		return err == nil && len(id.Scopes) == 1
	})
}

// revocation is a way to end a token.
type revocation struct {
	do     func(ctx context.Context, a *tokens.Authority, app *tokens.Application, tok *tokens.Token) error
	spares bool // whether a token of the same application for another user survives
}

var allRevocations = map[string]revocation{
	"token": {func(ctx context.Context, a *tokens.Authority, _ *tokens.Application, tok *tokens.Token) error {
		return a.RevokeToken(ctx, tok.Value)
	}, true},
	"tokenID": {func(ctx context.Context, a *tokens.Authority, _ *tokens.Application, tok *tokens.Token) error {
		return a.RevokeToken(ctx, tok.ID)
	}, true},
	"own": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, tok *tokens.Token) error {
		return a.RevokeOwnToken(ctx, app, tok.Value)
	}, true},
	"user": {func(ctx context.Context, a *tokens.Authority, _ *tokens.Application, _ *tokens.Token) error {
		return a.RevokeUser(ctx, "alice@example.org")
	}, true},
	"grant": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		return a.RevokeGrant(ctx, app.ID, "alice@example.org")
	}, true},
	"application": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		return a.RevokeApplication(ctx, app.ID)
	}, false},
	"all": {func(ctx context.Context, a *tokens.Authority, _ *tokens.Application, _ *tokens.Token) error {
		return a.RevokeAll(ctx)
	}, false},
	"disable": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		_, err := a.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error { n.Active = false; return nil })
		return err
	}, false},
	"domain": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		_, err := a.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error { n.Domains = []string{"example.net"}; return nil })
		return err
	}, false},
	"delete": {func(ctx context.Context, a *tokens.Authority, app *tokens.Application, _ *tokens.Token) error {
		return a.DeleteApplication(ctx, app.ID, 0)
	}, false},
}

func testRevocations(t *testing.T, open Opener) {
	for name, revoke := range allRevocations {
		t.Run(name, func(t *testing.T) { testRevocation(t, open, revoke) })
	}
	testOtherRevocations(t, open)
}

func testRevocation(t *testing.T, open Opener, revoke revocation) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	app, _ := App(t, a)
	tok, other := Issue(t, a, app, "alice@example.org"), Issue(t, a, app, "bob@example.org")
	for _, node := range []*tokens.Authority{a, b} {
		_, err := node.Verify(ctx, tok.Value)
		require.NoError(t, err)
		_, err = node.Verify(ctx, other.Value)
		require.NoError(t, err)
	}
	require.NoError(t, revoke.do(ctx, a, app, tok))
	_, err := a.Verify(ctx, tok.Value)
	require.Error(t, err, "at once on the node that revoked")
	require.NotErrorIs(t, err, tokens.ErrUnavailable)
	Eventually(t, "the other node refuses the token", func() bool {
		_, err := b.Verify(ctx, tok.Value)
		return err != nil && !errors.Is(err, tokens.ErrUnavailable)
	})
	_, err = b.Inspect(ctx, tok.Value)
	require.Error(t, err)
	_, err = b.Verify(ctx, other.Value)
	if revoke.spares {
		require.NoError(t, err)
		fresh := Issue(t, b, app, "alice@example.org")
		_, err = a.Verify(ctx, fresh.Value)
		require.NoError(t, err, "what is issued afterwards is valid")
	} else {
		Eventually(t, "the other user's token is refused too", func() bool {
			_, err := b.Verify(ctx, other.Value)
			return err != nil
		})
	}
	require.NoError(t, a.RevokeToken(ctx, tok.Value), "again is no error (RFC 7009)")
}

func testOtherRevocations(t *testing.T, open Opener) {
	ctx := t.Context()
	t.Run("before", func(t *testing.T) {
		c := newClock()
		c.pass(-time.Minute) // what is revoked stays so for the tests that follow
		a := Node(t, open, func(o *tokens.Options) { o.Now = c.Now })
		app, _ := App(t, a)
		early := Issue(t, a, app, "alice@example.org")
		c.pass(10 * time.Second)
		late := Issue(t, a, app, "alice@example.org")
		require.ErrorIs(t, a.RevokeBefore(ctx, c.Now().Add(time.Hour)), tokens.ErrInvalidInstant)
		require.NoError(t, a.RevokeBefore(ctx, c.Now().Add(-5*time.Second)))
		_, err := a.Verify(ctx, early.Value)
		require.ErrorIs(t, err, tokens.ErrTokenInvalid)
		_, err = a.Verify(ctx, late.Value)
		require.NoError(t, err)
	})
	t.Run("other application's", func(t *testing.T) {
		a := Node(t, open)
		app, _ := App(t, a)
		thief, _ := App(t, a)
		tok := Issue(t, a, app, "alice@example.org")
		require.ErrorIs(t, a.RevokeOwnToken(ctx, thief, tok.Value), tokens.ErrNotOwner)
		_, err := a.Verify(ctx, tok.Value)
		require.NoError(t, err)
	})
	t.Run("of nothing", func(t *testing.T) {
		a := Node(t, open)
		require.NoError(t, a.RevokeToken(ctx, "not a token"))
		require.ErrorIs(t, a.RevokeUser(ctx, "nobody-ever@example.org"), tokens.ErrNotFound)
		require.ErrorIs(t, a.RevokeApplication(ctx, "00000000000000000000000000000000"), tokens.ErrNotFound)
		require.ErrorIs(t, a.RevokeKey(ctx, "00000000"), tokens.ErrNotFound)
	})
}

func testTwoNodes(t *testing.T, open Opener) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	app, _ := App(t, a)
	// Issued on one, used on the other at once: there is no negative cache.
	for range 20 {
		tok := Issue(t, a, app, "alice@example.org")
		_, err := b.Verify(ctx, tok.Value)
		require.NoError(t, err)
	}
}

func refreshing(n *tokens.Application) { n.Refresh = true }

func testRefresh(t *testing.T, open Opener) {
	ctx := t.Context()
	c := newClock()
	clock, pass := func(o *tokens.Options) { o.Now = c.Now }, c.pass
	a := Node(t, open, clock)
	app, _ := App(t, a, refreshing)
	thief, _ := App(t, a, refreshing)
	first := Issue(t, a, app, "alice@example.org")
	require.True(t, tokens.ChecksumOK(first.Refresh))

	_, err := a.Verify(ctx, first.Refresh)
	require.ErrorIs(t, err, tokens.ErrTokenMalformed, "a refresh token is not an access token")
	id, err := a.Inspect(ctx, first.Refresh)
	require.NoError(t, err)
	require.Equal(t, tokens.RefreshToken, id.Credential)
	require.Equal(t, tokens.Mail("alice@example.org"), id.User.Mail)

	_, err = a.Refresh(ctx, thief, first.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant)

	second, err := a.Refresh(ctx, app, first.Refresh)
	require.NoError(t, err)
	_, err = a.Verify(ctx, second.Value)
	require.NoError(t, err)
	_, err = a.Inspect(ctx, first.Refresh)
	require.ErrorIs(t, err, tokens.ErrTokenInvalid, "it was exchanged")

	again, err := a.Refresh(ctx, app, first.Refresh)
	require.NoError(t, err, "the answer was lost and the client tries again")
	require.Equal(t, second.Value, again.Value)
	require.Equal(t, second.Refresh, again.Refresh)

	pass(30 * time.Second)
	third, err := a.Refresh(ctx, app, second.Refresh)
	require.NoError(t, err)
	pass(time.Minute)
	require.NoError(t, a.RevokeUser(ctx, "alice@example.org"))
	_, err = a.Refresh(ctx, app, third.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant, "revoking the user ends refresh tokens too")

	bob := Issue(t, a, app, "bob@example.org")
	require.NoError(t, a.RevokeOwnToken(ctx, app, bob.Refresh))
	_, err = a.Refresh(ctx, app, bob.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant)
	_, err = a.Verify(ctx, bob.Value)
	require.ErrorIs(t, err, tokens.ErrTokenInvalid, "the family's access tokens go with it")

	carol := Issue(t, a, app, "carol@example.org")
	pass(tokens.DefaultRefreshIdle + time.Second)
	_, err = a.Refresh(ctx, app, carol.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant, "idle for too long")

	plain, _ := App(t, a)
	require.Empty(t, Issue(t, a, plain, "alice@example.org").Refresh, "opt-in per application")
}

func testRefreshRace(t *testing.T, open Opener) {
	ctx := t.Context()
	nodes := []*tokens.Authority{Node(t, open), Node(t, open), Node(t, open)}
	app, _ := App(t, nodes[0], refreshing)
	first := Issue(t, nodes[0], app, "alice@example.org")
	pairs := make([]*tokens.Token, 9)
	var wg sync.WaitGroup
	for i := range pairs {
		wg.Go(func() {
			pair, err := nodes[i%3].Refresh(ctx, app, first.Refresh)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := nodes[(i+1)%3].Verify(ctx, pair.Value); err != nil {
				t.Error(err)
			}
			pairs[i] = pair
		})
	}
	wg.Wait()
	for _, p := range pairs {
		require.Equal(t, pairs[0].Value, p.Value)
		require.Equal(t, pairs[0].Refresh, p.Refresh)
	}
}

func testRefreshReuse(t *testing.T, open Opener) {
	ctx := t.Context()
	a := Node(t, open)
	app, _ := App(t, a, refreshing)
	first := Issue(t, a, app, "alice@example.org")
	second, err := a.Refresh(ctx, app, first.Refresh)
	require.NoError(t, err)
	third, err := a.Refresh(ctx, app, second.Refresh)
	require.NoError(t, err)
	_, err = a.Refresh(ctx, app, first.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant)
	require.Equal(t, "reused", tokens.Reason(err))
	_, err = a.Refresh(ctx, app, third.Refresh)
	require.ErrorIs(t, err, tokens.ErrInvalidGrant, "two parties held it: the family is over")
	for _, tok := range []*tokens.Token{first, second, third} {
		_, err = a.Verify(ctx, tok.Value)
		require.ErrorIs(t, err, tokens.ErrTokenInvalid, "and so are the access tokens it gave")
	}
}

func testMeetTokens(t *testing.T, open Opener) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	key := tokens.NewPassword()
	v, err := a.LoadMeetToken(ctx, key)
	require.NoError(t, err)
	require.Nil(t, v)
	require.NoError(t, a.SaveMeetToken(ctx, key, []byte("token at Meet"), time.Minute))
	v, err = b.LoadMeetToken(ctx, key)
	require.NoError(t, err)
	require.Equal(t, "token at Meet", string(v))
	require.NoError(t, b.DropMeetToken(ctx, key, []byte("an older one")))
	v, err = a.LoadMeetToken(ctx, key)
	require.NoError(t, err)
	require.NotNil(t, v, "somebody else has renewed it meanwhile")
	require.NoError(t, b.DropMeetToken(ctx, key, []byte("token at Meet")))
	v, err = a.LoadMeetToken(ctx, key)
	require.NoError(t, err)
	require.Nil(t, v)

	unlock, ok, err := a.LockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	_, ok, err = b.LockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.False(t, ok)
	unlock()
	unlock, ok, err = b.LockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	unlock()

	v, unlock, err = a.LoadOrLockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.Nil(t, v)
	require.NotNil(t, unlock, "there is no token, and nobody makes one")
	v, other, err := b.LoadOrLockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.Nil(t, v)
	require.Nil(t, other, "a makes one")
	require.NoError(t, a.SaveMeetToken(ctx, key, []byte("token at Meet"), time.Minute))
	v, other, err = b.LoadOrLockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.Equal(t, "token at Meet", string(v))
	require.Nil(t, other)
	unlock()
	_, ok, err = b.LockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.True(t, ok, "who loads takes no lock")
}

func testSecretRotated(t *testing.T, open Opener) {
	ctx := t.Context()
	old := Node(t, open)
	app, secret := App(t, old, refreshing, func(n *tokens.Application) {
		n.Backend = &tokens.BackendCredentials{ClientID: "at-meet", ClientSecret: "at-meet-secret"}
	})
	tok := Issue(t, old, app, "rotated@example.org") // a node that has only the old secret can no longer read this user
	was, err := old.User(ctx, "rotated@example.org")
	require.NoError(t, err)

	newer := []byte("storetest-another-secret-0123456789")
	rotated := Node(t, open, func(o *tokens.Options) { o.Secrets = [][]byte{newer, Secret} })
	_, err = rotated.Verify(ctx, tok.Value)
	require.NoError(t, err, "nobody is logged out")
	same, _, err := rotated.Authenticate(ctx, app.ID, secret)
	require.NoError(t, err)
	require.Equal(t, "at-meet-secret", same.Backend.ClientSecret)
	u, err := rotated.User(ctx, "rotated@example.org")
	require.NoError(t, err)
	require.Equal(t, was.ID, u.ID)
	fresh, err := rotated.Refresh(ctx, same, tok.Refresh)
	require.NoError(t, err)
	_, err = old.Verify(ctx, fresh.Value)
	require.ErrorIs(t, err, tokens.ErrUnavailable, "a node that has not been given the new secret does not call it wrong")

	// What was used since is kept under the new secret alone.
	Eventually(t, "everything used is kept under the new secret", func() bool {
		store := open(t)
		defer func() { require.NoError(t, store.Close()) }()
		only, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{newer}})
		require.NoError(t, err)
		defer func() { require.NoError(t, only.Close()) }()
		x, _, errApp := only.Authenticate(ctx, app.ID, secret)
		v, errUser := only.User(ctx, "rotated@example.org")
		return errApp == nil && errUser == nil && x.Backend != nil && v.ID == was.ID
	})
}

// Elsewhere opens an empty embedded store of its own.
func Elsewhere(t *testing.T) *tokens.Store {
	t.Helper()
	s, err := embedded.Open()
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}
