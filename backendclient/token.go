// SPDX-License-Identifier: MIT

package backendclient

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// maxTokenLength leaves room for the scheme in the 8190 bytes that Meet's
	// server allows a header line.
	maxTokenLength = 8000

	// maxKept bounds how long a token is used, whatever Meet says: its scopes are
	// frozen in it, and Meet allows tokens that live for years.
	maxKept = 24 * time.Hour

	// maxUserID bounds Meet's id of a user, which becomes a part of what the gateway
	// signs. A UUID has 36 characters.
	maxUserID = 64
)

// Token is Meet's token for a caller. It prints, logs and marshals without its
// value. It is immutable once it is kept.
type Token struct {
	// text is the Authorization header with Meet's token, followed by Meet's id of the user.
	text       string
	headerSize int32

	// missedScopes is the number of consecutive fetches for a scope that Meet did not grant.
	missedScopes int32

	scopes            *[]string // shared by many tokens
	received, expires int64     // unix milliseconds

	lastUse use
}

// newToken returns a Token with Meet's token and Meet's id of the user.
func newToken(value, userID string) *Token {
	return &Token{text: bearer + value + userID, headerSize: int32(len(bearer) + len(value))}
}

const bearer = "Bearer "

// authorization is the header with the token.
func (t *Token) authorization() string { return t.text[:t.headerSize] }

// Value is the bearer token. The gateway sends it to Meet only.
func (t *Token) Value() string { return t.text[len(bearer):t.headerSize] }

// UserID is Meet's id of the user (a UUID), read from the token's payload without verifying
// it; "" if the payload is unreadable. It may change when users are merged.
func (t *Token) UserID() string { return t.text[t.headerSize:] }

// Scopes is what Meet granted, in Meet's order; nil when it granted nothing. Do not change it.
func (t *Token) Scopes() []string {
	if t.scopes == nil {
		return nil
	}
	return *t.scopes
}

// Received is the time of Meet's answer, by this machine's clock in whole milliseconds.
func (t *Token) Received() time.Time { return time.UnixMilli(t.received) }

// Expires is the end of the lifetime that Meet granted, by the same clock as Received.
func (t *Token) Expires() time.Time { return time.UnixMilli(t.expires) }

// String hides the token.
func (t *Token) String() string { return redacted }

// GoString is String: %#v shows no more.
func (t *Token) GoString() string { return redacted }

// Format writes String for every verb.
func (t *Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue is what log/slog shows.
func (t *Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps the token out of encodings that work by reflection.
func (t *Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// usableUntil returns the time until which the token may be used for a new request. It is
// earlier than Expires, so that the token does not expire on the way to Meet. A token without
// a lifetime serves the request that asked for it and is never kept.
func (t *Token) usableUntil() time.Time {
	life := t.lifetime()
	switch {
	case life <= 0:
		return t.Received()
	case life < 2*time.Minute:
		life /= 2
	default:
		life -= max(time.Minute, life/10)
	}
	return t.Received().Add(min(life, maxKept))
}

// lifetime is what Meet granted.
func (t *Token) lifetime() time.Duration {
	return time.Duration(t.expires-t.received) * time.Millisecond
}

// tokenAnswer is the body of Meet's answer to an exchange. ExpiresIn is a float because 3600.0
// is valid JSON for a whole number. It is a pointer because Meet may omit it: the token then
// serves the current request and is not kept.
type tokenAnswer struct {
	AccessToken string   `json:"access_token"`
	ExpiresIn   *float64 `json:"expires_in"`
	Scope       *string  `json:"scope"`
}

var errUnusableToken = errors.New("unusable token")

// readToken reads the answer to a successful exchange.
func readToken(body []byte, now time.Time) (*Token, error) {
	var a tokenAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		// Not %w: the text of a decoding error may quote the body.
		return nil, errors.New("not the answer of a token endpoint")
	}
	if !sendable(a.AccessToken) {
		return nil, errUnusableToken
	}
	t := newToken(a.AccessToken, userID(a.AccessToken))
	t.received, t.expires = now.UnixMilli(), now.UnixMilli()
	if a.Scope != nil {
		t.scopes = sharedScopes.fields(strings.ToLower(*a.Scope)) // as Meet reads them
	}
	if a.ExpiresIn != nil && *a.ExpiresIn > 0 {
		// Years of lifetime would overflow a Duration.
		const longest = 10 * 365 * 24 * 60 * 60
		t.expires += int64(min(*a.ExpiresIn, longest) * 1000)
	}
	return t, nil
}

// scopeSets has each set of scopes once that Meet granted: those of most tokens are the
// same.
type scopeSets struct {
	mu   sync.Mutex
	sets map[string]*[]string // by how Meet writes them
}

// maxScopeSets bounds them. An installation has a few.
const maxScopeSets = 256

var sharedScopes = scopeSets{sets: map[string]*[]string{}}

func (s *scopeSets) fields(text string) *[]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, ok := s.sets[text]
	if !ok {
		if len(s.sets) >= maxScopeSets {
			clear(s.sets)
		}
		set = new(strings.Fields(text))
		s.sets[text] = set
	}
	return set
}

// sendable says whether the token can be written in an Authorization header as
// one word (RFC 6750 §2.1, b64token).
func sendable(token string) bool {
	if token == "" || len(token) > maxTokenLength {
		return false
	}
	for i := range len(token) {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._~+/=", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// userID is Meet's id of the user in a token, "" if it cannot be read.
func userID(token string) string {
	if id := readClaims(token).UserID; len(id) <= maxUserID {
		return id
	}
	return ""
}

// claims are those of Meet's tokens that the gateway looks at.
type claims struct {
	UserID    string          `json:"user_id"`
	Audience  json.RawMessage `json:"aud"`
	IssuedAt  float64         `json:"iat"`
	ExpiresAt float64         `json:"exp"`
}

// hasAudience reports whether the token is for somebody.
func (c claims) hasAudience() bool {
	switch string(c.Audience) {
	case "", "null", `""`, "[]":
		return false
	}
	return true
}

// readClaims peeks at the payload of a JWT. The signature is not checked: the token
// came from Meet's own endpoint, and only Meet ever judges it. Where it cannot be
// read, there are none.
func readClaims(token string) claims {
	_, rest, ok := strings.Cut(token, ".")
	if !ok {
		return claims{}
	}
	payload, _, ok := strings.Cut(rest, ".")
	if !ok {
		return claims{}
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(payload, "="))
	if err != nil {
		return claims{}
	}
	var c claims
	if json.Unmarshal(raw, &c) != nil {
		return claims{}
	}
	return c
}
