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
package backendclient
