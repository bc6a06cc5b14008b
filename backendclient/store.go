// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// TokenStore shares Meet's tokens between processes and lets only one of them exchange for
// a caller. Keys are 64 hexadecimal digits that reveal nothing about the caller. Values are
// valid credentials and have to be encrypted at rest.
//
// Implementations bound their calls in time. After an error the client works without the
// store; the additional exchanges do no harm.
type TokenStore interface {
	// LoadMeetToken returns the value of key, or nil if there is none.
	LoadMeetToken(ctx context.Context, key string) (value []byte, err error)

	// LoadOrLockMeetToken returns the value of key. If there is none it tries to take the
	// lock, without waiting. unlock is nil if there is a value or another process has the
	// lock.
	LoadOrLockMeetToken(ctx context.Context, key string, ttl time.Duration) (value []byte, unlock func(), err error)

	// SaveMeetToken sets the value of key; it expires after ttl.
	SaveMeetToken(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// DropMeetToken deletes key if it still has this value.
	DropMeetToken(ctx context.Context, key string, value []byte) error

	// LockMeetToken tries to take the lock to exchange for key, without waiting. The lock
	// expires after ttl; unlock may still be called then, and is nil unless acquired.
	LockMeetToken(ctx context.Context, key string, ttl time.Duration) (unlock func(), acquired bool, err error)
}

// storeKey returns the key of a caller's token at this backend. It depends on the secret, so
// a stored token serves only callers with that secret, and on the generations, so it serves
// nobody after a revocation.
func (c *Client) storeKey(id identity) string {
	h := sha256.New()
	shared := id.shared.Value()
	for _, s := range [...]string{shared.credentials.ClientID, shared.credentials.ClientSecret, c.options.Host, id.mail} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		h.Write(length[:])
		h.Write([]byte(s))
	}
	_ = binary.Write(h, binary.BigEndian, shared.generations) // writing to a hash does not fail
	return hex.EncodeToString(h.Sum(nil))
}

// storedToken is the stored form of a token. Encoding is deterministic, which
// DropMeetToken relies on.
type storedToken struct {
	Version      int      `json:"v"`
	Token        string   `json:"t"`
	Scopes       []string `json:"s,omitempty"`
	UserID       string   `json:"u,omitempty"`
	Received     int64    `json:"r"` // milliseconds since 1970
	Expires      int64    `json:"e"`
	MissedScopes int      `json:"n,omitempty"`
}

const storedVersion = 1

func encodeToken(t *Token) ([]byte, error) {
	return json.Marshal(storedToken{
		Version:      storedVersion,
		Token:        t.Value(),
		Scopes:       t.Scopes(),
		UserID:       t.UserID(),
		Received:     t.received,
		Expires:      t.expires,
		MissedScopes: int(t.missedScopes),
	})
}

// decodeToken returns nil for anything that this version did not write.
func decodeToken(value []byte) *Token {
	var s storedToken
	if json.Unmarshal(value, &s) != nil || s.Version != storedVersion || !sendable(s.Token) {
		return nil
	}
	t := newToken(s.Token, s.UserID)
	t.missedScopes = int32(max(s.MissedScopes, 0))
	if s.Scopes != nil {
		t.scopes = sharedScopes.fields(strings.Join(s.Scopes, " "))
	}
	t.received, t.expires = s.Received, s.Expires
	return t
}
