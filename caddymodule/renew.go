// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const (
	renewOff     = "off"
	defaultRenew = "24h"
)

// renewFor is how long after a user's last request Meet's tokens are renewed. 0 means
// that they are not.
func (h *Handler) renewFor() (time.Duration, error) {
	if h.Renew == renewOff {
		return 0, nil
	}
	lately, err := caddy.ParseDuration(h.Renew)
	if err != nil || lately <= 0 {
		return 0, fmt.Errorf("renew must be a duration such as 24h, or %s, got %q", renewOff, h.Renew)
	}
	return lately, nil
}

// mayRenew reports whether the application may still act for the user as it did when
// Meet's token was fetched.
func (h *Handler) mayRenew(ctx context.Context, caller backendclient.Caller) bool {
	authority, mail := h.app.Authority(), tokens.Mail(caller.Mail)
	app, err := authority.Application(ctx, caller.Application)
	if err != nil || !app.Active || app.MayDelegate(mail) != nil || h.credentialsOf(app) != caller.Credentials {
		return false
	}
	generations, _, err := authority.Generations(ctx, app, mail)
	return err == nil && generations == caller.Generations
}

// before returns the client of the same Meet in the running configuration, if this one
// keeps all of its state.
func (h *Handler) before() *backendclient.Client {
	running, err := ActiveApp()
	if err != nil || running.authority == nil || running.authority != h.app.authority {
		return nil
	}
	i := slices.IndexFunc(running.gates, func(gate *Handler) bool { return gate.meetName() == h.meetName() })
	if i < 0 {
		return nil
	}
	return running.gates[i].client
}

// startRenewals renews Meet's tokens until stop is called.
func startRenewals(handlers []*Handler) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, h := range handlers {
		running.Go(func() { h.client.Renew(ctx) })
	}
	return func() {
		cancel()
		running.Wait()
	}
}
