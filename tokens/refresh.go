// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// A refresh token is the prefix "mgr_", the id of its family, 256 random bits
// and a checksum. All tokens that came from one grant by rotation are a family
// and share one hash in Redis, so that rotating is one atomic step:
//
//   - the current token is exchanged for a new pair;
//   - the one before it, within a short window after the pair was given, gets the
//     same pair again: its holder lost the answer. A pair that was never given while
//     its access token lived is made anew. Until the pair was given there is
//     no window: while Redis, or the replicas asked for, do not acknowledge, its holder
//     is answered 503 and tries again, for however long that takes;
//   - anything older, or the one before it later, means that two parties hold
//     the token: the family and the access tokens it gave are revoked
//     (RFC 9700 §4.14.2).
//
// A family that has ended stays marked as such until it would have expired, so
// that ending it can be tried again until all its access tokens are revoked.
//
// Redis holds keyed hashes of the tokens and the last pair encrypted.

// Defaults of RefreshOptions.
const (
	DefaultRefreshIdle     = 30 * 24 * time.Hour
	DefaultRefreshAbsolute = 90 * 24 * time.Hour
	DefaultRefreshWindow   = 10 * time.Second
)

// RefreshOptions are the lifetimes of refresh tokens.
type RefreshOptions struct {
	// Idle ends a family that is not used for so long. Default: 720h (30 days).
	Idle time.Duration
	// Absolute ends a family so long after its grant. Default: 2160h (90 days).
	Absolute time.Duration
	// Window is how long the token before the current one gets the same pair
	// again. Default: 10s; at most 1m.
	Window time.Duration
}

func (o RefreshOptions) withDefaults() RefreshOptions {
	return RefreshOptions{
		Idle:     cmp.Or(o.Idle, DefaultRefreshIdle),
		Absolute: cmp.Or(o.Absolute, DefaultRefreshAbsolute),
		Window:   cmp.Or(o.Window, DefaultRefreshWindow),
	}
}

func (o RefreshOptions) check() error {
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
	fieldRotated  = "at"   // when, unix milliseconds
	fieldPair     = "pair" // sealed: the pair given when it was rotated
	fieldFamily   = "fam"  // JSON of family
	fieldAccess   = "acc"  // keys of the access tokens' records, newest first
	fieldTill     = "till" // until when the current token lives, unix milliseconds
	fieldEnded    = "end"  // set when the family is over
	fieldKey      = "key"  // id of the master key of the current token's hash
	fieldOpen     = "open" // set while the pair may have been given to nobody yet
)

const (
	familyIDLength = 22
	// maxFamilyAccess is how many access tokens of a family are remembered.
	maxFamilyAccess = 16
)

// family is what does not change while tokens rotate.
type family struct {
	Application   string      `json:"a"`
	User          string      `json:"u"`
	BackendUserID string      `json:"b,omitempty"`
	Scopes        Scopes      `json:"s"`
	Created       int64       `json:"c"` // unix milliseconds, as End
	End           int64       `json:"e"`
	Births        generations `json:"-"`
	BirthList     [4]uint64   `json:"g"`
}

// pair is what a rotation gives.
type pair struct {
	Access   string        `json:"a"`
	AccessID string        `json:"i"`
	Record   []byte        `json:"r"`
	Scopes   Scopes        `json:"s"`
	Lifetime time.Duration `json:"l"`
	Issued   int64         `json:"t"` // unix milliseconds
	Refresh  string        `json:"n"`
}

// newRefreshToken returns a token of the family.
func newRefreshToken(familyID string) string {
	return vault.NewSecret(RefreshPrefix + familyID)
}

// familyOf returns the family id of a refresh token, and whether it has the
// form of one. A wrong checksum is a token like any other that is not valid.
func familyOf(raw string) (string, bool) {
	const length = len(RefreshPrefix) + familyIDLength + vault.SecretDigits + vault.ChecksumDigits
	if len(raw) != length || !strings.HasPrefix(raw, RefreshPrefix) || !vault.IsID(raw[len(RefreshPrefix):], length-len(RefreshPrefix)) {
		return "", false
	}
	return raw[len(RefreshPrefix) : len(RefreshPrefix)+familyIDLength], true
}

// families keeps the families of refresh tokens.
type families struct {
	*core
	options       RefreshOptions
	circumstances *circumstances
	signer        *signer
	records       *records
	users         *users
	keyUse        *installation.KeyUse
}

// hashes returns the keyed hash of a token under every configured key,
// the first key's first.
func (fs *families) hashes(raw string) []string {
	hashes := make([]string, 0, len(fs.keys.Keys))
	for _, k := range fs.keys.Keys {
		sum := k.Sum(vault.ForRefresh, raw)
		hashes = append(hashes, base64.RawURLEncoding.EncodeToString(sum[:]))
	}
	return hashes
}

// begin gives a first refresh token.
func (fs *families) begin(ctx context.Context, g Grant, u *User, t *signed) (string, error) {
	id := vault.RandomID(familyIDLength)
	raw := newRefreshToken(id)
	now := fs.now()
	f := family{
		Application: g.Application.ID, User: u.ID, BackendUserID: g.BackendUserID, Scopes: g.Scopes,
		Created: now.UnixMilli(), End: now.Add(fs.options.Absolute).UnixMilli(),
		BirthList: [4]uint64{t.births.installation, t.births.application, t.births.user, t.births.grant},
	}
	doc, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("encoding a refresh token: %w", err)
	}
	till := fs.till(f, now)
	fields := []any{
		fieldFamily, doc, fieldCurrent, fs.hashes(raw)[0], fieldKey, fs.keys.First().ID,
		fieldAccess, redisdb.KeyToken(t.id), fieldTill, till.UnixMilli(),
	}
	if err := fs.db.SetHash(ctx, redisdb.KeyFamily(id), till.Add(time.Minute), fields...); err != nil {
		return "", unavailable("recording a refresh token", err)
	}
	life := till.Sub(now) + time.Minute
	return raw, fs.feed.Keep(ctx, "recording a refresh token again", journal.Entry{
		Rank: journal.Families, Key: redisdb.KeyFamily(id), Script: familyAgainScript, Args: fields, Expires: now.Add(life),
	})
}

// familyAgainScript records a first refresh token unless something of its family
// is there. ARGV: life in ms, fields and values.
var familyAgainScript = redisdb.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1`)

func (fs *families) till(f family, now time.Time) time.Time {
	idle, end := now.Add(fs.options.Idle), time.UnixMilli(f.End)
	if idle.After(end) {
		return end
	}
	return idle
}

// presented is a refresh token and what Redis knows of its family.
type presented struct {
	id      string
	family  family
	current bool      // whether it is the current token of the family
	last    bool      // whether it is the one before that
	ended   bool      // whether the family is over
	till    time.Time // until when the current token lives
}

// read returns the family of a token and its place in it. A token that is
// neither the current one nor the one before may be an old one or a guess: only
// a rotation may tell, since it decides atomically. The error is ErrInvalidGrant or ErrUnavailable.
func (fs *families) read(ctx context.Context, raw string) (*presented, error) {
	id, ok := familyOf(raw)
	if !ok || !ChecksumOK(raw) { // not one of ours: Redis need not be asked
		return nil, deny(ErrInvalidGrant, "malformed")
	}
	var m []any
	err := fs.feed.Read(ctx, "reading a refresh token", func(ctx context.Context, r feed.Reader) (found bool, err error) {
		m, err = r.HMGet(ctx, redisdb.KeyFamily(id), fieldFamily, fieldCurrent, fieldTill, fieldEnded, fieldKey, fieldPrevious).Result()
		return err == nil && m[0] != nil, err //nolint:wrapcheck // wrapped by Read
	})
	if err != nil {
		return nil, err
	}
	doc, _ := m[0].(string)
	cur, _ := m[1].(string)
	till, _ := m[2].(string)
	prev, _ := m[5].(string)
	if doc == "" {
		return nil, deny(ErrInvalidGrant, "unknown_token")
	}
	p := &presented{id: id, till: parseInstant(till), ended: m[3] != nil}
	if err := json.Unmarshal([]byte(doc), &p.family); err != nil {
		return nil, unavailable("reading a refresh token", err)
	}
	if key, _ := m[4].(string); fs.keys.ByID(key) == nil {
		// Its hash cannot be compared, and a rotation would end the family.
		if err := fs.keyUse.Misses(ctx, key, "checking a refresh token"); err != nil {
			return nil, err
		}
		return nil, deny(ErrInvalidGrant, "key_removed")
	}
	g := p.family.BirthList
	p.family.Births = generations{g[0], g[1], g[2], g[3]}
	for _, h := range fs.hashes(raw) {
		p.current = p.current || equalHash(h, cur)
		p.last = p.last || equalHash(h, prev)
	}
	return p, nil
}

func equalHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// rotateScript exchanges a token. The window is counted from when Redis carries the
// exchange out: a server that was at a halt does so long after it was asked, and
// whoever has asked again and again meanwhile is no thief. KEYS: family. ARGV: life,
// now, window (all ms), new hash, new pair, new access record key, new till, number of
// hashes of the presented token, these hashes, id of the key of the new hash, for how
// long a pair can be given (ms).
// It answers {"rotated"}, {"again", pair}, {"reused", access keys} or {"unknown"}.
var rotateScript = redisdb.NewScript(rotateSource)

var rotateSource = `
local have = redis.call('HMGET', KEYS[1], 'cur', 'prev', 'at', 'pair', 'acc', 'end', 'open')
if not have[1] then return {'unknown'} end
if have[6] then return {'reused', have[5] or ''} end
local time = redis.call('TIME')
local now = math.max(tonumber(ARGV[2]), tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local n = tonumber(ARGV[8])
local cur, prev = false, false
-- Nobody can use a pair any more that was not given while its access token lived.
local dead = have[7] and have[3] and now - tonumber(have[3]) >= tonumber(ARGV[10 + n])
for i = 9, 8 + n do
  if ARGV[i] == have[1] then cur = true end
  if have[2] and ARGV[i] == have[2] then prev = true end
end
if cur or (prev and dead) then
  local before = cur and have[1] or have[2]
  local acc = ARGV[6]
  local count = 1
  for key in string.gmatch(have[5] or '', '%S+') do
    if count < ` + strconv.Itoa(maxFamilyAccess) + ` then acc = acc .. ' ' .. key; count = count + 1 end
  end
  redis.call('HSET', KEYS[1], 'cur', ARGV[4], 'prev', before, 'at', string.format('%.0f', now), 'pair', ARGV[5], 'acc', acc, 'till', ARGV[7], 'key', ARGV[9 + n], 'open', 1)
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  return {'rotated'}
end
if prev and (have[7] or now - tonumber(have[3]) <= tonumber(ARGV[3])) then return {'again', have[4]} end
redis.call('HSET', KEYS[1], 'end', ARGV[2])
return {'reused', have[5] or ''}`

// rotateAgainScript is rotateScript if the token that was exchanged is (again) the
// current one.
var rotateAgainScript = redisdb.NewScript(`
local current = redis.call('HGET', KEYS[1], 'cur')
local lost = false
for i = 9, 8 + tonumber(ARGV[8]) do lost = lost or ARGV[i] == current end
if not lost then return {'there'} end
` + rotateSource)

// Refresh exchanges a refresh token for a new pair (RFC 6749 §6). The
// application must be the one it was given to. Whether the user's domain is
// still allowed and nothing was revoked is checked again; what Meet says of the
// user is checked by the caller between Inspect and Refresh.
//
// A token that was exchanged already ends its family, unless that was within
// the window: then the same pair is returned.
//
// wanted are the scopes that the access token is to have: those that were granted,
// or some of them. None stands for all. The next refresh token has all of them again.
//
// Errors: ErrInvalidGrant, ErrScopeNotGranted, ErrInactiveApplication,
// ErrDomainNotAllowed, ErrUnavailable.
func (fs *families) Refresh(ctx context.Context, app *Application, raw string, wanted ...string) (*Token, error) {
	// A primary that was replaced may not know of the last rotation, and would take
	// its token for a stolen one.
	if err := fs.feed.Check(ctx); err != nil {
		return nil, err
	}
	var t *Token
	err := fs.feed.Refuse(ctx, "refreshing a token", func(ctx context.Context) (err error) {
		t, err = fs.refreshed(ctx, app, raw, wanted)
		return err
	})
	return t, err
}

// refreshed is Refresh as the server decides that is asked, which may turn out to
// have been replaced.
func (fs *families) refreshed(ctx context.Context, app *Application, raw string, wanted Scopes) (*Token, error) {
	p, err := fs.read(ctx, raw)
	if err != nil {
		return nil, err
	}
	if !p.current && !p.last {
		// Its rotation may be among what is still written again: not a reuse.
		if err := fs.feed.Settled(ctx, "rotating a refresh token"); err != nil {
			return nil, err
		}
	}
	f := p.family
	if f.Application != app.ID {
		return nil, deny(ErrInvalidGrant, "other_application")
	}
	now := fs.now()
	if !now.Before(p.till) {
		return nil, deny(ErrInvalidGrant, "expired")
	}
	in, app, u, err := fs.judge(ctx, f, app)
	if err != nil {
		return nil, err
	}
	if !app.Refresh {
		return nil, deny(ErrInvalidGrant, "refresh_not_allowed")
	}
	scopes := f.Scopes
	if len(wanted) > 0 {
		if scopes = f.Scopes.Intersect(wanted); len(scopes) < len(wanted) {
			return nil, deny(ErrScopeNotGranted, "scope_not_granted")
		}
	}
	g := Grant{Application: app, Mail: u.Mail, BackendUserID: cmp.Or(u.BackendUserID, f.BackendUserID), Scopes: scopes}
	t, err := fs.signer.sign(g, u, in)
	if err != nil {
		return nil, err
	}
	next := pair{
		Access: t.value, AccessID: t.id, Record: t.record, Scopes: t.scopes, Lifetime: t.lifetime,
		Issued: now.UnixMilli(), Refresh: newRefreshToken(p.id),
	}
	seen := fs.feed.Snapshot()
	result, err := fs.rotate(ctx, p.id, f, raw, next)
	if err != nil {
		return nil, err
	}
	// Whoever hands the pair out records the access token: of several at once
	// none may be faster than the record.
	age := now.Sub(time.UnixMilli(result.Issued))
	rest := result.Lifetime - max(age, 0)
	if rest < time.Second {
		return nil, deny(ErrInvalidGrant, "expired")
	}
	if err := fs.records.add(ctx, &signed{id: result.AccessID, record: result.Record, lifetime: rest}, u); err != nil {
		return nil, err
	}
	if fs.feed.Replaced(seen) {
		// It may have been rotated where nobody will know of it: the token is still good
		// at the successor, and gets the same pair again where it is not.
		return nil, feed.Unsteady("rotating a refresh token")
	}
	fs.noteGiven(ctx, p.id, result)
	fs.users.noteSeen(u, app.ID, "")
	return &Token{Value: result.Access, ID: result.AccessID, UserID: u.ID, Scopes: result.Scopes, Lifetime: rest.Truncate(time.Second), Refresh: result.Refresh}, nil
}

// judge decides what can have changed since the grant.
func (fs *families) judge(ctx context.Context, f family, was *Application) (*installation.State, *Application, *User, error) {
	in, app, u, err := fs.circumstances.read(ctx, was.ID, f.User, f.Births)
	if err != nil {
		return nil, nil, nil, invalidGrant(err)
	}
	if err := overruled(in, app, u, f.Births, time.UnixMilli(f.Created), ""); err != nil {
		return nil, nil, nil, invalidGrant(err)
	}
	return in, app, u, nil
}

func invalidGrant(err error) error {
	if errors.Is(err, ErrTokenInvalid) {
		return deny(ErrInvalidGrant, Reason(err))
	}
	return err
}

func (fs *families) rotate(ctx context.Context, id string, f family, raw string, next pair) (*pair, error) {
	plain, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("encoding a refresh token: %w", err)
	}
	now := fs.now()
	till := fs.till(f, now)
	key := redisdb.KeyFamily(id)
	hashes := fs.hashes(raw)
	args := []any{
		till.Sub(now).Milliseconds() + time.Minute.Milliseconds(), now.UnixMilli(), fs.options.Window.Milliseconds(), fs.hashes(next.Refresh)[0], fs.keys.Seal(plain, key),
		redisdb.KeyToken(next.AccessID), till.UnixMilli(), len(hashes),
	}
	for _, h := range hashes {
		args = append(args, h)
	}
	args = append(args, fs.keys.First().ID, (next.Lifetime - time.Second).Milliseconds())
	seen := fs.feed.Snapshot()
	cmd, err := fs.feed.Write(ctx, rotateScript, key, args...)
	if err != nil {
		return nil, unavailable("rotating a refresh token", err)
	}
	answer, err := cmd.StringSlice()
	if err != nil || len(answer) == 0 {
		return nil, unavailable("rotating a refresh token", err)
	}
	keep := func() error {
		return fs.feed.Keep(ctx, "recording a refresh token again", journal.Entry{
			Rank: journal.Families, Key: key, Script: rotateAgainScript, Args: args[1:], Expires: till.Add(time.Minute),
		})
	}
	switch answer[0] {
	case "rotated":
		return &next, keep()
	case "again":
		plain, _, err := fs.keys.Open([]byte(answer[1]), key)
		if err != nil {
			return nil, unavailable("reading a refresh token's pair", err)
		}
		earlier := new(pair)
		if err := json.Unmarshal(plain, earlier); err != nil {
			return nil, unavailable("reading a refresh token's pair", err)
		}
		// Whoever gave it the first time may be gone.
		args[3], args[4], args[5] = fs.hashes(earlier.Refresh)[0], answer[1], redisdb.KeyToken(earlier.AccessID)
		return earlier, keep()
	case "reused":
		// What a server that was replaced takes for theft is none.
		stands, err := fs.feed.StillPrimary(ctx, seen)
		if err != nil {
			return nil, err
		}
		if stands {
			err = fs.ended(ctx, id, now.UnixMilli(), answer[1])
		}
		if err != nil {
			return nil, err
		}
		return nil, deny(ErrInvalidGrant, "reused")
	default:
		return nil, deny(ErrInvalidGrant, "unknown_token")
	}
}

// givenScript begins the window in which a pair is given again, if it is (still)
// the last one. ARGV: hash of its refresh token, now (unix ms).
var givenScript = redisdb.NewScript(`
if redis.call('HGET', KEYS[1], 'cur') ~= ARGV[1] or redis.call('HDEL', KEYS[1], 'open') == 0 then return 0 end
local time = redis.call('TIME')
local now = math.max(tonumber(ARGV[2]), tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('HSET', KEYS[1], 'at', string.format('%.0f', now))
return 1`)

// noteGiven notes that a pair is about to be given. Not done, its predecessor gets
// it again until it is exchanged itself.
func (fs *families) noteGiven(ctx context.Context, familyID string, given *pair) {
	now := fs.now()
	n := journal.Entry{Rank: journal.Families, Key: redisdb.KeyFamily(familyID), Script: givenScript, Args: []any{fs.hashes(given.Refresh)[0], now.UnixMilli()}}
	_, _ = fs.db.Run(ctx, n.Script, n.Key, n.Args...)
	fs.feed.Journal().Add(n) // when the rotation is made again, so is this
}

// inspect is Inspect for a refresh token.
func (fs *families) inspect(ctx context.Context, raw string) (*Identity, error) {
	if _, ok := familyOf(raw); !ok {
		return nil, deny(ErrTokenMalformed, "not_a_refresh_token")
	}
	if !ChecksumOK(raw) { // a typo or a guess: Redis need not be asked
		return nil, deny(ErrTokenInvalid, "unknown_token")
	}
	var i *Identity
	err := fs.feed.Refuse(ctx, "inspecting a refresh token", func(ctx context.Context) (err error) {
		i, err = fs.identify(ctx, raw)
		return err
	})
	return i, err
}

// identify is inspect as the server decides that is asked.
func (fs *families) identify(ctx context.Context, raw string) (*Identity, error) {
	p, err := fs.read(ctx, raw)
	switch {
	case errors.Is(err, ErrInvalidGrant):
		return nil, deny(ErrTokenInvalid, Reason(err))
	case err != nil:
		return nil, err
	case p.ended:
		return nil, of(p.family.Application, deny(ErrTokenInvalid, "revoked"))
	case !p.current:
		return nil, of(p.family.Application, deny(ErrTokenInvalid, "rotated"))
	case !fs.now().Before(p.till):
		return nil, of(p.family.Application, deny(ErrTokenExpired, "expired"))
	}
	f := p.family
	in, app, u, err := fs.circumstances.read(ctx, f.Application, f.User, f.Births)
	if err != nil {
		return nil, err
	}
	if err := overruled(in, app, u, f.Births, time.UnixMilli(f.Created), ""); err != nil {
		return nil, of(f.Application, err)
	}
	if !app.Refresh {
		return nil, deny(ErrTokenInvalid, "refresh_not_allowed")
	}
	return &Identity{
		Credential: RefreshToken, Application: app, User: u, Scopes: f.Scopes.Intersect(app.Scopes),
		Issued: time.UnixMilli(f.Created), Expires: p.till,
	}, nil
}

// endFamilyScript ends a family if the token is its current one or the one
// before, and answers the keys of its access tokens' records. ARGV: now (unix
// ms), hashes of the token.
var endFamilyScript = redisdb.NewScript(`
local have = redis.call('HMGET', KEYS[1], 'cur', 'prev', 'acc')
for i = 2, #ARGV do
  if ARGV[i] == have[1] or ARGV[i] == have[2] then
    redis.call('HSET', KEYS[1], 'end', ARGV[1])
    return have[3] or ''
  end
end
return false`)

// revoke ends the family of a refresh token and its access tokens. owner
// "" is any application.
func (fs *families) revoke(ctx context.Context, raw, owner string) error {
	const doing = "revoking a refresh token"
	err := fs.feed.Refuse(ctx, doing, func(ctx context.Context) error {
		p, err := fs.read(ctx, raw)
		if err != nil {
			return err
		}
		if owner != "" && p.family.Application != owner {
			return deny(ErrNotOwner, "other_application")
		}
		ended := fs.now().UnixMilli()
		args := []any{ended}
		for _, h := range fs.hashes(raw) {
			args = append(args, h)
		}
		cmd, err := fs.feed.Write(ctx, endFamilyScript, redisdb.KeyFamily(p.id), args...)
		if err != nil {
			return unavailable(doing, err)
		}
		records, err := cmd.Text()
		if redisdb.IsNil(err) {
			return ErrNotFound
		}
		if err != nil {
			return unavailable(doing, err)
		}
		return fs.ended(ctx, p.id, ended, records)
	})
	if errors.Is(err, ErrInvalidGrant) || errors.Is(err, ErrNotFound) {
		return nil // the token is not one of the family's, or not any more
	}
	return err
}

// ended makes everybody remember that a family is over, and revokes its
// access tokens, given the keys of their records.
func (fs *families) ended(ctx context.Context, id string, at int64, records string) error {
	if fs.records.wasTold(redisdb.KeyFamily(id)) {
		return nil
	}
	err := fs.feed.Forget(ctx, redisdb.KeyFamily(id), journal.Entry{
		Rank: journal.Revocations, Key: redisdb.KeyFamily(id), Script: endAgainScript,
		Args: []any{strconv.FormatInt(at, 10)}, Expires: fs.now().Add(maxLifetime),
	})
	if err != nil {
		return err
	}
	if err := fs.records.revokeAll(ctx, records); err != nil {
		return err
	}
	fs.records.noteTold(redisdb.KeyFamily(id))
	return nil
}

// endAgainScript ends a family that has not ended. For one that is not there a mark
// is put: the gateway that gave its first token may have to record it again. ARGV:
// life of the mark in ms; when it ended.
var endAgainScript = journal.NewScript(`
local lost = redis.call('HSETNX', KEYS[1], 'end', ARGV[2])
if redis.call('HEXISTS', KEYS[1], 'cur') == 1 then return lost end
if lost == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 0`)

// revokeAll revokes the access tokens of a family, given the keys of their
// records.
func (r *records) revokeAll(ctx context.Context, keys string) error {
	for key := range strings.FieldsSeq(keys) {
		if err := r.revoke(ctx, key, [sha256.Size]byte{}, maxLifetime); err != nil {
			return err
		}
	}
	return nil
}
