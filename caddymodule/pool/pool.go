// SPDX-License-Identifier: MIT

// Package pool helps to share values across configurations, beside caddy.UsagePool.
package pool

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Drain is how long values outlive their last configuration, whose requests may still
// be in flight.
const Drain = time.Minute

// Key hashes the inputs that a shared value is made from. JSON keeps them apart.
func Key(kind string, inputs any) (string, error) {
	b, err := json.Marshal(inputs)
	if err != nil {
		return "", fmt.Errorf("hashing the options of %s: %w", kind, err)
	}
	sum := sha256.Sum256(b)
	return kind + ":" + hex.EncodeToString(sum[:]), nil
}

// AfterDrain calls f after wait, or at once if the process is exiting.
func AfterDrain(wait time.Duration, f func() error) error {
	if caddy.Exiting() {
		return f()
	}
	time.AfterFunc(wait, func() { _ = f() })
	return nil
}
