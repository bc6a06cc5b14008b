// SPDX-License-Identifier: MIT

// Package audit writes the audit trail of a gateway: one JSON object per decision and line.
// The lines form a chain, so that changed, removed, swapped and missing lines are found.
// Use [Open] and [Trail.Write] to write, [Query] to search and [Verify] to check.
//
// Each line holds the hash (SHA-256) of the line before it and ends with its own.
// A chain has one writer and continues over restarts and rotated files. An attacker who
// can write the files can also compute hashes. So at least every minute, and at the
// beginning and end of a file, a line carries a keyed head: an HMAC over its place in the
// chain, under a key derived from the gateway's secret. [Verify] checks both.
//
// The fields of an [Event] leave no room for a credential.
package audit
