// SPDX-License-Identifier: MIT

// Package family keeps the refresh tokens that came from one grant.
//
// A refresh token is the prefix "mgr_", the id of its family, 256 random bits
// and a checksum. All tokens that came from one grant by rotation are a family
// and share one hash in Redis, so that rotating is one atomic step:
//
//   - the current token is exchanged for a new pair;
//   - the one before it, within a short window after the pair was given, gets the
//     same pair again: its holder lost the answer. A pair that was never given while
//     its access token lived is made anew. Until the pair was given there is no
//     window: while Redis, or the replicas asked for, do not acknowledge, its holder
//     is answered 503 and tries again, for however long that takes;
//   - anything older, or the one before it later, means that two parties hold
//     the token: the family and the access tokens it gave are revoked
//     (RFC 9700 §4.14.2).
//
// A family that has ended stays marked as such until it would have expired, so
// that ending it can be tried again until all its access tokens are revoked.
//
// Redis holds keyed hashes of the tokens, and the last pair encrypted.
package family

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Prefix begins a refresh token.
const Prefix = "mgr_"

// Defaults of Options.
const (
	DefaultIdle     = 30 * 24 * time.Hour
	DefaultAbsolute = 90 * 24 * time.Hour
	DefaultWindow   = 10 * time.Second
)

// Options are the lifetimes of refresh tokens.
type Options struct {
	// Idle ends a family that is not used for so long. Default: 720h (30 days).
	Idle time.Duration
	// Absolute ends a family so long after its grant. Default: 2160h (90 days).
	Absolute time.Duration
	// Window is how long the token before the current one gets the same pair
	// again. Default: 10s; at most 1m.
	Window time.Duration
}

// WithDefaults fills what is not set.
func (o Options) WithDefaults() Options {
	return Options{
		Idle:     cmp.Or(o.Idle, DefaultIdle),
		Absolute: cmp.Or(o.Absolute, DefaultAbsolute),
		Window:   cmp.Or(o.Window, DefaultWindow),
	}
}

// Check tells what is wrong with them.
func (o Options) Check() error {
	if o.Idle < time.Minute || o.Absolute < o.Idle {
		return fmt.Errorf("refresh lifetimes: idle %v must be at least 1m and at most absolute %v", o.Idle, o.Absolute)
	}
	if o.Window < time.Second || o.Window > time.Minute {
		return fmt.Errorf("refresh window %v is not between 1s and 1m", o.Window)
	}
	return nil
}

// Fields of a family's hash.
const (
	fieldCurrent  = "cur"  // hash of the current token
	fieldPrevious = "prev" // hash of the one before
	fieldFamily   = "fam"  // JSON of Family
	fieldAccess   = "acc"  // keys of the access tokens' records, newest first
	fieldTill     = "till" // until when the current token lives, unix milliseconds
	fieldEnded    = "end"  // set when the family is over
	fieldKey      = "key"  // id of the master key of the current token's hash

	// FieldRotated is when the current token was given, in unix milliseconds; the pair
	// is in "pair", encrypted.
	FieldRotated = "at"
	// FieldOpen is set while the pair may have been given to nobody yet.
	FieldOpen = "open"
)

const (
	// IDLength is how many letters and digits the id of a family has.
	IDLength = 22
	// maxAccess is how many access tokens of a family are remembered.
	maxAccess = 16
)

// Family is what does not change while tokens rotate.
type Family struct {
	Application   string         `json:"a"`
	User          string         `json:"u"`
	BackendUserID string         `json:"b,omitempty"`
	Scopes        grammar.Scopes `json:"s"`
	Created       int64          `json:"c"` // unix milliseconds, as End
	End           int64          `json:"e"`
	// Births are the generations of the grant.
	Births [4]uint64 `json:"g"`
}

// Since is when the family began.
func (f *Family) Since() time.Time { return time.UnixMilli(f.Created) }

// Store keeps families.
type Store struct {
	db      *redisdb.DB
	feed    *feed.Feed
	keys    *vault.Ring
	now     func() time.Time
	options Options
	// misses returns ErrUnavailable for a key that this gateway lacks and others use.
	misses func(ctx context.Context, keyID, doing string) error
}

// New makes a store. misses returns ErrUnavailable for a key that this gateway lacks
// and others use.
func New(db *redisdb.DB, f *feed.Feed, keys *vault.Ring, now func() time.Time, o Options, misses func(ctx context.Context, keyID, doing string) error) *Store {
	return &Store{db: db, feed: f, keys: keys, now: now, options: o, misses: misses}
}

// NewToken returns a token of the family.
func NewToken(id string) string { return vault.NewSecret(Prefix + id) }

// IDOf returns the family id of a refresh token, and whether it has the form of one. A
// wrong checksum is a token like any other that is not valid.
func IDOf(raw string) (string, bool) {
	const length = len(Prefix) + IDLength + vault.SecretDigits + vault.ChecksumDigits
	if len(raw) != length || !strings.HasPrefix(raw, Prefix) || !vault.IsID(raw[len(Prefix):], length-len(Prefix)) {
		return "", false
	}
	return raw[len(Prefix) : len(Prefix)+IDLength], true
}

// hashes returns the keyed hash of a token under every configured key, the first key's
// first.
func (s *Store) hashes(raw string) []string {
	hashes := make([]string, 0, len(s.keys.Keys))
	for _, k := range s.keys.Keys {
		sum := k.Sum(vault.ForRefresh, raw)
		hashes = append(hashes, base64.RawURLEncoding.EncodeToString(sum[:]))
	}
	return hashes
}

// till is until when a token of the family lives that is given now.
func (s *Store) till(f *Family, now time.Time) time.Time {
	idle, end := now.Add(s.options.Idle), time.UnixMilli(f.End)
	if idle.After(end) {
		return end
	}
	return idle
}

// Begin gives the first refresh token of a family, beside the access token with an id.
func (s *Store) Begin(ctx context.Context, f Family, accessID string) (string, error) {
	id := vault.RandomID(IDLength)
	raw := NewToken(id)
	now := s.now()
	f.Created, f.End = now.UnixMilli(), now.Add(s.options.Absolute).UnixMilli()
	doc, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("encoding a refresh token: %w", err)
	}
	till := s.till(&f, now)
	fields := []any{
		fieldFamily, doc, fieldCurrent, s.hashes(raw)[0], fieldKey, s.keys.First().ID,
		fieldAccess, redisdb.KeyToken(accessID), fieldTill, till.UnixMilli(),
	}
	if err := s.db.SetHash(ctx, redisdb.KeyFamily(id), till.Add(time.Minute), fields...); err != nil {
		return "", failure.Unavailable("recording a refresh token", err)
	}
	life := till.Sub(now) + time.Minute
	return raw, s.feed.Keep(ctx, "recording a refresh token again", journal.Entry{
		Rank: journal.Families, Key: redisdb.KeyFamily(id), Script: AgainScript, Args: fields, Expires: now.Add(life),
	})
}

// AgainScript records a first refresh token unless something of its family is there.
// ARGV: life in ms, fields and values.
var AgainScript = redisdb.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1`)

// Presented is a refresh token and what Redis knows of its family.
type Presented struct {
	ID      string
	Family  Family
	Current bool      // whether it is the current token of the family
	Last    bool      // whether it is the one before that
	Ended   bool      // whether the family is over
	Till    time.Time // until when the current token lives
}

// Read returns the family of a token and its place in it. A token that is neither the
// current one nor the one before may be an old one or a guess: only a rotation may
// tell, since it decides atomically. The error is ErrInvalidGrant or ErrUnavailable.
func (s *Store) Read(ctx context.Context, raw string) (*Presented, error) {
	id, ok := IDOf(raw)
	if !ok || !vault.ChecksumOK(raw) { // not one of ours: Redis need not be asked
		return nil, failure.Deny(failure.ErrInvalidGrant, "malformed")
	}
	var m []any
	err := s.feed.Read(ctx, "reading a refresh token", func(ctx context.Context, r feed.Reader) (found bool, err error) {
		m, err = r.HMGet(ctx, redisdb.KeyFamily(id), fieldFamily, fieldCurrent, fieldTill, fieldEnded, fieldKey, fieldPrevious).Result()
		return err == nil && m[0] != nil, err //nolint:wrapcheck // wrapped by Read
	})
	if err != nil {
		return nil, err
	}
	text := func(i int) string { value, _ := m[i].(string); return value }
	if text(0) == "" {
		return nil, failure.Deny(failure.ErrInvalidGrant, "unknown_token")
	}
	p := &Presented{ID: id, Till: time.UnixMilli(int64(redisdb.ParseUint(text(2)))).UTC(), Ended: m[3] != nil}
	if err := json.Unmarshal([]byte(text(0)), &p.Family); err != nil {
		return nil, failure.Unavailable("reading a refresh token", err)
	}
	if s.keys.ByID(text(4)) == nil {
		// Its hash cannot be compared, and a rotation would end the family.
		if err := s.misses(ctx, text(4), "checking a refresh token"); err != nil {
			return nil, err
		}
		return nil, failure.Deny(failure.ErrInvalidGrant, "key_removed")
	}
	for _, h := range s.hashes(raw) {
		p.Current = p.Current || equal(h, text(1))
		p.Last = p.Last || equal(h, text(5))
	}
	return p, nil
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// MadeWith reads the family at a key of Redis, and the id of the key that its current
// token was hashed with: "" if it is over. A family that cannot be read is nil.
func (s *Store) MadeWith(ctx context.Context, key string) (f *Family, keyID string, err error) {
	m, err := s.db.Fields(ctx, key, fieldKey, fieldFamily, fieldTill, fieldEnded)
	if err != nil {
		return nil, "", failure.Unavailable("reading a refresh token", err)
	}
	if ended := m[3] != ""; ended || s.now().UnixMilli() >= int64(redisdb.ParseUint(m[2])) {
		return nil, "", nil
	}
	f = new(Family)
	if json.Unmarshal([]byte(m[1]), f) != nil {
		f = nil
	}
	return f, m[0], nil
}

// EndScript ends a family if the token is its current one or the one before, and
// answers the keys of its access tokens' records. ARGV: now (unix ms), hashes of the
// token.
var EndScript = redisdb.NewScript(`
local have = redis.call('HMGET', KEYS[1], 'cur', 'prev', 'acc')
for i = 2, #ARGV do
  if ARGV[i] == have[1] or ARGV[i] == have[2] then
    redis.call('HSET', KEYS[1], 'end', ARGV[1])
    return have[3] or ''
  end
end
return false`)

// End ends the family of a token, if it is the current one or the one before. It
// returns the keys of the records of its access tokens, which are to be revoked, after
// [Store.Tell]. Errors: ErrNotFound, ErrUnavailable.
func (s *Store) End(ctx context.Context, id, raw string, at time.Time) ([]string, error) {
	const doing = "revoking a refresh token"
	args := []any{at.UnixMilli()}
	for _, h := range s.hashes(raw) {
		args = append(args, h)
	}
	reply, err := s.feed.Write(ctx, EndScript, redisdb.KeyFamily(id), args...)
	if err != nil {
		return nil, failure.Unavailable(doing, err)
	}
	records, err := reply.Text()
	if redisdb.IsNil(err) {
		return nil, failure.ErrNotFound
	}
	if err != nil {
		return nil, failure.Unavailable(doing, err)
	}
	return strings.Fields(records), nil
}

// Tell makes all gateways remember, until an instant, that a family is over.
func (s *Store) Tell(ctx context.Context, id string, at, until time.Time) error {
	return s.feed.Forget(ctx, redisdb.KeyFamily(id), journal.Entry{
		Rank: journal.Revocations, Key: redisdb.KeyFamily(id), Script: endAgainScript,
		Args: []any{fmt.Sprint(at.UnixMilli())}, Expires: until,
	})
}

// endAgainScript ends a family that has not ended. For one that is not there a mark
// is put: the gateway that gave its first token may have to record it again. ARGV:
// life of the mark in ms; when it ended.
var endAgainScript = journal.NewScript(`
local lost = redis.call('HSETNX', KEYS[1], 'end', ARGV[2])
if redis.call('HEXISTS', KEYS[1], 'cur') == 1 then return lost end
if lost == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 0`)
