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
// docs/redis.md has the full table; redisdb/names.go is where they are built.
//
// # Where a change goes
//
// An [Authority] is made of parts, one a file, each of which is given the parts that it
// needs (authority.go). They are, from the bottom to the top:
//
//   - applications finds applications, clientIDs keeps their aliases, and registry
//     changes them; meetClients knows their client ids at Meet.
//   - logins checks secrets; adoption registers applications that Meet knows.
//   - users keeps users; circumstances finds what a token depends on.
//   - signer signs tokens, records puts them on record, and issuer gives them out.
//   - refreshes exchanges refresh tokens, verifier judges credentials, and revocations
//     ends them.
//   - rekeying moves all to another secret; reporter tells how things are.
//
// What needs none of them has a package of its own, below this one.
package tokens
