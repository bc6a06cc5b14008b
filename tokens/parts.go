// SPDX-License-Identifier: MIT

package tokens

import (
	"github.com/meet-gateway/meet-gateway/tokens/idempotency"
	"github.com/meet-gateway/meet-gateway/tokens/meettokens"
	"github.com/meet-gateway/meet-gateway/tokens/roomindex"
)

// Parts of an [Authority] with packages of their own, whose methods are its.
type (
	idempotencyKeys = idempotency.Keys
	meetTokens      = meettokens.Store
	rooms           = roomindex.Index
)

// Replay is what [Authority.BeginIdempotent] found.
type Replay = idempotency.Replay

// Answer is the answer to a request, as far as it is repeated.
type Answer = idempotency.Answer

// IdempotencyLifetime is how long an answer can be repeated.
const IdempotencyLifetime = idempotency.Lifetime

// Errors of requests with an Idempotency-Key; see package idempotency.
var (
	ErrInvalidIdempotencyKey = idempotency.ErrInvalidIdempotencyKey
	ErrKeyReused             = idempotency.ErrKeyReused
	ErrInFlight              = idempotency.ErrInFlight
	ErrOutcomeUnknown        = idempotency.ErrOutcomeUnknown
)

// ParseIdempotencyKey reads the value of an Idempotency-Key header.
func ParseIdempotencyKey(header string) (string, error) { return idempotency.ParseKey(header) }
