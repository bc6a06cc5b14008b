// SPDX-License-Identifier: MIT

package backendclient

import (
	"errors"
	"sync"
	"time"
)

// Observations are what Meet's last answers showed of its configuration. Times are zero for
// what never happened.
type Observations struct {
	// TokenAt is when Meet last issued a token to this client. TokenLifetime is that token's
	// lifetime by its own claims; TokenAudience reports whether it names an audience.
	TokenAt       time.Time
	TokenLifetime time.Duration
	TokenAudience bool
	// TokensRefused is when Meet last refused a token that it had just issued.
	TokensRefused time.Time
	// DuplicateUser and UserNotFound are when an exchange last failed with ErrDuplicateUser
	// and ErrUserNotFound.
	DuplicateUser, UserNotFound time.Time
	// PageSize is the number of rooms on a page of Meet's list.
	PageSize int
}

// NoAudience reports whether Meet issues tokens without an audience and has refused some
// since a time. It does so if its audience is configured as an empty text.
func (o Observations) NoAudience(since time.Time) bool {
	return !o.TokenAt.IsZero() && !o.TokenAudience && o.TokensRefused.After(since)
}

// Explains reports whether the hint of an [Error] adds nothing to the observations.
func (o Observations) Explains(hint string, since time.Time) bool {
	switch hint {
	case hintDuplicate:
		return o.DuplicateUser.After(since)
	case hintTokenRefused:
		return o.NoAudience(since)
	case hintTokenExpired:
		return o.TokenAt.After(since) && o.TokenLifetime <= 0
	}
	return false
}

// Observations returns the observations so far.
func (c *Client) Observations() Observations {
	c.observations.mu.Lock()
	defer c.observations.mu.Unlock()
	o := c.observations.last
	o.PageSize = c.backendPageSize()
	return o
}

// observations guards Observations.
type observations struct {
	mu   sync.Mutex
	last Observations
}

func (o *observations) tokenIssued(t *Token) {
	claims := readClaims(t.Value())
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last.TokenAt, o.last.TokenLifetime, o.last.TokenAudience = t.Received(), t.lifetime(), claims.hasAudience()
	if claims.IssuedAt > 0 && claims.ExpiresAt > 0 {
		o.last.TokenLifetime = time.Duration((claims.ExpiresAt - claims.IssuedAt) * float64(time.Second))
	}
}

func (o *observations) exchangeFailed(e *Error, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case errors.Is(e.Kind, ErrDuplicateUser):
		o.last.DuplicateUser = now
	case errors.Is(e.Kind, ErrUserNotFound):
		o.last.UserNotFound = now
	}
}

// tokenRefused records that Meet refused a token that it had just issued.
func (o *observations) tokenRefused(e *Error, now time.Time) {
	if e.Hint == hintTokenRefused {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.last.TokensRefused = now
	}
}
