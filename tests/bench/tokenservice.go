// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// serveTokens runs the service that nginx and forward_auth ask about every request. It verifies
// tokens with the gateway's code and caches and returns Meet's token, so that the comparison
// measures only the cost of the extra request. It runs in its own process.
func serveTokens(address, redisAddress string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	store, err := tokens.OpenRedis(tokens.RedisOptions{URL: "redis://" + redisAddress})
	if err != nil {
		return err
	}
	defer store.Close()
	authority, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{[]byte(os.Getenv("MEET_GATEWAY_SECRET"))}})
	if err != nil {
		return err
	}
	defer authority.Close()
	authority.Start()

	server := &http.Server{Addr: address, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		identity, err := authority.Verify(r.Context(), bearer)
		switch {
		case errors.Is(err, tokens.ErrUnavailable):
			w.WriteHeader(http.StatusServiceUnavailable)
		case err != nil:
			w.WriteHeader(http.StatusUnauthorized)
		case !identity.Scopes.Has(tokens.ScopeRoomsRetrieve):
			w.WriteHeader(http.StatusForbidden)
		default:
			w.Header().Set("Authorization", "Bearer "+meetToken)
			w.WriteHeader(http.StatusOK)
		}
	})}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("token service: %w", err)
	}
	return nil
}
