// SPDX-License-Identifier: MIT

package store

import (
	"crypto/rand"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/embedded"
)

func init() {
	caddy.RegisterModule(Embedded{})
}

// Embedded keeps the state in the memory of this process: for trying the
// gateway out and for tests. It survives reloads and ends with the process. All
// configurations of a process share one.
type Embedded struct {
	pooled *pooledStore
}

const embeddedKey = "embedded"

// CaddyModule returns the Caddy module information.
func (Embedded) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "meet_gateway.stores.embedded", New: func() caddy.Module { return new(Embedded) }}
}

// Provision opens the store, or joins the one that is open.
func (s *Embedded) Provision(caddy.Context) error {
	val, _, err := open.LoadOrNew(embeddedKey, func() (caddy.Destructor, error) {
		store, err := embedded.Open()
		if err != nil {
			return nil, err
		}
		secret := make([]byte, 32)
		_, _ = rand.Read(secret) // never fails, see crypto/rand
		return &pooledStore{Store: store, secret: secret}, nil
	})
	if err != nil {
		return fmt.Errorf("opening the embedded store: %w", err)
	}
	s.pooled = val.(*pooledStore)
	return nil
}

// Cleanup gives the store back.
func (s *Embedded) Cleanup() error {
	if s.pooled == nil {
		return nil
	}
	_, err := open.Delete(embeddedKey)
	return err
}

// Tokens implements Store.
func (s *Embedded) Tokens() *tokens.Store { return s.pooled.Store }

// Key implements Store.
func (*Embedded) Key() string { return embeddedKey }

// Secret implements Store: one that was drawn when the store was opened. Nobody
// needs it after the process has ended.
func (s *Embedded) Secret() []byte { return s.pooled.secret }

// Where implements Store.
func (*Embedded) Where() Where { return Where{Kind: "embedded"} }

// Once calls f, unless it was called for this store before.
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
	_ caddy.CleanerUpper    = (*Embedded)(nil)
	_ caddyfile.Unmarshaler = (*Embedded)(nil)
	_ Store                 = (*Embedded)(nil)
)
