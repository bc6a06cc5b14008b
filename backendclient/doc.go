// SPDX-License-Identifier: MIT

// Package backendclient is a client for La Suite Meet's external API. It exchanges
// an application's credentials and a user's mail address for a token, and uses that
// token for requests about rooms.
//
// It is written for a gateway:
//   - it keeps Meet's tokens until shortly before they expire;
//   - it makes one exchange for all callers that need the same token;
//   - it replaces a token that Meet refuses;
//   - it never repeats a request that may have had an effect;
//   - it serves lists in pages of any size, although Meet's pages are fixed;
//   - it maps every refusal and failure of Meet to one typed error;
//   - it returns nothing but JSON.
//
// The package knows neither Caddy nor Redis: requests go through an
// [http.RoundTripper], and processes share tokens through a [TokenStore].
//
// # Where a change goes
//
// A new kind of error for an answer of Meet needs a decision in each of these places:
//   - errors.go: the Err… variable, and its word in reasons;
//   - exchange.go (judgeExchange) for the token endpoint, or send.go (judgeRooms) for requests
//     about rooms: the rule that recognises the answer;
//   - obtain.go (remember): how long a refused exchange is remembered, if at all;
//   - renew.go (renewalFailed): whether and when a failed renewal is tried again;
//   - observations.go: whether the error says something about Meet's configuration;
//   - caddymodule/quota.go (isDefiniteRefusal): whether it is certain that Meet created no user;
//   - caddymodule/errors.go (failures): the gateway's answer, with an example in openapi.yaml;
//   - caddymodule/conformance/outcome.go (statuses): the statuses of that answer.
//
// Tests of package caddymodule fail if one of the last two is missing.
package backendclient
