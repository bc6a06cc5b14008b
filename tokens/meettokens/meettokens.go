// SPDX-License-Identifier: MIT

// Package meettokens keeps Meet's own tokens for all gateways: encrypted, under a key
// that tells nothing, for as long as they live.
package meettokens

import (
	"context"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Store keeps them. The package that talks to Meet declares the interface that it
// implements.
type Store struct {
	db   *redisdb.DB
	ring *vault.Ring
}

// New makes a Store.
func New(db *redisdb.DB, ring *vault.Ring) *Store { return &Store{db: db, ring: ring} }

// LoadMeetToken returns what was saved under key, or nil when there is nothing.
// The error is ErrUnavailable.
func (s *Store) LoadMeetToken(ctx context.Context, key string) ([]byte, error) {
	// A rotated secret means another name: the token is fetched once more.
	name := redisdb.KeyMeetToken(s.ring.First(), key)
	sealed, err := s.db.Get(ctx, name)
	if err != nil {
		return nil, failure.Unavailable("reading a backend token", err)
	}
	value, _, err := s.ring.Open([]byte(sealed), name)
	if err != nil {
		return nil, nil //nolint:nilerr // made with another secret: as good as none
	}
	return value, nil
}

// SaveMeetToken keeps value under key for ttl; for less than a millisecond it is
// not worth keeping. The error is ErrUnavailable.
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

// DropMeetToken forgets value under key, unless there is another one by now.
// The error is ErrUnavailable.
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

// loadOrLockScript answers a value, or takes the lock if there is none, and answers
// whether it has it. Finding its own lock there is success: the answer to it may have
// been lost on the way. KEYS: value, lock. ARGV: whose, life in ms.
var loadOrLockScript = redisdb.NewScript(`
local value = redis.call('GET', KEYS[1])
if value then return value end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return redis.call('GET', KEYS[2]) == ARGV[1] and 1 or 0`)

// LoadOrLockMeetToken returns what was saved under key, or takes the lock as
// LockMeetToken does, in one trip. unlock is nil if there is a value, or another
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
			unlock, _, err = s.LockMeetToken(ctx, key, ttl) // made with another secret: as good as none
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
		// A repeated command may have met its own first try.
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

// unlock makes what gives a lock back that is still mine.
func (s *Store) unlock(ctx context.Context, name, mine string) func() {
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.db.Timeout())
		defer cancel()
		// Not unlocked means locked until ttl: others wait, nobody fails.
		_ = s.db.DeleteEqual(ctx, name, mine)
	}
}
