// SPDX-License-Identifier: MIT

package tokens

// Issuer returns the "iss" claim of access tokens (RFC 7519 §4.1.1).
func (s *signer) Issuer() string { return s.issuer }

// Audience returns the "aud" claim of access tokens (RFC 7519 §4.1.3).
func (s *signer) Audience() string { return s.audience }
