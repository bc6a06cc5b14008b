// SPDX-License-Identifier: MIT

// Package store holds the stores: guest modules of the app that say where the state is
// kept.
package store

import (
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/meet-gateway/meet-gateway/caddymodule/pool"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// Store is what guest modules in the namespace meet_gateway.stores implement:
// where the state is kept.
type Store interface {
	// Tokens is the handle. It stays usable for requests in flight after the
	// module was cleaned up.
	Tokens() *tokens.Store
	// Key tells handles apart: equal keys share one handle. It holds no secret.
	Key() string
	// Secret is a secret for deriving keys, if the store brings one of its own, and
	// nil if the operator must give one.
	Secret() []byte
	// Where says where the state is, for logs.
	Where() Where
}

// Where says where a store keeps the state. It holds no credential.
type Where struct {
	// Kind is the name of the module, Address one or more host:port, User the Redis
	// user; empty if there is none.
	Kind, Address, User string
}

// open keeps handles across reloads.
var open = caddy.NewUsagePool()

// pooledStore closes its handle some time after the last configuration let it go.
type pooledStore struct {
	*tokens.Store
	secret []byte
	once   sync.Once
}

// Destruct implements caddy.Destructor. An Authority that still drains uses its
// store, so the store waits longer. When the process ends, Caddy cleans modules up in any
// order: the store stays open, for a gateway that takes itself off the list of gateways.
func (s *pooledStore) Destruct() error {
	if caddy.Exiting() {
		return nil
	}
	return pool.AfterDrain(pool.Drain+10*time.Second, s.Close)
}

// Interface guards
var _ caddy.Destructor = (*pooledStore)(nil)
