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

// TokenStore shares Meet's tokens between processes, and sees to it that only
// one of them exchanges for a caller. Keys are 64 hexadecimal digits that tell
// nothing of the caller; values are live credentials, to be encrypted at rest.
//
// Implementations bound their calls in time. An error means that the store is
// away: the client then works alone, since parallel exchanges cost Meet time but
// do no harm.
type TokenStore interface {
	// LoadMeetToken gives the value for key, or nil and no error if there is none.
	LoadMeetToken(ctx context.Context, key string) (value []byte, err error)

	// LoadOrLockMeetToken gives the value for key. If there is none it tries, without
	// waiting, to be the only one to exchange for key, as LockMeetToken does: unlock is
	// nil if there is a value, or if another process has the lock.
	LoadOrLockMeetToken(ctx context.Context, key string, ttl time.Duration) (value []byte, unlock func(), err error)

	// SaveMeetToken replaces the value for key; it is gone after ttl.
	SaveMeetToken(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// DropMeetToken removes the value for key if it is still the one given.
	DropMeetToken(ctx context.Context, key string, value []byte) error

	// LockMeetToken tries, without waiting, to be the only one to exchange for key.
	// The lock falls by itself after ttl; unlock may be called then too, and is nil
	// unless acquired.
	LockMeetToken(ctx context.Context, key string, ttl time.Duration) (unlock func(), acquired bool, err error)
}

// storeKey names the token of a caller at this backend. The secret is part of
// it, so a stored token serves only those who hold the secret it was made with; so
// are the generations, and after a revocation it serves nobody.
func (c *Client) storeKey(id identity) string {
	h := sha256.New()
	for _, s := range [...]string{id.credentials.ClientID, id.credentials.ClientSecret, c.host, id.mail} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		h.Write(length[:])
		h.Write([]byte(s))
	}
	_ = binary.Write(h, binary.BigEndian, id.generations) // a hash takes everything
	return hex.EncodeToString(h.Sum(nil))
}

// storedToken is the stored form. Encoding the same token twice gives the same
// bytes, which DropMeetToken relies on.
type storedToken struct {
	Version  int      `json:"v"`
	Token    string   `json:"t"`
	Scopes   []string `json:"s,omitempty"`
	UserID   string   `json:"u,omitempty"`
	Received int64    `json:"r"` // milliseconds since 1970
	Expires  int64    `json:"e"`
	Vain     int      `json:"n,omitempty"`
}

const storedVersion = 1

func encodeToken(t *Token) ([]byte, error) {
	return json.Marshal(storedToken{
		Version:  storedVersion,
		Token:    t.Value,
		Scopes:   t.Scopes,
		UserID:   t.UserID,
		Received: t.Received.UnixMilli(),
		Expires:  t.Expires.UnixMilli(),
		Vain:     t.vain,
	})
}

// decodeToken gives nil for anything that this version did not write.
func decodeToken(value []byte) *Token {
	var s storedToken
	if json.Unmarshal(value, &s) != nil || s.Version != storedVersion || !sendable(s.Token) {
		return nil
	}
	t := newToken(s.Token, s.UserID)
	t.vain = max(s.Vain, 0)
	if s.Scopes != nil {
		t.Scopes = sharedScopes.fields(strings.Join(s.Scopes, " "))
	}
	t.Received, t.Expires = time.UnixMilli(s.Received), time.UnixMilli(s.Expires)
	return t
}
