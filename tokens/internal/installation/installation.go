// SPDX-License-Identifier: MIT

// Package installation keeps the state that can invalidate any token of the installation:
// its generation, a not-before time, and the withdrawn signing keys. [Store.Load] reads it,
// [Store.Withdraw] and [Store.RefuseBefore] change it. [KeyUse] keeps track of the keys that
// gateways use.
package installation

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// State can invalidate any token.
type State struct {
	// Generation is counted up to revoke everything issued so far.
	Generation uint64
	// NotBefore refuses tokens issued before it.
	NotBefore time.Time
	// Withdrawn are the ids of signing keys whose tokens are refused.
	Withdrawn map[string]bool
	// LastSigned is, by key id, when the last token signed by the key expires, or until when
	// a gateway has announced that it uses the key (see [KeyUse]).
	LastSigned map[string]time.Time

	// Read is when it was read from Redis.
	Read time.Time
}

// FieldGeneration of its hash is counted up to end all tokens.
const FieldGeneration = "g"

// Further fields of the installation's hash.
const (
	fieldNotBefore   = "nb" // unix milliseconds
	prefixWithdrawn  = "w:" // + key id
	prefixLastSigned = "s:" // + key id: until when it is in use, unix seconds
)

// Parse decodes the hash of an installation. Unknown fields are an error: it is another hash.
func Parse(m map[string]string) (*State, error) {
	in := &State{
		Generation: redisdb.ParseUint(m[FieldGeneration]),
		Withdrawn:  map[string]bool{}, LastSigned: map[string]time.Time{},
	}
	if ms := redisdb.ParseUint(m[fieldNotBefore]); ms > 0 {
		in.NotBefore = time.UnixMilli(int64(ms))
	}
	for k, v := range m {
		id := k[min(len(k), len(prefixWithdrawn)):] // all prefixes have the same length
		switch {
		case k == FieldGeneration, k == fieldNotBefore:
		case strings.HasPrefix(k, prefixWithdrawn):
			in.Withdrawn[id] = true
		case strings.HasPrefix(k, prefixLastSigned):
			in.LastSigned[id] = time.Unix(int64(redisdb.ParseUint(v)), 0)
		default:
			return nil, fmt.Errorf("the installation has an unknown field %.8q", k)
		}
	}
	return in, nil
}

// Store reads and changes the state of the installation.
type Store struct {
	db     *redisdb.DB
	feed   *feed.Feed
	epochs *memory.Epochs
	now    func() time.Time
	memory atomic.Pointer[State]

	// The not-before time and the withdrawn keys never shrink. A Redis without them has
	// lost them, so this gateway keeps applying the ones it has seen.
	mu        sync.Mutex
	notBefore time.Time
	withdrawn map[string]bool
}

// New makes a store.
func New(db *redisdb.DB, f *feed.Feed, epochs *memory.Epochs, now func() time.Time) *Store {
	return &Store{db: db, feed: f, epochs: epochs, now: now}
}

// Remembered is the state in memory, nil if it has changed since it was read.
func (s *Store) Remembered() *State { return s.memory.Load() }

// Forget drops the state from memory.
func (s *Store) Forget() { s.memory.Store(nil) }

// Load reads the installation from Redis.
func (s *Store) Load(ctx context.Context) (*State, error) {
	since := s.epochs.Now(redisdb.KeyInstallation)
	m, err := s.db.Hash(ctx, redisdb.KeyInstallation)
	if err != nil {
		return nil, failure.Unavailable("reading the installation", err)
	}
	return s.Keep(m, since)
}

// Keep decodes a hash that was read after since, and keeps it in memory.
func (s *Store) Keep(m map[string]string, since memory.Epoch) (*State, error) {
	in, err := Parse(m)
	if err != nil {
		return nil, failure.Unavailable("reading the installation", err)
	}
	in.Read = s.now()
	s.merge(in)
	s.epochs.Fill(redisdb.KeyInstallation, since, func() { s.memory.Store(in) })
	return in, nil
}

// merge adds the not-before time and the withdrawn keys that were seen before.
func (s *Store) merge(in *State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.NotBefore.Before(s.notBefore) {
		in.NotBefore = s.notBefore
	}
	s.notBefore = in.NotBefore
	for kid := range s.withdrawn {
		in.Withdrawn[kid] = true
	}
	s.withdrawn = maps.Clone(in.Withdrawn)
}

// Withdrawn reports whether a key is known to be withdrawn.
func (s *Store) Withdrawn(kid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.withdrawn[kid]
}

// Withdraw ends all tokens signed with a key.
func (s *Store) Withdraw(ctx context.Context, kid string) error {
	return s.raise(ctx, prefixWithdrawn+kid, "1")
}

// RefuseBefore ends all tokens issued before a time.
func (s *Store) RefuseBefore(ctx context.Context, t time.Time) error {
	return s.raise(ctx, fieldNotBefore, strconv.FormatInt(t.UnixMilli(), 10))
}

// raise sets a field to a number unless it is larger already.
func (s *Store) raise(ctx context.Context, field, value string) error {
	return s.feed.Commit(ctx, feed.Commit{
		Doing: "revoking", Script: Raise, Key: redisdb.KeyInstallation, Args: []any{field, value},
		Redo: []journal.Entry{{Rank: journal.Revocations, Key: redisdb.KeyInstallation, Script: Raise, Args: []any{field, value}}},
	})
}

// Raise is a script that sets a field of a hash to a number unless the field is at least
// as large, and answers whether it did. ARGV: field, number.
var Raise = journal.NewScript(`
local have = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if have >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1`)
