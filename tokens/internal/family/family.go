// SPDX-License-Identifier: MIT

// Package family keeps the refresh tokens that came from one grant.
//
// A refresh token is the prefix "mgr_", the id of its family, 256 random bits
// and a checksum. A grant's first token and all that replace it form a family, which
// is one hash in Redis, so that a rotation is one atomic step:
//
//   - the current token is exchanged for a new pair;
//   - the previous token gets the same pair again for a short window after the pair was
//     handed out, since its holder may have lost the answer. The window does not begin
//     while Redis or a replica fails to acknowledge: the holder gets 503 and tries
//     again. If the access token of a pair expires before the pair was handed out, a new
//     pair is made;
//   - an older token, or the previous one after the window, means that two parties hold
//     the token. The family and its access tokens are revoked (RFC 9700 §4.14.2).
//
// An ended family stays marked until it would have expired, so that ending it can be
// repeated until all its access tokens are revoked.
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
	// Idle ends a family that was not used for this long. Default: 720h (30 days).
	Idle time.Duration
	// Absolute ends a family this long after its grant. Default: 2160h (90 days).
	Absolute time.Duration
	// Window is how long the token before the current one gets the same pair
	// again. Default: 10s; at most 1m.
	Window time.Duration
}

// WithDefaults fills in options that are not set.
func (o Options) WithDefaults() Options {
	return Options{
		Idle:     cmp.Or(o.Idle, DefaultIdle),
		Absolute: cmp.Or(o.Absolute, DefaultAbsolute),
		Window:   cmp.Or(o.Window, DefaultWindow),
	}
}

// Check returns an error for lifetimes out of bounds.
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
	fieldExpires  = "till" // when the current token expires, unix milliseconds
	fieldEnded    = "end"  // set when the family is over
	fieldKey      = "key"  // id of the master key of the current token's hash

	// FieldRotated is when the current pair was handed out, in unix milliseconds; the pair
	// is in "pair", encrypted.
	FieldRotated = "at"
	// FieldOpen is set until the pair was handed out.
	FieldOpen = "open"
)

const (
	// IDLength is how many letters and digits the id of a family has.
	IDLength = 22
	// maxAccess is how many access tokens of a family are remembered.
	maxAccess = 16
)

// Family is the part of a family that rotations do not change.
type Family struct {
	Application   string         `json:"a"`
	User          string         `json:"u"`
	BackendUserID string         `json:"b,omitempty"`
	Scopes        grammar.Scopes `json:"s"`
	Created       int64          `json:"c"` // unix milliseconds, as End
	End           int64          `json:"e"`
	// IssuedUnder are the generations that the grant was made under.
	IssuedUnder [4]uint64 `json:"g"`
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

// IDOf returns the family id of a text that has the form of a refresh token. It does not
// look at the checksum.
func IDOf(raw string) (string, bool) {
	const length = len(Prefix) + IDLength + vault.SecretDigits + vault.ChecksumDigits
	if len(raw) != length || !strings.HasPrefix(raw, Prefix) || !vault.IsID(raw[len(Prefix):], length-len(Prefix)) {
		return "", false
	}
	return raw[len(Prefix) : len(Prefix)+IDLength], true
}

// hashes returns the keyed hash of a token under every configured key, in their order.
func (s *Store) hashes(raw string) []string {
	hashes := make([]string, 0, len(s.keys.Keys))
	for _, k := range s.keys.Keys {
		sum := k.Sum(vault.ForRefresh, raw)
		hashes = append(hashes, base64.RawURLEncoding.EncodeToString(sum[:]))
	}
	return hashes
}

// expiry returns when a token expires that is handed out now.
func (s *Store) expiry(f *Family, now time.Time) time.Time {
	idle, end := now.Add(s.options.Idle), time.UnixMilli(f.End)
	if idle.After(end) {
		return end
	}
	return idle
}

// Begin starts a family and returns its first refresh token. accessID is the id of the
// access token issued with it.
func (s *Store) Begin(ctx context.Context, f Family, accessID string) (string, error) {
	id := vault.RandomID(IDLength)
	raw := NewToken(id)
	now := s.now()
	f.Created, f.End = now.UnixMilli(), now.Add(s.options.Absolute).UnixMilli()
	doc, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("encoding a refresh token: %w", err)
	}
	expires := s.expiry(&f, now)
	fields := []any{
		fieldFamily, doc, fieldCurrent, s.hashes(raw)[0], fieldKey, s.keys.First().ID,
		fieldAccess, redisdb.KeyToken(accessID), fieldExpires, expires.UnixMilli(),
	}
	if err := s.db.SetHash(ctx, redisdb.KeyFamily(id), expires.Add(time.Minute), fields...); err != nil {
		return "", failure.Unavailable("recording a refresh token", err)
	}
	life := expires.Sub(now) + time.Minute
	return raw, s.feed.Keep(ctx, "recording a refresh token again", journal.Entry{
		Rank: journal.Families, Key: redisdb.KeyFamily(id), Script: AgainScript, Args: fields, Expires: now.Add(life),
	})
}

// AgainScript records a first refresh token unless its family exists.
// ARGV: life in ms, fields and values.
var AgainScript = redisdb.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1`)

// Presented is a refresh token that a client has sent, and its family.
type Presented struct {
	ID      string
	Family  Family
	Current bool      // it is the current token of the family
	Last    bool      // it is the previous one
	Ended   bool      // the family has ended
	Expires time.Time // when the current token expires
}

// Read returns the family of a token and the token's place in it. A token that is
// neither current nor previous is either old or a guess. Read does not decide which:
// Rotate does, atomically. The error is ErrInvalidGrant or ErrUnavailable.
func (s *Store) Read(ctx context.Context, raw string) (*Presented, error) {
	id, ok := IDOf(raw)
	if !ok || !vault.ChecksumOK(raw) { // made up: do not ask Redis
		return nil, failure.Deny(failure.ErrInvalidGrant, "malformed")
	}
	var m []any
	err := s.feed.Read(ctx, "reading a refresh token", func(ctx context.Context, r feed.Reader) (found bool, err error) {
		m, err = r.HMGet(ctx, redisdb.KeyFamily(id), fieldFamily, fieldCurrent, fieldExpires, fieldEnded, fieldKey, fieldPrevious).Result()
		return err == nil && m[0] != nil, err //nolint:wrapcheck // wrapped by Read
	})
	if err != nil {
		return nil, err
	}
	text := func(i int) string { value, _ := m[i].(string); return value }
	if text(0) == "" {
		return nil, failure.Deny(failure.ErrInvalidGrant, "unknown_token")
	}
	p := &Presented{ID: id, Expires: time.UnixMilli(int64(redisdb.ParseUint(text(2)))).UTC(), Ended: m[3] != nil}
	if err := json.Unmarshal([]byte(text(0)), &p.Family); err != nil {
		return nil, failure.Unavailable("reading a refresh token", err)
	}
	if s.keys.ByID(text(4)) == nil {
		// Without the key the hashes cannot be compared, and a rotation would take the token
		// for a reused one.
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

// MadeWith reads the family stored at a key of Redis, and the id of the vault key that
// hashed its current token, "" if the family has ended. It returns nil for a family that
// it cannot decode.
func (s *Store) MadeWith(ctx context.Context, key string) (f *Family, keyID string, err error) {
	m, err := s.db.Fields(ctx, key, fieldKey, fieldFamily, fieldExpires, fieldEnded)
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

// EndScript ends a family if the token is its current or previous one, and
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

// End ends the family of its current or previous token. It returns the keys of the
// records of its access tokens. The caller calls [Store.Tell] and then revokes them.
// Errors: ErrNotFound, ErrUnavailable.
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

// Tell makes all gateways remember that a family has ended, until the given time.
func (s *Store) Tell(ctx context.Context, id string, at, until time.Time) error {
	return s.feed.Forget(ctx, redisdb.KeyFamily(id), journal.Entry{
		Rank: journal.Revocations, Key: redisdb.KeyFamily(id), Script: endAgainScript,
		Args: []any{fmt.Sprint(at.UnixMilli())}, Expires: until,
	})
}

// endAgainScript ends a family that has not ended. For a family that does not exist it
// leaves a mark, because the gateway that started the family may still record it again.
// ARGV: life of the mark in ms; when the family ended.
var endAgainScript = journal.NewScript(`
local lost = redis.call('HSETNX', KEYS[1], 'end', ARGV[2])
if redis.call('HEXISTS', KEYS[1], 'cur') == 1 then return lost end
if lost == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 0`)
