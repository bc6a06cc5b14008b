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

// renewFor parses the option renew; off is 0.
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

// mayRenew reports whether the application may still act for the user in the way it
// could when Meet's token was fetched.
func (h *Handler) mayRenew(ctx context.Context, caller backendclient.Caller) bool {
	authority, mail := h.app.Authority(), tokens.Mail(caller.Mail)
	app, err := authority.Application(ctx, caller.Application)
	if err != nil || !app.Active || app.MayDelegate(mail) != nil || h.credentialsOf(app) != caller.Credentials {
		return false
	}
	generations, _, err := authority.Generations(ctx, app, mail)
	return err == nil && generations == caller.Generations
}

// before returns the running configuration's client for the same Meet, if the state is
// shared.
func (h *Handler) before() *backendclient.Client {
	running, err := ActiveApp()
	if err != nil || running.authority == nil || running.authority != h.app.authority {
		return nil
	}
	i := slices.IndexFunc(running.handlers, func(other *Handler) bool { return other.meetName() == h.meetName() })
	if i < 0 {
		return nil
	}
	return running.handlers[i].client
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
