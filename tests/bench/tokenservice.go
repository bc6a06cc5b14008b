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

// serveTokens is the small service that nginx and forward_auth ask about every
// request: it verifies as the gateway does, with the same code and the same
// caches, and hands out Meet's token. So what is compared is where the question is
// asked, not how well it is answered. It runs as a process of its own.
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
