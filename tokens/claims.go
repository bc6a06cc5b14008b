// SPDX-License-Identifier: MIT

package tokens

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unique"

	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

// MaxToken is the longest token looked at, in bytes. Ours have about 500.
const MaxToken = signing.MaxToken

// Claims are those of an access token.
type Claims = signing.Claims

const (
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
func (s *signer) parse(raw string) (*accessToken, error) {
	t, err := s.parseSigned(raw)
	if err != nil {
		return nil, err
	}
	now := s.now()
	switch {
	case t.expired(now):
		return nil, of(t.appID(), deny(ErrTokenExpired, "expired"))
	case t.issuedAt().After(now.Add(clockSkew)):
		return nil, deny(ErrTokenInvalid, "issued_in_the_future")
	}
	return t, nil
}

// parseSigned is parse without the judgement of time.
func (s *signer) parseSigned(raw string) (*accessToken, error) {
	c, kid, err := s.signing.Parse(raw, s.issuer, s.audience)
	if err != nil {
		return nil, err
	}
	if c.ExpiresAt-c.IssuedAt > int64(maxLifetime/time.Second) {
		return nil, deny(ErrTokenInvalid, "lives_too_long") // we never issued it
	}
	if _, err := ParseScopes(c.Scope); err != nil {
		return nil, deny(ErrTokenInvalid, "bad_claims")
	}
	return &accessToken{
		id: strings.Clone(c.ID), kid: kid,
		app: unique.Make(c.ClientID), user: unique.Make(c.Subject), scope: unique.Make(c.Scope),
		issued: c.IssuedAt, expires: c.ExpiresAt,
	}, nil
}

// generations are what a token was born under. Any of them having been counted
// up since means that it was revoked.
type generations struct{ installation, application, user, grant uint64 }

// list is how they are stored with a family of refresh tokens.
func (g generations) list() [4]uint64 {
	return [4]uint64{g.installation, g.application, g.user, g.grant}
}

func birthsOf(l [4]uint64) generations { return generations{l[0], l[1], l[2], l[3]} }

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
