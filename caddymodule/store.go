package caddymodule

import (
	"sync"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens"

	"github.com/caddyserver/caddy/v2"
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
}

// drain is how long things outlive the configuration they belong to: Caddy
// cleans a configuration up while its last requests are still being served.
const drain = time.Minute

// stores keeps handles across reloads.
var stores = caddy.NewUsagePool()

// pooledStore closes its handle some time after the last configuration let it go.
type pooledStore struct {
	*tokens.Store
	secret []byte
	demo   sync.Once // the demo application of quickstart
}

// Destruct implements caddy.Destructor. An Authority that still drains uses its
// store, so the store waits longer.
func (s *pooledStore) Destruct() error { return afterDrain(drain+10*time.Second, s.Close) }

// afterDrain calls f later, or at once if the process ends.
func afterDrain(wait time.Duration, f func() error) error {
	if caddy.Exiting() {
		return f()
	}
	time.AfterFunc(wait, func() { _ = f() })
	return nil
}
