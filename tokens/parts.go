// SPDX-License-Identifier: MIT

package tokens

import (
	"context"

	"github.com/meet-gateway/meet-gateway/tokens/gateways"
	"github.com/meet-gateway/meet-gateway/tokens/idempotency"
	"github.com/meet-gateway/meet-gateway/tokens/meettokens"
	"github.com/meet-gateway/meet-gateway/tokens/roomindex"
)

// Parts of an [Authority] with packages of their own.
type (
	idempotencyKeys = idempotency.Keys
	meetTokens      = meettokens.Store
	rooms           = roomindex.Index
)

// Gateway is one gateway of the installation, as it describes itself.
type Gateway = gateways.Gateway

// Self describes this gateway, without asking Redis.
func (a *Authority) Self() Gateway { return a.gateways.Self() }

// Gateways returns the gateways of the installation that were active lately, including this
// one. The error is ErrUnavailable.
func (a *Authority) Gateways(ctx context.Context) ([]Gateway, error) { return a.gateways.All(ctx) }

// Replay is what [Authority.BeginIdempotent] found.
type Replay = idempotency.Replay

// Answer is the part of an answer that is repeated.
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
