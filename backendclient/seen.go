// SPDX-License-Identifier: MIT

package backendclient

import (
	"errors"
	"sync"
	"time"
)

// Seen is what Meet's last answers showed of how it is set up. Times are zero for
// what was never seen.
type Seen struct {
	// TokenAt is when Meet last issued a token to this client. TokenLifetime is how long
	// that one lives by its own claims, TokenAudience tells that it names an audience.
	TokenAt       time.Time
	TokenLifetime time.Duration
	TokenAudience bool
	// TokensRefused is when Meet last refused a token that it had just issued.
	TokensRefused time.Time
	// DuplicateUser and UserNotFound are when an exchange last failed for ErrDuplicateUser
	// and ErrUserNotFound.
	DuplicateUser, UserNotFound time.Time
	// PageSize is how many rooms are on a page of Meet's list.
	PageSize int
}

// NoAudience reports whether Meet has refused tokens since a time that it issues
// without an audience, as one does whose audience is set to nothing.
func (s Seen) NoAudience(since time.Time) bool {
	return !s.TokenAt.IsZero() && !s.TokenAudience && s.TokensRefused.After(since)
}

// Explains reports whether the hint of an [Error] says no more than s.
func (s Seen) Explains(hint string, since time.Time) bool {
	switch hint {
	case hintDuplicate:
		return s.DuplicateUser.After(since)
	case hintTokenRefused:
		return s.NoAudience(since)
	case hintTokenExpired:
		return s.TokenAt.After(since) && s.TokenLifetime <= 0
	}
	return false
}

// Seen returns what was last seen.
func (c *Client) Seen() Seen {
	s := c.seen.get()
	s.PageSize = c.backendPageSize()
	return s
}

// notebook keeps a Seen.
type notebook struct {
	mu   sync.Mutex
	seen Seen
}

func (n *notebook) get() Seen {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen
}

// issued notes a token.
func (n *notebook) issued(t *Token) {
	claims := readClaims(t.Value)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen.TokenAt, n.seen.TokenLifetime, n.seen.TokenAudience = t.Received, t.Expires.Sub(t.Received), claims.hasAudience()
	if claims.IssuedAt > 0 && claims.ExpiresAt > 0 {
		n.seen.TokenLifetime = time.Duration((claims.ExpiresAt - claims.IssuedAt) * float64(time.Second))
	}
}

// failed notes why an exchange failed.
func (n *notebook) failed(e *Error, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case errors.Is(e.Kind, ErrDuplicateUser):
		n.seen.DuplicateUser = now
	case errors.Is(e.Kind, ErrUserNotFound):
		n.seen.UserNotFound = now
	}
}

// refused notes that Meet refused a token that it had just issued.
func (n *notebook) refused(e *Error, now time.Time) {
	if e.Hint != hintTokenRefused {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen.TokensRefused = now
}
