// SPDX-License-Identifier: MIT

// Package tokens decides who may call Meet, for whom and for what.
//
// It knows the applications and their secrets, the users they act for, the
// tokens they were given and what has been revoked. It keeps all of that in
// Redis and knows neither HTTP nor Caddy nor Meet.
//
// # Vocabulary
//
//   - An [Application] is an external platform: an OAuth 2.0 client (RFC 6749 §1.1).
//   - A secret authenticates an application ([Authority.Authenticate]).
//   - A [User] is a mail address an application acted for, with a public id.
//   - A [Grant] is what an application asked for: this user, these scopes.
//   - An access token is a JWT made from a grant ([Authority.Issue]).
//   - An [Identity] is what a credential turned out to be ([Authority.Verify]).
//   - The feed tells every gateway what changed (see docs/consistency.md).
//
// # The life of an access token
//
// Issue signs a JWT and writes a record under a key made from its id. Verify
// accepts it while three things hold: it is signed by a key we know, its record
// is there, and nothing overrules it (application disabled, user or application
// revoked, key withdrawn, everything before an instant revoked). A leaked
// signing key alone therefore opens nothing, and an emptied Redis closes
// everything.
//
// Revoking in bulk costs one write whatever the number of tokens: application,
// user, (application, user) and installation each have a generation, a token
// carries those of its birth, and revoking counts one up. Generations compare
// without clocks; see docs/decisions.md.
//
// # Keys in Redis
//
// Every key starts with "mg1:". Every key but applications and users expires.
// docs/redis.md has the full table; keys.go is where they are built.
package tokens
