// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"crypto/sha256"
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
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tests/heap"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// The memory for a known token, its user and Meet's token stays within a budget. Limits are off, since
// their counts are neither.
// Redis is a separate process, so that only the gateway's memory is counted.
func TestGate_MemoryOfKnownTokens(t *testing.T) {
	url := redistest.Standalone(t).URL()
	open := func() *tokens.Store {
		store, err := tokens.OpenRedis(tokens.RedisOptions{URL: url})
		require.NoError(t, err)
		return store
	}
	for perUser, budget := range map[int]float64{1: 460, 10: 150} {
		t.Run(fmt.Sprintf("%d a user", perUser), func(t *testing.T) {
			h, app, _ := newGateOver(t, open(), meetLikeGuest)
			h.app.authority.limiter.Rates().Set(limit.Read, limit.Rate{})
			h.app.authority.limiter.Rates().Set(limit.ReadUser, limit.Rate{})
			var err error
			h.client, err = backendclient.New(backendclient.Options{
				Transport: h.upstream, Context: h.upstream.Context, Host: "meet.example.org", Store: h.app.Authority(), MaxTokens: 100_000,
				MayRenew: func(context.Context, backendclient.Caller) bool { return true },
			})
			require.NoError(t, err)
			other, err := tokens.New(tokens.Options{Store: open(), Secrets: [][]byte{[]byte("0123456789-0123456789-0123456789")}})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, other.Close()) })
			const n, first = 12_000, 10
			all := make([]string, n)
			workers, ctx := errgroup.WithContext(t.Context())
			workers.SetLimit(16)
			for i := range all {
				workers.Go(func() error {
					token, err := other.Issue(ctx, tokens.Grant{
						Application: app, Mail: tokens.Mail(fmt.Sprintf("user.%d@example.org", i/perUser)), BackendUserID: sampleID, Scopes: app.Scopes,
					})
					if err == nil {
						all[i] = token.Value
					}
					return err
				})
			}
			require.NoError(t, workers.Wait())
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
			t.Logf("%.0f bytes a token", each)
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
	n := 1760000000 + exchanges.Add(1)
	claims := fmt.Sprintf(`{"client_id":"gateway","delegated":true,"iat":%d,"exp":%d,"user_id":"%s","iss":"lasuite-meet","aud":"meet-clients",`+
		`"scope":"rooms:list rooms:retrieve rooms:create"}`, n, n+36000, uuid.NewSHA1(uuid.Nil, fmt.Append(nil, n)))
	signature := sha256.Sum256([]byte(claims))
	w.Header()["Content-Type"] = headerTypeJSON
	_, err := fmt.Fprintf(w, `{"access_token":"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.%s.%s",`+
		`"token_type":"Bearer","expires_in":36000,"scope":"rooms:list rooms:retrieve rooms:create"}`,
		base64.RawURLEncoding.EncodeToString([]byte(claims)), base64.RawURLEncoding.EncodeToString(signature[:]))
	return err
})

var exchanges atomic.Int64
