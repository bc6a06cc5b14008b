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

// healthOff disables the listener. It allows a variable to do so.
const healthOff = "off"

// healthServers keeps listeners across reloads, so that probes are answered meanwhile.
var healthServers = caddy.NewUsagePool()

// provisionHealth prepares the listener. Start opens it; readiness is reported once all
// apps have started.
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

// cleanupHealth releases the listener. Caddy calls it after all apps have stopped, so
// that probes see the gateway draining until then.
func (a *App) cleanupHealth() error {
	if a.health == nil {
		return nil
	}
	_, err := healthServers.Delete(a.healthAddress)
	return err
}
