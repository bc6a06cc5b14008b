// SPDX-License-Identifier: MIT

// Package pool is for what outlives a configuration and is shared by those that want
// the same of it.
package pool

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Drain is how long things outlive the configuration they belong to: Caddy
// cleans a configuration up while its last requests are still being served.
const Drain = time.Minute

// Key hashes construction inputs. JSON keeps their borders apart.
func Key(kind string, inputs any) (string, error) {
	b, err := json.Marshal(inputs)
	if err != nil {
		return "", fmt.Errorf("hashing the options of %s: %w", kind, err)
	}
	sum := sha256.Sum256(b)
	return kind + ":" + hex.EncodeToString(sum[:]), nil
}

// AfterDrain calls f later, or at once if the process ends.
func AfterDrain(wait time.Duration, f func() error) error {
	if caddy.Exiting() {
		return f()
	}
	time.AfterFunc(wait, func() { _ = f() })
	return nil
}
