// SPDX-License-Identifier: MIT

package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

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
	Eventually(t, "the other gateway no longer finds the application", func() bool {
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

	// Two concurrent admins without a version: no change is lost.
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
	Eventually(t, "both gateways see all changes", func() bool {
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
	require.ErrorIs(t, err, tokens.ErrNotFound, "aliases taken before the conflict are released")

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
	require.ErrorIs(t, err, tokens.ErrInvalidClient, "at most two secrets are valid")
	c.advance(3 * time.Hour)
	_, _, err = a.Authenticate(ctx, app.ID, second)
	require.ErrorIs(t, err, tokens.ErrInvalidClient, "the grace period has ended")
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
	require.ErrorIs(t, err, tokens.ErrInvalidClient, "only the right secret reveals that the application is inactive")
}
