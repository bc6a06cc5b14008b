// SPDX-License-Identifier: MIT

// Package idempotency makes sure that a request with an Idempotency-Key has its effect
// once (draft-ietf-httpapi-idempotency-key-header). [Keys.BeginIdempotent] is its only
// entry point.
package idempotency

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/meet-gateway/meet-gateway/tokens/internal/background"
	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// The state of a request is kept in one hash per (application, user, key), from before it
// is sent:
//
//	in flight ─┬─ Finish ───▶ answered: the answer is repeated
//	           ├─ Abandon ──▶ forgotten: it had no effect and may be sent again
//	           └─ Doubt, or no report in time ──▶ unknown
//
// Unknown is final: the request may have had its effect, so it is never sent again under
// this key. It is also the end if a gateway dies in between or cannot write the outcome.

var (
	// ErrInvalidIdempotencyKey means that the header is outside the grammar of
	// [ParseKey].
	ErrInvalidIdempotencyKey = errors.New("invalid idempotency key")
	// ErrKeyReused means that the key was used before with another request (422).
	ErrKeyReused = errors.New("idempotency key was used with another request")
	// ErrInFlight means that the first request with the key is not answered yet (409).
	ErrInFlight = errors.New("a request with this idempotency key is in flight")
	// ErrOutcomeUnknown means that the first request with the key was sent and
	// never answered: it may have had its effect, and sending it again could
	// have it twice. It stays so until the key expires.
	ErrOutcomeUnknown = errors.New("outcome of the request with this idempotency key is unknown")
)

const (
	// Lifetime is how long an answer can be repeated.
	Lifetime = 24 * time.Hour
	// minInFlight is how long an unanswered request counts as being worked on, if its
	// context has no later deadline.
	minInFlight = time.Minute
	// maxIdempotencyKey is the longest key accepted, in bytes.
	maxIdempotencyKey = 255
	// maxAnswer bounds an answer that is kept.
	maxAnswer = 1 << 20
)

// Answer is the part of an answer that is repeated.
type Answer struct {
	// Status is the HTTP status.
	Status int `json:"s"`
	// Header holds the header fields worth repeating, by name.
	Header map[string]string `json:"h,omitempty"`
	// Body is the body.
	Body []byte `json:"b,omitempty"`
}

// String hides the answer.
func (a Answer) String() string { return fmt.Sprintf("answer %d (hidden)", a.Status) }

// GoString is String.
func (a Answer) GoString() string { return a.String() }

// Keys are those of an installation.
type Keys struct {
	db         *redisdb.DB
	feed       *feed.Feed
	ring       *vault.Ring
	background *background.Pool
	now        func() time.Time
}

// New makes the keys of an installation.
func New(db *redisdb.DB, f *feed.Feed, ring *vault.Ring, p *background.Pool, now func() time.Time) *Keys {
	return &Keys{db: db, feed: f, ring: ring, background: p, now: now}
}

// Replay is what [Keys.BeginIdempotent] found. Either it has the answer of
// the first request, or the caller's request is the first: then the caller sends
// it and calls one of Finish, Abandon and Doubt.
type Replay struct {
	// Answer is the answer to repeat; nil if the request is the first.
	Answer *Answer

	keys   *Keys
	places []place
	nonce  string
}

// place is one of the hashes of a key. There is one for each configured secret, in the
// order of their ids. A gateway sends a request only if it has taken all of them, so that
// gateways with different secrets do not send it twice.
type place struct{ name, fingerprint string }

// Fields of an idempotency key's hash.
const (
	fieldFingerprint = "f" // keyed hash of the request
	fieldOwner       = "n" // random id of the request that took the key
	fieldAnswer      = "a" // sealed; absent while there is none
	fieldUnknown     = "u" // "1" if the outcome will never be known
)

// BeginScript takes the key, or answers its state. It is exported for tests.
// KEYS: hash. ARGV: fingerprint, nonce, lifetime (ms), "1" to take it.
// Answers: taken or free, fingerprint, answer, unknown, time to live (ms).
var BeginScript = redisdb.NewScript(`
local have = redis.call('HMGET', KEYS[1], 'f', 'n', 'a', 'u')
if not have[1] then
  if ARGV[4] ~= '1' then return {1, '', '', '', 0} end
  redis.call('HSET', KEYS[1], 'f', ARGV[1], 'n', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {1, '', '', '', 0}
end
if have[2] == ARGV[2] then return {1, '', '', '', 0} end
return {0, have[1], have[3] or '', have[4] or '', redis.call('PTTL', KEYS[1])}`)

// SettleScript writes a field if the key still belongs to the owner and has no answer.
// If Redis has lost the key, it writes it again.
// KEYS: hash. ARGV: fingerprint, nonce, field, value, lifetime (ms).
var SettleScript = redisdb.NewScript(`
local have = redis.call('HMGET', KEYS[1], 'n', 'a')
if have[1] and have[1] ~= ARGV[2] or have[2] then return 0 end
redis.call('HSET', KEYS[1], 'f', ARGV[1], 'n', ARGV[2], ARGV[3], ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1`)

// takeAgainScript takes a key again that Redis has lost, even from another request without
// an answer. That request was not sent, because it noticed that Redis was replaced.
// KEYS: hash. ARGV: lifetime (ms), fingerprint, nonce.
var takeAgainScript = redisdb.NewScript(`
local have = redis.call('HMGET', KEYS[1], 'n', 'a', 'u')
if have[1] == ARGV[3] or have[2] or have[3] then return 0 end
redis.call('HSET', KEYS[1], 'f', ARGV[2], 'n', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1`)

// settleAgainScript is SettleScript for the journal. It also takes the key from another
// request without an answer. ARGV: lifetime (ms), fingerprint, nonce, field, value.
var settleAgainScript = redisdb.NewScript(`
if redis.call('HEXISTS', KEYS[1], 'a') == 1 then return 0 end
redis.call('HSET', KEYS[1], 'f', ARGV[2], 'n', ARGV[3], ARGV[4], ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1`)

// abandonScript deletes the key if it still belongs to the owner and has no answer.
var abandonScript = redisdb.NewScript(`
local have = redis.call('HMGET', KEYS[1], 'n', 'a')
if have[1] ~= ARGV[1] or have[2] then return 0 end
return redis.call('DEL', KEYS[1])`)

// ParseKey reads the value of an Idempotency-Key header: a string of
// RFC 9651 §3.3.3, in quotes as the draft has it or bare as most clients send
// it, of 1 to 255 visible ASCII characters. Both forms of one key are the same
// key. The error is ErrInvalidIdempotencyKey.
func ParseKey(header string) (string, error) {
	key := strings.Trim(header, " \t")
	if strings.HasPrefix(key, `"`) {
		item, err := httpsfv.UnmarshalItem([]string{key})
		text, ok := item.Value.(string)
		if err != nil || !ok || len(item.Params.Names()) > 0 {
			return "", fmt.Errorf("%w: it is not one string of RFC 9651", ErrInvalidIdempotencyKey)
		}
		key = text
	}
	if err := checkIdempotencyKey(key); err != nil {
		return "", err
	}
	return key, nil
}

func checkIdempotencyKey(key string) error {
	if key == "" || len(key) > maxIdempotencyKey {
		return fmt.Errorf("%w: it must have 1 to %d characters", ErrInvalidIdempotencyKey, maxIdempotencyKey)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return fmt.Errorf("%w: it must be visible ASCII", ErrInvalidIdempotencyKey)
		}
	}
	return nil
}

// BeginIdempotent starts a request that an application makes under an idempotency key.
// ownerID names the user, and the Meet if there is more than one. fingerprint is a hash of
// what identifies the request: method, path and body. Until the deadline of ctx the
// request counts as in flight.
//
// If the Replay has no Answer, nothing was sent under the key and no other caller will
// send it. The caller then sends the request and calls Finish, Abandon or Doubt.
//
// Errors: ErrInvalidIdempotencyKey, ErrKeyReused, ErrInFlight,
// ErrOutcomeUnknown, ErrUnavailable. With any of them nothing must be sent.
func (k *Keys) BeginIdempotent(ctx context.Context, applicationID, ownerID, key string, fingerprint [sha256.Size]byte) (*Replay, error) {
	if err := checkIdempotencyKey(key); err != nil {
		return nil, err
	}
	r := k.newReplay(applicationID, ownerID, key, fingerprint)
	var found *Replay
	err := k.feed.Refuse(ctx, "taking an idempotency key", func(ctx context.Context) (err error) {
		found, err = k.begin(ctx, r)
		if err == nil && found.Answer == nil {
			// A deposed primary knows neither newer requests nor newer abandons.
			feed.Absent(ctx)
		} else {
			feed.Present(ctx)
		}
		return err
	})
	if err != nil {
		if found == r || errors.Is(err, failure.ErrUnavailable) { // it may have been taken, and nothing was sent
			k.background.Go(func(ctx context.Context) { _ = r.Abandon(ctx) })
		}
		return nil, err
	}
	return found, nil
}

// inFlight is how long a request counts as in flight: as long as its repetition, which
// has ctx, may last.
func inFlight(ctx context.Context) time.Duration {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return minInFlight
	}
	return max(time.Until(deadline), minInFlight)
}

// begin is one attempt of BeginIdempotent, on a server that may turn out to be deposed.
// While Redis settles it takes no key, since the key may be about to be restored. Taking
// the same key twice is the same as taking it once.
func (k *Keys) begin(ctx context.Context, r *Replay) (*Replay, error) {
	take := !k.feed.Settling()
	for i, p := range r.places {
		cmd, err := k.feed.Write(ctx, BeginScript, p.name, p.fingerprint, r.nonce, Lifetime.Milliseconds(), boolArg(take))
		var have []any
		if err == nil {
			have, err = cmd.Slice()
		}
		if err != nil || len(have) != 5 {
			return nil, failure.Unavailable("taking an idempotency key", err)
		}
		if taken, _ := have[0].(int64); taken == 1 {
			continue
		}
		if i > 0 && take {
			if err := r.Abandon(ctx); err != nil {
				return nil, err
			}
		}
		ms, _ := have[4].(int64)
		return r.found(p, text(have[1]), text(have[2]), text(have[3]), time.Duration(ms)*time.Millisecond, inFlight(ctx))
	}
	if take {
		for _, p := range r.places {
			r.remember(p, takeAgainScript)
		}
	}
	return r, nil
}

// remember adds the key to the journal. settled are field and value.
func (r *Replay) remember(p place, script *redisdb.Script, settled ...any) {
	r.keys.feed.Journal().Add(journal.Entry{
		Rank: journal.IdempotencyKeys, Name: p.name, Key: p.name, Script: script,
		Args: append([]any{p.fingerprint, r.nonce}, settled...), Expires: r.keys.now().Add(Lifetime),
	})
}

func boolArg(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func (k *Keys) newReplay(applicationID, ownerID, key string, fingerprint [sha256.Size]byte) *Replay {
	r := &Replay{keys: k, nonce: vault.RandomID(vault.TokenID)}
	for _, secret := range k.ring.Sorted() {
		sum := secret.Sum(vault.ForReplays, "request", string(fingerprint[:]))
		r.places = append(r.places, place{redisdb.KeyReplay(secret, applicationID, ownerID, key), base64.RawURLEncoding.EncodeToString(sum[:])})
	}
	return r
}

// found returns the outcome of an earlier request.
func (r *Replay) found(p place, fingerprint, answer, unknown string, ttl, inFlight time.Duration) (*Replay, error) {
	switch {
	case fingerprint != p.fingerprint:
		return nil, failure.Deny(ErrKeyReused, "idempotency_key_reused")
	case answer != "":
		plain, _, err := r.keys.ring.Open([]byte(answer), p.name)
		if err == nil {
			err = json.Unmarshal(plain, &r.Answer)
		}
		if err != nil || r.Answer == nil {
			// The answer cannot be read, but the request had its effect.
			return nil, failure.Deny(ErrOutcomeUnknown, "idempotency_answer_unreadable")
		}
		return r, nil
	case unknown != "", ttl < Lifetime-inFlight:
		return nil, failure.Deny(ErrOutcomeUnknown, "idempotency_outcome_unknown")
	default:
		return nil, failure.Deny(ErrInFlight, "idempotency_in_flight")
	}
}

// Finish keeps the answer for [Lifetime], even if ctx is canceled.
//
// If it fails (ErrUnavailable, or an answer over 1 MiB), the caller still returns the
// answer. The key stays taken: a retry gets ErrInFlight, then ErrOutcomeUnknown.
func (r *Replay) Finish(ctx context.Context, answer Answer) error {
	plain, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encoding an answer: %w", err)
	}
	if len(plain) > maxAnswer {
		return errors.Join(errors.New("the answer is too large to be kept"), r.Doubt(ctx))
	}
	return r.settle(ctx, fieldAnswer, func(p place) []byte { return r.keys.ring.Seal(plain, p.name) })
}

// Doubt records that the request was sent and that its outcome is unknown. Without it the
// key gets there by itself a minute later. The error is ErrUnavailable.
func (r *Replay) Doubt(ctx context.Context) error {
	return r.settle(ctx, fieldUnknown, func(place) []byte { return []byte("1") })
}

func (r *Replay) settle(ctx context.Context, field string, value func(place) []byte) error {
	ctx, cancel := r.last(ctx)
	defer cancel()
	var problems error
	for _, p := range r.places {
		v := value(p)
		r.remember(p, settleAgainScript, field, v)
		if _, err := r.keys.feed.Write(ctx, SettleScript, p.name, p.fingerprint, r.nonce, field, v, Lifetime.Milliseconds()); err != nil {
			problems = failure.Unavailable("keeping an answer", err)
		}
	}
	return problems
}

// Abandon frees the key: the request was not sent, or certainly had no effect. The error
// is ErrUnavailable; the key then stays taken.
func (r *Replay) Abandon(ctx context.Context) error {
	ctx, cancel := r.last(ctx)
	defer cancel()
	var problems error
	for _, p := range r.places {
		r.keys.feed.Journal().Drop(journal.IdempotencyKeys, p.name)
		if err := r.keys.db.Eval(ctx, abandonScript, p.name, r.nonce).Err(); err != nil {
			problems = failure.Unavailable("giving an idempotency key back", err)
		}
	}
	return problems
}

// last is the context for recording an outcome, which must happen even if the caller has
// hung up.
func (r *Replay) last(ctx context.Context) (context.Context, context.CancelFunc) {
	const steps = 4 // connect, write, write once more, wait for replicas
	return context.WithTimeout(context.WithoutCancel(ctx), time.Duration(steps*len(r.places))*r.keys.db.Timeout())
}
