// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tests/heap"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// The memory for a known token, its user, Meet's token and their limits stays within a budget.
// Redis is a separate process, so that only the gateway's memory is counted. Meet's token
// takes most of the memory of a user.
func TestGate_MemoryOfKnownTokens(t *testing.T) {
	url := redistest.Standalone(t).URL()
	open := func() *tokens.Store {
		store, err := tokens.OpenRedis(tokens.RedisOptions{URL: url})
		require.NoError(t, err)
		return store
	}
	for perUser, budget := range map[int]float64{1: 1210, 10: 230} {
		t.Run(fmt.Sprintf("%d a user", perUser), func(t *testing.T) {
			h, app, _ := newGateOver(t, open(), meetLikeGuest)
			var err error
			h.client, err = backendclient.New(backendclient.Options{
				Transport: h.upstream, Context: h.upstream.Context, Host: "meet.example.org", Store: h.app.Authority(), MaxTokens: 100_000,
				MayRenew: func(context.Context, backendclient.Caller) bool { return true },
			})
			require.NoError(t, err)
			other, err := tokens.New(tokens.Options{Store: open(), Secrets: [][]byte{[]byte("0123456789-0123456789-0123456789")}})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, other.Close()) })
			const n, first = 6_000, 10
			all := make([]string, n)
			for i := range all {
				token, err := other.Issue(context.Background(), tokens.Grant{
					Application: app, Mail: tokens.Mail(fmt.Sprintf("user.%d@example.org", i/perUser)), BackendUserID: sampleID, Scopes: app.Scopes,
				})
				require.NoError(t, err)
				all[i] = token.Value
			}
			read := func(tokens []string) {
				for _, token := range tokens {
					w := httptest.NewRecorder()
					r := httptest.NewRequest(http.MethodGet, "/external-api/v1.0/rooms/"+sampleID, nil)
					r.Header.Set("Authorization", "Bearer "+token)
					r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
					require.NoError(t, h.ServeHTTP(w, r, noNext))
					require.Equal(t, http.StatusOK, w.Code, w.Body.String())
				}
			}
			read(all[:first])
			before := heap.InUse()
			read(all[first:])
			each := float64(heap.InUse()-before) / float64(n-first)
			t.Logf("%d tokens a user: %.0f bytes a token", perUser, each)
			require.Less(t, each, budget)
			runtime.KeepAlive(all)
			runtime.KeepAlive(h)
		})
	}
}

// meetLikeGuest issues tokens like Meet's, a new one for each exchange.
var meetLikeGuest = handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
	if !strings.HasSuffix(r.URL.Path, "/token/") {
		return meetGuest(w, r)
	}
	claims := fmt.Sprintf(`{"iss":"lasuite-meet","aud":"meet-clients","user_id":"%s","client_id":"gateway","scope":"rooms:list rooms:retrieve rooms:create",`+
		`"delegated":true,"iat":%d,"exp":4100000000}`, sampleID, 1760000000+exchanges.Add(1))
	w.Header()["Content-Type"] = headerTypeJSON
	_, err := fmt.Fprintf(w, `{"access_token":"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.%s.x4t0Jk7n0gq0C8mHc0Cq3bJt5bq0u3m9Qp4Rz2v1wYk",`+
		`"token_type":"Bearer","expires_in":36000,"scope":"rooms:list rooms:retrieve rooms:create"}`, base64.RawURLEncoding.EncodeToString([]byte(claims)))
	return err
})

var exchanges atomic.Int64
