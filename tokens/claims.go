package tokens

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unique"

	"github.com/golang-jwt/jwt/v5"
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

// Validate checks what the parser does not: that nothing needed is missing.
func (c *Claims) Validate() error {
	if !isID(c.ClientID, applicationIDLength) || !isID(c.Subject, userIDLength) || !isID(c.ID, tokenIDLength) || !c.Delegated {
		return errors.New("claims are incomplete")
	}
	return nil
}

const (
	// MaxToken is the longest token looked at, in bytes. Ours have about 500.
	MaxToken = 4096
	// clockSkew is by how much the clocks of two gateways may differ before
	// one refuses what the other issued ("iat" in the future).
	clockSkew = 5 * time.Second
)

// accessToken is a token whose signature was good and whose record was read. A
// gateway remembers many: what they have in common is there once.
type accessToken struct {
	id        string // jti
	kid       string
	app, user unique.Handle[string] // ids
	scope     unique.Handle[string] // as in the token
	issued    int64                 // unix seconds, as expires
	expires   int64
	births    generations
	read      int64 // when its record was, in unix nanoseconds
	lastJudge judgement
}

func (t *accessToken) appID() string              { return t.app.Value() }
func (t *accessToken) userID() string             { return t.user.Value() }
func (t *accessToken) issuedAt() time.Time        { return time.Unix(t.issued, 0) }
func (t *accessToken) expiresAt() time.Time       { return time.Unix(t.expires, 0) }
func (t *accessToken) readAt() time.Time          { return time.Unix(0, t.read) }
func (t *accessToken) expired(now time.Time) bool { return now.Unix() >= t.expires }

// scopes are those that it was issued with; parsing found them good.
func (t *accessToken) scopes() Scopes {
	s, _ := ParseScopes(t.scope.Value())
	return s
}

// parse checks form, signature and claims of an access token, and nothing that
// can change. Errors: ErrTokenMalformed, ErrTokenForeign, ErrTokenInvalid,
// ErrTokenExpired.
func (a *Authority) parse(raw string) (*accessToken, error) {
	t, err := a.parseSigned(raw)
	if err != nil {
		return nil, err
	}
	now := a.now()
	switch {
	case t.expired(now):
		return nil, deny(ErrTokenExpired, "expired")
	case t.issuedAt().After(now.Add(clockSkew)):
		return nil, deny(ErrTokenInvalid, "issued_in_the_future")
	}
	return t, nil
}

// parseSigned is parse without the judgement of time.
func (a *Authority) parseSigned(raw string) (*accessToken, error) {
	if len(raw) > MaxToken || strings.Count(raw, ".") != 2 || !isBase64URL(raw) {
		return nil, deny(ErrTokenMalformed, "not_a_jwt")
	}
	var c Claims
	var kid string
	// Time is judged below, by rules of our own: the parser's leeway would let
	// a token live on after its "exp".
	parser := jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation(), jwt.WithValidMethods(validMethods))
	_, err := parser.ParseWithClaims(raw, &c, func(t *jwt.Token) (any, error) {
		kid, _ = t.Header["kid"].(string)
		k, ok := a.signing.verify[kid]
		if !ok {
			refusal := &denial{ErrTokenForeign, "unknown_key"}
			if c.Issuer == a.issuer && c.Audience == a.audience {
				return nil, &unknownKey{refusal, strings.Clone(kid)}
			}
			return nil, refusal
		}
		// The algorithm is a property of the key, never of the token.
		if t.Method.Alg() != k.alg {
			return nil, deny(ErrTokenInvalid, "algorithm_mismatch")
		}
		for name := range t.Header {
			if name != "alg" && name != "kid" && name != "typ" {
				return nil, deny(ErrTokenInvalid, "unexpected_header")
			}
		}
		return k.key, nil
	})
	if u, ok := errors.AsType[*unknownKey](err); ok {
		return nil, u
	}
	if d, ok := errors.AsType[*denial](err); ok {
		return nil, d
	}
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return nil, deny(ErrTokenMalformed, "not_a_jwt")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid) && kid == "", errors.Is(err, jwt.ErrTokenUnverifiable):
		return nil, deny(ErrTokenForeign, "unknown_key") // an algorithm we never use, or nobody does
	case err != nil:
		return nil, deny(ErrTokenInvalid, "bad_signature")
	}
	switch {
	case c.Validate() != nil:
		return nil, deny(ErrTokenInvalid, "bad_claims")
	case c.Issuer != a.issuer || c.Audience != a.audience:
		return nil, deny(ErrTokenInvalid, "other_issuer_or_audience")
	case c.ExpiresAt <= 0 || c.IssuedAt <= 0:
		return nil, deny(ErrTokenInvalid, "no_exp")
	case c.ExpiresAt-c.IssuedAt > int64(maxLifetime/time.Second):
		return nil, deny(ErrTokenInvalid, "lives_too_long") // we never issued it
	}
	if _, err := ParseScopes(c.Scope); err != nil {
		return nil, deny(ErrTokenInvalid, "bad_claims")
	}
	return &accessToken{
		id: strings.Clone(c.ID), kid: a.signing.verify[kid].id,
		app: unique.Make(c.ClientID), user: unique.Make(c.Subject), scope: unique.Make(c.Scope),
		issued: c.IssuedAt, expires: c.ExpiresAt,
	}, nil
}

// isBase64URL reports whether a token holds nothing but the letters of base64url
// and dots. Go's decoder skips line breaks, also when it is strict.
func isBase64URL(raw string) bool {
	for i := range len(raw) {
		if c := raw[i]; !isAlnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

var validMethods = []string{
	jwt.SigningMethodHS256.Alg(), jwt.SigningMethodEdDSA.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodRS256.Alg(),
}

// generations are what a token was born under. Any of them having been counted
// up since means that it was revoked.
type generations struct{ installation, application, user, grant uint64 }

// after reports whether any of them is later than in o: who knows only o has not
// heard of everything.
func (g generations) after(o generations) bool {
	return g.installation > o.installation || g.application > o.application || g.user > o.user || g.grant > o.grant
}

// A record is what Redis holds of a token: state, hash of the whole token, four
// generations as varints. Its key is made from the token's id, so the hash says
// that a reply is the answer to the question asked (CVE-2025-29923).
const (
	recordRevoked = 0
	recordLive    = 1
	recordHeader  = 1 + sha256.Size
)

func encodeRecord(sum [sha256.Size]byte, g generations) []byte {
	b := make([]byte, 0, recordHeader+8)
	b = append(append(b, recordLive), sum[:]...)
	for _, n := range []uint64{g.installation, g.application, g.user, g.grant} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func decodeRecord(b []byte) (state byte, sum [sha256.Size]byte, g generations, err error) {
	if len(b) < recordHeader {
		return 0, sum, g, errors.New("token record is too short")
	}
	state = b[0]
	copy(sum[:], b[1:recordHeader])
	rest := b[recordHeader:]
	for _, n := range []*uint64{&g.installation, &g.application, &g.user, &g.grant} {
		v, size := binary.Uvarint(rest)
		if size <= 0 {
			return 0, sum, g, errors.New("token record is cut")
		}
		*n, rest = v, rest[size:]
	}
	if len(rest) != 0 || state > recordLive {
		return 0, sum, g, fmt.Errorf("token record of an unknown form (state %d)", state)
	}
	return state, sum, g, nil
}
