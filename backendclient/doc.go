// SPDX-License-Identifier: MIT

// Package backendclient is a client of La Suite Meet's external API: the
// exchange of an application's credentials and a user's mail for a token, and
// the rooms that this token opens.
//
// It is written for a gateway, so it does more than call: it keeps Meet's
// tokens until shortly before they expire, makes one exchange where many callers
// need the same token, renews a token that Meet no longer takes, never sends a
// request twice that may have had an effect, reads lists in pages of any size
// over a backend whose pages are fixed, and turns each of Meet's many ways to
// say no into one typed error. Nothing but JSON leaves it.
//
// It knows neither Caddy nor Redis: requests go through an [http.RoundTripper],
// tokens are shared between processes through a [TokenStore].
package backendclient
