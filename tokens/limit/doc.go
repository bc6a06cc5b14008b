// SPDX-License-Identifier: MIT

// Package limit keeps applications from asking too much of Meet: token requests,
// reads and creations of rooms, per application and per user, and failed
// authentications and adoptions per source.
//
// Every limit is a GCRA (a leaky bucket: a burst of the whole limit, then as
// much as drains), shared by all gateways. A decision is made in memory, without a
// round trip of its own: a gateway counts for itself, and reports what it has granted
// to the shared count in batches, in the background. The answer tells it what the
// others have granted. See [Limiter] for the error that this allows.
//
// The package knows neither Redis nor HTTP: the shared count is a [Shared], and
// a [Decision] has what the header fields RateLimit, RateLimit-Policy and
// Retry-After need.
package limit
