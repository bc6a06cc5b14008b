// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"time"
)

// The four methods below keep Meet's own tokens for all gateways: encrypted,
// under a key that tells nothing, for as long as they live. The room that talks
// to Meet declares the interface they fulfil.

// LoadMeetToken returns what was saved under key, or nil when there is nothing.
// The error is ErrUnavailable.
func (a *Authority) LoadMeetToken(ctx context.Context, key string) ([]byte, error) {
	// A rotated secret means another name: the token is fetched once more.
	name := keyMeetToken(a.keys.First(), key)
	sealed, err := a.db.Get(ctx, name)
	if err != nil {
		return nil, unavailable("reading a backend token", err)
	}
	value, _, err := a.keys.Open([]byte(sealed), name)
	if err != nil {
		return nil, nil //nolint:nilerr // made with another secret: as good as none
	}
	return value, nil
}

// SaveMeetToken keeps value under key for ttl; for less than a millisecond it is
// not worth keeping. The error is ErrUnavailable.
func (a *Authority) SaveMeetToken(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl < time.Millisecond {
		return nil
	}
	name := keyMeetToken(a.keys.First(), key)
	if err := a.db.Set(ctx, name, a.keys.Seal(value, name), ttl); err != nil {
		return unavailable("writing a backend token", err)
	}
	return nil
}

// DropMeetToken forgets value under key, unless there is another one by now.
// The error is ErrUnavailable.
func (a *Authority) DropMeetToken(ctx context.Context, key string, value []byte) error {
	name := keyMeetToken(a.keys.First(), key)
	sealed, err := a.db.Get(ctx, name)
	if err != nil {
		return unavailable("reading a backend token", err)
	}
	if sealed == "" {
		return nil
	}
	if plain, _, err := a.keys.Open([]byte(sealed), name); err == nil && string(plain) != string(value) {
		return nil
	}
	if err := a.db.DeleteEqual(ctx, name, sealed); err != nil {
		return unavailable("removing a backend token", err)
	}
	return nil
}

// LockMeetToken takes the lock for fetching the token under key, unless another
// gateway has it. It ends by itself after ttl; unlock ends it before. The error
// is ErrUnavailable.
func (a *Authority) LockMeetToken(ctx context.Context, key string, ttl time.Duration) (unlock func(), acquired bool, err error) {
	name := keyMeetLock(a.keys.First(), key)
	mine := randomID(tokenIDLength)
	if acquired, err = a.db.SetNew(ctx, name, mine, ttl); err == nil && !acquired {
		// A repeated command may have met its own first try.
		var owner string
		owner, err = a.db.Get(ctx, name)
		acquired = owner == mine
	}
	if err != nil {
		return nil, false, unavailable("locking a backend token", err)
	}
	if !acquired {
		return nil, false, nil
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.db.Timeout())
		defer cancel()
		// Not unlocked means locked until ttl: others wait, nobody fails.
		_ = a.db.DeleteEqual(ctx, name, mine)
	}, true, nil
}
