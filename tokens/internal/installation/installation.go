// SPDX-License-Identifier: MIT

// Package installation keeps what concerns all tokens of an installation: its
// generation, the instant before which none is valid, the keys that were withdrawn, and
// which keys its gateways use.
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

// State is what overrules tokens whoever they belong to.
type State struct {
	// Generation is counted up to revoke everything issued so far.
	Generation uint64
	// NotBefore refuses tokens issued before it.
	NotBefore time.Time
	// Withdrawn are the ids of signing keys whose tokens are refused.
	Withdrawn map[string]bool
	// LastSigned is, by key id, until when something signed by the key lives, or for
	// how long a gateway has said that it uses the key (see [KeyUse]).
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
	prefixLastSigned = "s:" // + key id: unix seconds until when it is in use
)

// Parse fails on a field that an installation does not have: what
// was read is then something else.
func Parse(m map[string]string) (*State, error) {
	in := &State{
		Generation: redisdb.ParseUint(m[FieldGeneration]),
		Withdrawn:  map[string]bool{}, LastSigned: map[string]time.Time{},
	}
	if ms := redisdb.ParseUint(m[fieldNotBefore]); ms > 0 {
		in.NotBefore = time.UnixMilli(int64(ms))
	}
	for k, v := range m {
		id := k[min(len(k), len(prefixWithdrawn)):] // all prefixes are as long
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

// Store reads the installation, and changes what overrules tokens.
type Store struct {
	db     *redisdb.DB
	feed   *feed.Feed
	epochs *memory.Epochs
	now    func() time.Time
	memory atomic.Pointer[State]

	// What was ever read of instants and keys that overrule tokens is never taken back.
	// A Redis that does not have it has lost it, and until it is written again this
	// gateway does not forget.
	mu        sync.Mutex
	notBefore time.Time
	withdrawn map[string]bool
}

// New makes a store.
func New(db *redisdb.DB, f *feed.Feed, epochs *memory.Epochs, now func() time.Time) *Store {
	return &Store{db: db, feed: f, epochs: epochs, now: now}
}

// Remembered is the installation as it was read last, nil if it has changed since.
func (s *Store) Remembered() *State { return s.memory.Load() }

// Forget drops what is remembered and can change.
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

// Keep decodes an installation that was read since, and remembers it.
func (s *Store) Keep(m map[string]string, since memory.Epoch) (*State, error) {
	in, err := Parse(m)
	if err != nil {
		return nil, failure.Unavailable("reading the installation", err)
	}
	in.Read = s.now()
	s.overrule(in)
	s.epochs.Fill(redisdb.KeyInstallation, since, func() { s.memory.Store(in) })
	return in, nil
}

// overrule adds to an installation what was known before, and notes what is new.
func (s *Store) overrule(in *State) {
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

// RefuseBefore ends all tokens issued before an instant.
func (s *Store) RefuseBefore(ctx context.Context, t time.Time) error {
	return s.raise(ctx, fieldNotBefore, strconv.FormatInt(t.UnixMilli(), 10))
}

// raise sets a field to a number, unless it has a larger one.
func (s *Store) raise(ctx context.Context, field, value string) error {
	return s.feed.Commit(ctx, feed.Commit{
		Doing: "revoking", Script: Raise, Key: redisdb.KeyInstallation, Args: []any{field, value},
		Redo: []journal.Entry{{Rank: journal.Revocations, Key: redisdb.KeyInstallation, Script: Raise, Args: []any{field, value}}},
	})
}

// Raise is a script that sets a field of a hash to a number unless it has that or a
// larger one, and answers whether it did. ARGV: field, number.
var Raise = journal.NewScript(`
local have = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if have >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1`)
