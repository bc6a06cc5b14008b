// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// Meet's token is renewed only while the grant is valid and the credentials at Meet are the
// same.
func TestMayRenew(t *testing.T) {
	const mail = "ada@example.org"
	change := func(change func(*tokens.Application)) func(*testing.T, *Handler, *tokens.Application) {
		return func(t *testing.T, h *Handler, app *tokens.Application) {
			_, err := h.app.Authority().UpdateApplication(t.Context(), app.ID, app.Version, func(n *tokens.Application) error {
				change(n)
				return nil
			})
			require.NoError(t, err)
		}
	}
	for name, row := range map[string]struct {
		event func(*testing.T, *Handler, *tokens.Application)
		want  bool
	}{
		"nothing": {func(*testing.T, *Handler, *tokens.Application) {}, true},
		"another user is revoked": {func(t *testing.T, h *Handler, app *tokens.Application) {
			_, err := h.app.Authority().Issue(t.Context(), tokens.Grant{Application: app, Mail: "bob@example.org", Scopes: app.Scopes})
			require.NoError(t, err)
			require.NoError(t, h.app.Authority().RevokeUser(t.Context(), "bob@example.org"))
		}, true},
		"the user is revoked": {func(t *testing.T, h *Handler, _ *tokens.Application) {
			require.NoError(t, h.app.Authority().RevokeUser(t.Context(), mail))
		}, false},
		"the grant is revoked": {func(t *testing.T, h *Handler, app *tokens.Application) {
			require.NoError(t, h.app.Authority().RevokeGrant(t.Context(), app.ID, mail))
		}, false},
		"everything is revoked": {func(t *testing.T, h *Handler, _ *tokens.Application) {
			require.NoError(t, h.app.Authority().RevokeAll(t.Context()))
		}, false},
		"the application is deleted": {func(t *testing.T, h *Handler, app *tokens.Application) {
			require.NoError(t, h.app.Authority().DeleteApplication(t.Context(), app.ID, app.Version))
		}, false},
		"the application is disabled": {change(func(n *tokens.Application) { n.Active = false }), false},
		"the domain is removed":       {change(func(n *tokens.Application) { n.Domains = []string{"example.com"} }), false},
		"the address is denied":       {change(func(n *tokens.Application) { n.DeniedMails = []tokens.Mail{mail} }), false},
		"other credentials": {change(func(n *tokens.Application) {
			n.Backend = &tokens.BackendCredentials{ClientID: "own", ClientSecret: "secret"}
		}), false},
		"another backend": {func(_ *testing.T, h *Handler, _ *tokens.Application) {
			h.fallback.ClientSecret = "another"
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h, app := newGate(t, meetGuest)
			_, err := h.app.Authority().Issue(t.Context(), tokens.Grant{Application: app, Mail: mail, Scopes: app.Scopes})
			require.NoError(t, err)
			generations, _, err := h.app.Authority().Generations(t.Context(), app, mail)
			require.NoError(t, err)
			caller := backendclient.Caller{Credentials: h.fallback, Mail: mail, Application: app.ID, Generations: generations}
			require.True(t, h.mayRenew(t.Context(), caller))
			row.event(t, h, app)
			require.Equal(t, row.want, h.mayRenew(t.Context(), caller))
		})
	}
}

// Renewals end with their configuration.
func TestStartRenewals_Stop(t *testing.T) {
	h, _ := newGate(t, meetGuest)
	var err error
	h.client, err = backendclient.New(backendclient.Options{
		Transport: h.upstream, Host: "meet.example.org", MayRenew: func(context.Context, backendclient.Caller) bool { return true },
	})
	require.NoError(t, err)
	before := goleak.IgnoreCurrent()
	stop := startRenewals([]*Handler{h})
	require.ErrorContains(t, goleak.Find(before), "Renew")
	stop()
	require.NoError(t, goleak.Find(before))
	require.NoError(t, new(App).Stop(), "never started")
}
