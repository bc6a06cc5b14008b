// SPDX-License-Identifier: MIT

// Package tokens decides who may call Meet, for whom and for what.
//
// [New] makes an [Authority]. Its main methods:
//
//   - [Authority.CreateApplication], [Authority.UpdateApplication], [Authority.RotateSecret]
//     and [Authority.DeleteApplication] manage applications.
//   - [Authority.Authenticate] checks the secret of an application.
//   - [Authority.Issue] and [Authority.Refresh] give out tokens.
//   - [Authority.Verify] and [Authority.Inspect] check them.
//   - [Authority.RevokeToken], [Authority.RevokeGrant], [Authority.RevokeUser],
//     [Authority.RevokeApplication] and [Authority.RevokeAll] end them.
//   - [Authority.Status] reports the state of the installation.
//
// The state is in Redis. The package knows neither HTTP nor Caddy nor Meet.
//
// # Vocabulary
//
//   - An [Application] is an external platform: an OAuth 2.0 client (RFC 6749 §1.1).
//   - An alias is a further client id of an application, such as its client id at Meet.
//   - A [User] is a mail address that an application acted for.
//   - A grant is one application acting for one user. A [Grant] asks for a token of it.
//   - A generation is a number that is counted up to end all tokens issued under the one
//     before.
//   - An [Identity] describes a valid credential.
//   - The feed is how gateways notify each other of changes (see docs/consistency.md).
//
// # The life of an access token
//
// Issue signs a JWT and writes a record under a key made from its id. Verify accepts the
// token if it is signed by a key of the installation, its record is live, and neither its
// grant nor its key was revoked. So a leaked signing key alone gives no access, and a Redis
// that was emptied gives none.
//
// Revoking in bulk costs one write whatever the number of tokens: the application, the user,
// the grant and the installation each have a generation, a token carries those that it was
// issued under, and a revocation counts one up. Comparing generations needs no clock; see
// docs/decisions.md.
//
// # Keys in Redis
//
// Every key starts with "mg1:". Keys of applications and users do not expire, others do.
// docs/redis.md lists all; redisdb/names.go makes their names.
//
// # Where a change goes
//
// An Authority is made of parts that authority.go joins. Each part has a file and depends on
// parts before it:
//
//   - applications finds applications, and registry changes them. Their form and their checks
//     are in application*.go.
//   - meetClients knows their client ids at Meet; adoption registers those that Meet knows.
//   - logins checks secrets.
//   - users finds and creates users; admissions limits how many are new.
//   - grants finds the state that a token depends on, and checks a token against it.
//   - signer signs tokens, records stores their records, and issuer issues them.
//   - verifier checks credentials, refreshes exchanges refresh tokens, and revocations ends
//     tokens.
//   - rekeying moves data to another secret; reporter reports the state.
//   - restore.go says what is written again to a Redis that has lost it.
//
// The packages below hold what needs none of these parts:
//
//   - Tokens: signing (keys and JWTs), knowntokens (verified tokens in memory), family
//     (refresh tokens).
//   - Applications: grammar (scopes and mail addresses), clientids (aliases), secrets (checks
//     of client secrets), trial (adoption), django (import), limit and quota.
//   - Rooms and Meet: idempotency, meettokens, roomindex.
//   - Installation: installation (what all gateways share), gateways, rekey, mailindex.
//   - Redis: redisdb (the only client), feed and journal (docs/consistency.md), vault
//     (encryption and keyed hashes), embedded (Redis in this process).
//   - failure, background and memory serve the others.
package tokens
