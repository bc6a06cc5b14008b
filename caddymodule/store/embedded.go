// SPDX-License-Identifier: MIT

package store

import (
	"crypto/rand"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/meet-gateway/meet-gateway/tokens/embedded"
)

func init() {
	caddy.RegisterModule(Embedded{})
}

// Embedded keeps the state in this process, for trials and tests. All configurations of
// a process share it. It survives reloads and is lost when the process ends.
type Embedded struct{ shared }

// CaddyModule returns the Caddy module information.
func (Embedded) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "meet_gateway.stores.embedded", New: func() caddy.Module { return new(Embedded) }}
}

// Provision opens the store or shares the open one.
func (s *Embedded) Provision(caddy.Context) error {
	return s.acquire("embedded", func() (*pooledStore, error) {
		store, err := embedded.Open()
		if err != nil {
			return nil, err
		}
		secret := make([]byte, 32)
		_, _ = rand.Read(secret) // never fails
		return &pooledStore{Store: store, where: Where{Kind: "embedded"}, secret: secret}, nil
	})
}

// Once calls f once per store.
func (s *Embedded) Once(f func()) { s.pooled.once.Do(f) }

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store embedded
func (s *Embedded) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the store's name
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("store embedded takes no options, got %q", d.Val())
	}
	return nil
}

// Interface guards
var (
	_ caddy.Module          = (*Embedded)(nil)
	_ caddy.Provisioner     = (*Embedded)(nil)
	_ caddyfile.Unmarshaler = (*Embedded)(nil)
	_ Store                 = (*Embedded)(nil)
)
