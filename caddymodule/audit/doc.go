// SPDX-License-Identifier: MIT

// Package audit keeps a trail of what a gateway decided: one JSON object a line,
// chained so that a line that is changed, removed, swapped or cut off is found.
//
// Each line holds the hash (SHA-256) of the line before it and ends with its own.
// A chain has one writer and goes on over restarts and rotated files. Whoever can
// write the files can also compute hashes, so at least every minute, and whenever a
// file is begun or left, a line carries a keyed head: an HMAC, under a key derived
// from the gateway's secret, over its place in the chain. [Verify] checks both.
//
// The package knows neither Caddy nor HTTP. What is written is an [Event], whose
// fields are made so that no credential fits in.
package audit
