// SPDX-License-Identifier: MIT

// Package meettokens shares Meet's own tokens between gateways. They are encrypted, stored
// under names that reveal nothing, and expire with the token.
package meettokens

import (
	"context"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Store keeps the tokens. It implements backendclient's TokenStore.
type Store struct {
	db   *redisdb.DB
	ring *vault.Ring
}

// New makes a Store.
func New(db *redisdb.DB, ring *vault.Ring) *Store { return &Store{db: db, ring: ring} }

// LoadMeetToken returns what was saved under key, or nil when there is nothing.
// The error is ErrUnavailable.
func (s *Store) LoadMeetToken(ctx context.Context, key string) ([]byte, error) {
	// After a rotation of the secret the name differs, and the token is fetched again.
	name := redisdb.KeyMeetToken(s.ring.First(), key)
	sealed, err := s.db.Get(ctx, name)
	if err != nil {
		return nil, failure.Unavailable("reading a backend token", err)
	}
	value, _, err := s.ring.Open([]byte(sealed), name)
	if err != nil {
		return nil, nil //nolint:nilerr // made with another secret: counts as missing
	}
	return value, nil
}

// SaveMeetToken keeps value under key for ttl, unless that is less than a millisecond. The
// error is ErrUnavailable.
func (s *Store) SaveMeetToken(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl < time.Millisecond {
		return nil
	}
	name := redisdb.KeyMeetToken(s.ring.First(), key)
	if err := s.db.Set(ctx, name, s.ring.Seal(value, name), ttl); err != nil {
		return failure.Unavailable("writing a backend token", err)
	}
	return nil
}

// DropMeetToken deletes value under key, unless another value has replaced it. The error
// is ErrUnavailable.
func (s *Store) DropMeetToken(ctx context.Context, key string, value []byte) error {
	name := redisdb.KeyMeetToken(s.ring.First(), key)
	sealed, err := s.db.Get(ctx, name)
	if err != nil {
		return failure.Unavailable("reading a backend token", err)
	}
	if sealed == "" {
		return nil
	}
	if plain, _, err := s.ring.Open([]byte(sealed), name); err == nil && string(plain) != string(value) {
		return nil
	}
	if err := s.db.DeleteEqual(ctx, name, sealed); err != nil {
		return failure.Unavailable("removing a backend token", err)
	}
	return nil
}

// loadOrLockScript answers a value, or takes the lock if there is none and answers whether
// it succeeded. Finding its own lock is a success, since the reply may have been lost.
// KEYS: value, lock. ARGV: owner, life in ms.
var loadOrLockScript = redisdb.NewScript(`
local value = redis.call('GET', KEYS[1])
if value then return value end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return redis.call('GET', KEYS[2]) == ARGV[1] and 1 or 0`)

// LoadOrLockMeetToken returns what was saved under key, or takes the lock as
// LockMeetToken does, in one round trip. unlock is nil if there is a value, or another
// gateway has the lock. The error is ErrUnavailable.
func (s *Store) LoadOrLockMeetToken(ctx context.Context, key string, ttl time.Duration) (value []byte, unlock func(), err error) {
	const doing = "reading or locking a backend token"
	name, lock := redisdb.KeyMeetToken(s.ring.First(), key), redisdb.KeyMeetLock(s.ring.First(), key)
	mine := vault.RandomID(vault.TokenID)
	found, err := s.db.EvalBeside(ctx, loadOrLockScript, name, lock, mine, ttl.Milliseconds()).Result()
	if err != nil {
		return nil, nil, failure.Unavailable(doing, err)
	}
	switch found := found.(type) {
	case string:
		if value, _, err = s.ring.Open([]byte(found), name); err != nil {
			unlock, _, err = s.LockMeetToken(ctx, key, ttl) // made with another secret: counts as missing
			return nil, unlock, err
		}
		return value, nil, nil
	case int64:
		if found == 1 {
			return nil, s.unlock(ctx, lock, mine), nil
		}
	}
	return nil, nil, nil
}

// LockMeetToken takes the lock for fetching the token under key, unless another
// gateway has it. It ends by itself after ttl; unlock ends it before. The error
// is ErrUnavailable.
func (s *Store) LockMeetToken(ctx context.Context, key string, ttl time.Duration) (unlock func(), acquired bool, err error) {
	name := redisdb.KeyMeetLock(s.ring.First(), key)
	mine := vault.RandomID(vault.TokenID)
	if acquired, err = s.db.SetNew(ctx, name, mine, ttl); err == nil && !acquired {
		// A repeated command may find its own first attempt.
		var owner string
		owner, err = s.db.Get(ctx, name)
		acquired = owner == mine
	}
	if err != nil {
		return nil, false, failure.Unavailable("locking a backend token", err)
	}
	if !acquired {
		return nil, false, nil
	}
	return s.unlock(ctx, name, mine), true, nil
}

// unlock returns a function that releases a lock if it is still mine.
func (s *Store) unlock(ctx context.Context, name, mine string) func() {
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.db.Timeout())
		defer cancel()
		// If this fails, others wait until ttl.
		_ = s.db.DeleteEqual(ctx, name, mine)
	}
}
