// SPDX-License-Identifier: MIT

package signing

import (
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Claims are those of an access token: the published ones, "jti" to revoke it
// by, and "sub", the user's public id (RFC 9068 §2.2).
type Claims struct {
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	IssuedAt  int64  `json:"iat"` // unix seconds, as ExpiresAt
	ExpiresAt int64  `json:"exp"`
	ID        string `json:"jti"`
	Subject   string `json:"sub"`
	ClientID  string `json:"client_id"`
	Scope     string `json:"scope"`
	UserID    string `json:"user_id"`
	Delegated bool   `json:"delegated"`

	// misspelled is true if a name differs from one of these in letter case only.
	misspelled bool
}

// The six methods make Claims a [jwt.Claims].

// GetExpirationTime returns "exp".
func (c *Claims) GetExpirationTime() (*jwt.NumericDate, error) { return numericDate(c.ExpiresAt), nil }

// GetIssuedAt returns "iat".
func (c *Claims) GetIssuedAt() (*jwt.NumericDate, error) { return numericDate(c.IssuedAt), nil }

// GetNotBefore returns nothing: access tokens have no "nbf".
func (c *Claims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }

// GetIssuer returns "iss".
func (c *Claims) GetIssuer() (string, error) { return c.Issuer, nil }

// GetSubject returns "sub".
func (c *Claims) GetSubject() (string, error) { return c.Subject, nil }

// GetAudience returns "aud".
func (c *Claims) GetAudience() (jwt.ClaimStrings, error) { return jwt.ClaimStrings{c.Audience}, nil }

func numericDate(s int64) *jwt.NumericDate {
	if s == 0 {
		return nil
	}
	return jwt.NewNumericDate(time.Unix(s, 0))
}

// Validate checks that the required claims are complete, and no name is misspelled.
func (c *Claims) Validate() error {
	if c.misspelled {
		return errors.New("a claim is misspelled")
	}
	if !vault.IsID(c.ClientID, vault.ApplicationID) || !vault.IsID(c.Subject, vault.UserID) || !vault.IsID(c.ID, vault.TokenID) || !c.Delegated {
		return errors.New("claims are incomplete")
	}
	return nil
}

// parser has no state. It does not check the time, because its leeway would accept a token
// after its "exp".
var parser = jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation(), jwt.WithValidMethods(validMethods))

// MaxToken is the longest token accepted, in bytes. Those issued here have about 500.
const MaxToken = 4096

// UnknownKey is the refusal of a token whose claims name this installation and whose key is
// not in the set.
type UnknownKey struct { //nolint:errname // a refusal among others
	*failure.Denial
	ID string // of the key
}

// Unwrap returns the refusal.
func (u *UnknownKey) Unwrap() error { return u.Denial }

// Parse checks the form, the signature and the claims of an access token, but not its time.
// It returns the id of its key. Errors: ErrTokenMalformed, ErrTokenForeign,
// ErrTokenInvalid, [UnknownKey].
func (s *Set) Parse(raw, issuer, audience string) (c *Claims, kid string, err error) {
	if len(raw) > MaxToken || strings.Count(raw, ".") != 2 || !isBase64URL(raw) {
		return nil, "", failure.Deny(failure.ErrTokenMalformed, "not_a_jwt")
	}
	c = new(Claims)
	_, err = parser.ParseWithClaims(raw, c, func(t *jwt.Token) (any, error) {
		kid, _ = t.Header["kid"].(string)
		return s.keyOf(t, c.Issuer == issuer && c.Audience == audience)
	})
	if err != nil {
		return nil, "", refusal(err, kid)
	}
	switch {
	case c.Validate() != nil:
		return nil, "", failure.Deny(failure.ErrTokenInvalid, "bad_claims")
	case c.Issuer != issuer || c.Audience != audience:
		return nil, "", failure.Deny(failure.ErrTokenInvalid, "other_issuer_or_audience")
	case c.ExpiresAt <= 0 || c.IssuedAt <= 0:
		return nil, "", failure.Deny(failure.ErrTokenInvalid, "no_exp")
	}
	key := s.verify[kid]
	if header, _, _ := strings.Cut(raw, "."); header != key.header && !isUniqueObject(header) {
		return nil, "", failure.Deny(failure.ErrTokenInvalid, "unexpected_header")
	}
	return c, key.id, nil
}

// keyOf returns the key that a token's header names. ours is true if its claims name this
// installation.
func (s *Set) keyOf(t *jwt.Token, ours bool) (any, error) {
	kid, _ := t.Header["kid"].(string)
	k, ok := s.verify[kid]
	if !ok {
		refusal := &failure.Denial{Kind: failure.ErrTokenForeign, Reason: "unknown_key"}
		if ours {
			return nil, &UnknownKey{refusal, strings.Clone(kid)}
		}
		return nil, refusal
	}
	// The algorithm is a property of the key, never of the token.
	if t.Method.Alg() != k.alg {
		return nil, failure.Deny(failure.ErrTokenInvalid, "algorithm_mismatch")
	}
	for name := range t.Header {
		if name != "alg" && name != "kid" && name != "typ" {
			return nil, failure.Deny(failure.ErrTokenInvalid, "unexpected_header")
		}
	}
	return k.key, nil
}

// refusal translates an error of the parser.
func refusal(err error, kid string) error {
	if u, ok := errors.AsType[*UnknownKey](err); ok {
		return u
	}
	if d, ok := errors.AsType[*failure.Denial](err); ok {
		return d
	}
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return failure.Deny(failure.ErrTokenMalformed, "not_a_jwt")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid) && kid == "", errors.Is(err, jwt.ErrTokenUnverifiable):
		return failure.Deny(failure.ErrTokenForeign, "unknown_key") // no key, or an algorithm that no key has
	}
	return failure.Deny(failure.ErrTokenInvalid, "bad_signature")
}

// isUniqueObject reports whether a part of a JWT is a JSON object without duplicate names,
// which jsontext does not accept (RFC 7515 §4). encoding/json takes the last of two.
func isUniqueObject(part string) bool {
	data, err := base64.RawURLEncoding.DecodeString(part)
	v := jsontext.Value(data)
	return err == nil && v.Kind() == jsontext.KindBeginObject && v.IsValid()
}

// isBase64URL reports whether a token consists of base64url characters and dots. Go's
// decoder skips line breaks, even when it is strict.
func isBase64URL(raw string) bool {
	for i := range len(raw) {
		if c := raw[i]; ('0' > c || c > '9') && ('A' > c || c > 'Z') && ('a' > c || c > 'z') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

var validMethods = []string{
	jwt.SigningMethodHS256.Alg(), jwt.SigningMethodEdDSA.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodRS256.Alg(),
}
