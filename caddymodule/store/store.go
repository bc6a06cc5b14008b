// SPDX-License-Identifier: MIT

// Package store contains the store modules, which keep the gateway's state.
package store

import (
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/meet-gateway/meet-gateway/caddymodule/pool"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// Store is implemented by guest modules in the namespace meet_gateway.stores.
type Store interface {
	// Tokens returns the store. It stays usable for requests in flight after Cleanup.
	Tokens() *tokens.Store
	// Key identifies the store: modules with equal keys share it. It contains no
	// secret.
	Key() string
	// Secret returns a secret of the store's own, or nil if the operator must configure
	// one.
	Secret() []byte
	// Where describes the store for logs.
	Where() Where
}

// Where describes a store without credentials.
type Where struct {
	// Kind is the name of the module, Address one or more host:port, and User the Redis
	// user. Address and User may be empty.
	Kind, Address, User string
}

// open contains the open stores of all configurations.
var open = caddy.NewUsagePool()

// pooledStore closes its store some time after the last configuration released it.
type pooledStore struct {
	*tokens.Store
	where  Where
	secret []byte
	once   sync.Once
}

// Destruct implements caddy.Destructor. The store outlives the Authorities that use it.
// When the process exits, modules are cleaned up in any order, so the store is not
// closed: a gateway may still remove itself from the list of gateways.
func (s *pooledStore) Destruct() error {
	if caddy.Exiting() {
		return nil
	}
	return pool.AfterDrain(pool.Drain+10*time.Second, s.Close)
}

// shared implements Store and caddy.CleanerUpper for the modules.
type shared struct {
	key    string
	pooled *pooledStore
}

// acquire shares the store with this key, or opens it.
func (s *shared) acquire(key string, openStore func() (*pooledStore, error)) error {
	val, _, err := open.LoadOrNew(key, func() (caddy.Destructor, error) { return openStore() })
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	s.key, s.pooled = key, val.(*pooledStore)
	return nil
}

// Cleanup releases the store. The pointer stays for requests in flight and for checks
// that may still be running.
func (s *shared) Cleanup() error {
	if s.pooled == nil {
		return nil
	}
	_, err := open.Delete(s.key)
	return err
}

// Tokens implements Store.
func (s *shared) Tokens() *tokens.Store { return s.pooled.Store }

// Key implements Store.
func (s *shared) Key() string { return s.key }

// Secret implements Store.
func (s *shared) Secret() []byte { return s.pooled.secret }

// Where implements Store.
func (s *shared) Where() Where { return s.pooled.where }

// Interface guards
var (
	_ Store              = (*shared)(nil)
	_ caddy.CleanerUpper = (*shared)(nil)
	_ caddy.Destructor   = (*pooledStore)(nil)
)
