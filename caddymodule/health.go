// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin"
	"github.com/meet-gateway/meet-gateway/caddymodule/health"
	"github.com/meet-gateway/meet-gateway/caddymodule/option"
)

// healthOff is the word for no health listener, so that a variable can say so.
const healthOff = "off"

// healthServers keeps the health listeners across reloads: a probe that comes during a
// reload is answered.
var healthServers = caddy.NewUsagePool()

// provisionHealth takes the health listener for the address, or makes it. It does not
// listen yet. From the moment at which the whole configuration runs, /readyz speaks of it.
func (a *App) provisionHealth(ctx caddy.Context) error {
	address, err := option.Resolve(caddy.NewReplacer(), a.Health)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	if address == "" || address == healthOff {
		return nil
	}
	if err := health.ParseAddress(address); err != nil {
		return err
	}
	value, _, err := healthServers.LoadOrNew(address, func() (caddy.Destructor, error) { return health.New(address), nil })
	if err != nil {
		return err
	}
	a.healthAddress, a.health = address, value.(*health.Server)
	return a.onStarted(ctx, func(caddy.Context) error {
		a.health.Use(func(ctx context.Context) (bool, string) { return admin.Readiness(ctx, a.Authority()) })
		return nil
	})
}

// cleanupHealth gives the health listener back. Caddy does so after all apps have
// stopped, so that probes hear of draining until the last request is answered.
func (a *App) cleanupHealth() error {
	if a.health == nil {
		return nil
	}
	_, err := healthServers.Delete(a.healthAddress)
	return err
}
