package caddymodule

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/embedded"
	"github.com/meet-gateway/meet-gateway/tokens/limit"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

const sampleRoom = `{"id":"` + sampleID + `","name":"aae-erez-aaz","slug":"aae-erez-aaz","access_level":"trusted","configuration":{},` +
	`"url":"https://meet.example.org/aae-erez-aaz","telephony":{"enabled":true,"phone_number":"+33100000000","pin_code":"8850791761","default_country":"FR"}}`

// newGate makes a gate by hand over a guest handler, with an application.
func newGate(t testing.TB, guest caddyhttp.MiddlewareHandler) (h *Handler, app *tokens.Application) {
	t.Helper()
	store, err := embedded.Open()
	require.NoError(t, err)
	authority, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{[]byte("0123456789-0123456789-0123456789")}})
	require.NoError(t, err)
	authority.Start()
	t.Cleanup(func() {
		require.NoError(t, authority.Close())
		require.NoError(t, store.Close())
	})
	app, _, err = authority.CreateApplication(context.Background(), tokens.Application{
		Name: "Test", Active: true, Domains: []string{"*"}, Scopes: tokens.Scopes{tokens.ScopeRoomsList, tokens.ScopeRoomsRetrieve},
	})
	require.NoError(t, err)
	limiter := limit.New(limit.Options{Shared: authority})
	t.Cleanup(limiter.Close)
	h = &Handler{
		logger: zap.NewNop(),
		app:    &App{authority: &pooledAuthority{Authority: authority, limiter: limiter}},
		guest:  newGuestTransport(guest),
	}
	h.setDefaults()
	h.basePath, err = sortedBasePaths(h.BasePaths)
	require.NoError(t, err)
	h.routes, err = newRouteTable(nil)
	require.NoError(t, err)
	h.fallback = backendclient.Credentials{ClientID: "id", ClientSecret: "secret"}
	h.client, err = backendclient.New(backendclient.Options{Transport: h.guest, Context: h.guest.context, Host: "meet.example.org", Store: authority})
	require.NoError(t, err)
	return h, app
}

// meetGuest answers every exchange and every room.
var meetGuest = guestFunc(func(w http.ResponseWriter, r *http.Request) error {
	w.Header()["Content-Type"] = headerTypeJSON
	body := sampleRoom
	if strings.HasSuffix(r.URL.Path, "/token/") {
		body = `{"access_token":"a.b.c","token_type":"Bearer","expires_in":3600,"scope":"rooms:list rooms:retrieve"}`
	}
	_, err := w.Write([]byte(body))
	return err
})

// discard is a ResponseWriter that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// The gate on the path of a verified token, without servers and sockets: what it
// adds to reverse_proxy.
func BenchmarkGate_RetrieveHot(b *testing.B) {
	h, app := newGate(b, meetGuest)
	token := issue(b, h, app)
	r := httptest.NewRequest(http.MethodGet, "/external-api/v1.0/rooms/"+sampleID, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), discard{}, new(caddyhttp.Server))
	w := discard{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		if err := h.ServeHTTP(w, r, noNext); err != nil {
			b.Fatal(err)
		}
	}
}

func issue(t testing.TB, h *Handler, app *tokens.Application) string {
	t.Helper()
	token, err := h.app.Authority().Issue(context.Background(), tokens.Grant{
		Application: app, Mail: "ada@example.org", BackendUserID: sampleID, Scopes: app.Scopes,
	})
	require.NoError(t, err)
	return token.Value
}
