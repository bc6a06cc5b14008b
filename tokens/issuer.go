// SPDX-License-Identifier: MIT

package tokens

// Issuer returns the "iss" claim of access tokens (RFC 7519 §4.1.1).
func (a *Authority) Issuer() string { return a.issuer }

// Audience returns the "aud" claim of access tokens (RFC 7519 §4.1.3).
func (a *Authority) Audience() string { return a.audience }
