// SPDX-License-Identifier: MIT

package storetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

func testAdopt(t *testing.T, open Opener) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	clientID, secret := tokens.NewPassword(), tokens.NewPassword()
	asked := 0
	meet := func(_ context.Context) (tokens.Application, error) {
		asked++
		return tokens.Application{Scopes: tokens.Scopes{tokens.ScopeRoomsList}}, nil
	}
	refusing := func(_ context.Context) (tokens.Application, error) {
		asked++
		return tokens.Application{}, tokens.ErrInvalidClient
	}
	down := errors.New("no answer from Meet")
	silent := func(_ context.Context) (tokens.Application, error) {
		asked++
		return tokens.Application{}, down
	}

	for range 3 {
		_, err := b.Adopt(ctx, clientID, "wrong", refusing)
		require.ErrorIs(t, err, tokens.ErrInvalidClient)
	}
	require.Equal(t, 1, asked, "a wrong pair is tried once")
	_, err := a.Adopt(ctx, clientID, "wrong", refusing)
	require.ErrorIs(t, err, tokens.ErrInvalidClient)
	require.Equal(t, 1, asked, "once by all gateways")
	_, err = a.Adopt(ctx, clientID+"w", "rong", refusing)
	require.ErrorIs(t, err, tokens.ErrInvalidClient)
	require.Equal(t, 2, asked, "a different pair is tried, also if both have the same concatenation")
	for range 2 {
		_, err = a.Adopt(ctx, clientID, secret, silent)
		require.ErrorIs(t, err, down)
	}
	require.Equal(t, 4, asked, "an outage is not a refusal")

	app, err := a.Adopt(ctx, clientID, secret, meet)
	require.NoError(t, err)
	require.Equal(t, 5, asked)
	require.True(t, app.Active)
	require.Equal(t, []string{clientID}, app.Aliases)
	require.Equal(t, []string{"*"}, app.Domains)
	require.Equal(t, tokens.Scopes{tokens.ScopeRoomsList}, app.Scopes)
	require.Equal(t, &tokens.BackendCredentials{ClientID: clientID, ClientSecret: secret}, app.Backend)
	require.Equal(t, tokens.SecretHMAC, app.Secrets[0].Kind)

	testAdopted(t, b, app, clientID, secret)
	require.Equal(t, 5, asked)
}

// testAdopted checks that Meet is not asked about a registered application.
func testAdopted(t *testing.T, b *tokens.Authority, app *tokens.Application, clientID, secret string) {
	t.Helper()
	ctx := t.Context()
	meet := func(context.Context) (tokens.Application, error) {
		t.Error("Meet was asked")
		return tokens.Application{}, tokens.ErrInvalidClient
	}
	same, _, err := b.Authenticate(ctx, clientID, secret)
	require.NoError(t, err)
	require.Equal(t, app.ID, same.ID)
	same, err = b.Adopt(ctx, clientID, secret, meet)
	require.NoError(t, err)
	require.Equal(t, app.ID, same.ID)
	_, err = b.Adopt(ctx, clientID, "another", meet)
	require.ErrorIs(t, err, tokens.ErrInvalidClient)
	for _, bad := range [][2]string{{"", secret}, {"a b", secret}, {clientID, ""}} {
		_, err = b.Adopt(ctx, bad[0], bad[1], meet)
		require.ErrorIs(t, err, tokens.ErrInvalidClient)
	}
}

func testAdoptRace(t *testing.T, open Opener) {
	ctx := t.Context()
	nodes := []*tokens.Authority{Node(t, open), Node(t, open)}
	clientID, secret := tokens.NewPassword(), tokens.NewPassword()
	ids := make([]string, 8)
	var asked atomic.Int32
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			app, err := nodes[i%2].Adopt(ctx, clientID, secret, func(context.Context) (tokens.Application, error) {
				asked.Add(1)
				return tokens.Application{}, nil
			})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = app.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.NotEmpty(t, id)
		require.Equal(t, ids[0], id, "one application")
	}
	require.EqualValues(t, 1, asked.Load(), "Meet is asked once")
}

func change(t *testing.T, a *tokens.Authority, app *tokens.Application, edit func(*tokens.Application)) {
	t.Helper()
	_, err := a.UpdateApplication(t.Context(), app.ID, 0, func(n *tokens.Application) error { edit(n); return nil })
	require.NoError(t, err)
}

// A removed application is not adopted again. The credentials of an application at Meet
// are not adopted as another application.
func testAdoptRemoved(t *testing.T, open Opener) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	asked := 0
	meet := func(context.Context) (tokens.Application, error) {
		asked++
		return tokens.Application{Scopes: tokens.Scopes{tokens.ScopeRoomsList}}, nil
	}
	adopt := func(clientID string) (*tokens.Application, error) { return b.Adopt(ctx, clientID, "secret", meet) }
	refused := func(reason, clientID string) {
		t.Helper()
		before := asked
		_, err := adopt(clientID)
		require.ErrorIs(t, err, tokens.ErrInvalidClient)
		require.Equal(t, reason, tokens.Reason(err))
		require.Equal(t, before, asked, "Meet is not asked")
	}

	deleted := tokens.NewPassword()
	app, err := adopt(deleted)
	require.NoError(t, err)
	require.NoError(t, a.DeleteApplication(ctx, app.ID, 0))
	refused("removed_here", deleted)
	require.NoError(t, b.AllowAdoption(ctx, deleted))
	require.ErrorIs(t, b.AllowAdoption(ctx, deleted), tokens.ErrNotFound)
	require.ErrorIs(t, b.AllowAdoption(ctx, "no client id"), tokens.ErrNotFound)
	again, err := adopt(deleted)
	require.NoError(t, err)
	require.NotEqual(t, app.ID, again.ID)

	change(t, a, again, func(n *tokens.Application) { n.Aliases = nil })
	refused("removed_here", deleted)
	_, err = a.ImportApplication(ctx, tokens.Application{Name: "Imported", Aliases: []string{deleted}}, tokens.ImportedSecret{})
	require.NoError(t, err, "an operator allows the adoption again")

	// Registered by an operator; the client id at Meet is not an alias.
	atMeet := tokens.NewPassword()
	mine, _ := App(t, a, func(n *tokens.Application) {
		n.Backend = &tokens.BackendCredentials{ClientID: atMeet, ClientSecret: "secret"}
	})
	refused("backend_of_another_application", atMeet)
	change(t, a, mine, func(n *tokens.Application) { n.Active = false })
	refused("backend_of_another_application", atMeet)
	change(t, a, mine, func(n *tokens.Application) { n.ForgetBackend() })
	_, err = adopt(atMeet)
	require.NoError(t, err, "no application uses the client id any more")

	last := tokens.NewPassword()
	mine, _ = App(t, a, func(n *tokens.Application) {
		n.Backend = &tokens.BackendCredentials{ClientID: last, ClientSecret: "secret"}
	})
	require.NoError(t, a.DeleteApplication(ctx, mine.ID, 0))
	refused("removed_here", last)
}
