// SPDX-License-Identifier: MIT

package installation

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

// A gateway without a key that others use cannot judge what they made with it: the
// gateway is misconfigured, the credential is not wrong. So every gateway announces in
// Redis which keys it uses, a little ahead of time, and looks for announced keys that it
// lacks. It reports those, and answers ErrUnavailable for credentials made with them.
const (
	// keyAhead is how long an announcement lasts.
	keyAhead = 10 * time.Minute
	// keyRound is how often a gateway reads the announcements of others.
	keyRound = time.Minute
	// keyReads bounds how often in a second Redis is asked about unknown keys, since
	// anybody can make a token that names one. Beyond it the last answer is used.
	keyReads = 100
	// keyBehind is how far ahead NoteSigned writes.
	keyBehind = time.Minute
)

// ErrMissingKey means that something was made with a key that this gateway lacks.
var ErrMissingKey = errors.New("it was made with a key that other gateways use and this one was not given")

// keyNotes is the state of Follow.
type keyNotes struct {
	read      time.Time // when the announcements were last read, zero if never
	announced time.Time // when this gateway's announcement ends
	missing   []string
}

// KeyUse announces which keys this gateway uses, and finds keys in use that it lacks.
type KeyUse struct {
	db        *redisdb.DB
	feed      *feed.Feed
	keys      *vault.Ring
	signing   *signing.Set
	now       func() time.Time
	store     *Store
	onMissing func(ids []string)
	reads     *rate.Limiter // of the installation, for unknown keys
	lacking   atomic.Int64

	mu     sync.Mutex
	signed time.Time // when the last token signed here expires, as last written
}

// NewKeyUse makes a KeyUse. It calls onMissing when the set of missing keys changes.
func NewKeyUse(s *Store, keys *vault.Ring, set *signing.Set, onMissing func(ids []string)) *KeyUse {
	return &KeyUse{
		db: s.db, feed: s.feed, keys: keys, signing: set, now: s.now, store: s, onMissing: onMissing,
		reads: rate.NewLimiter(keyReads, keyReads),
	}
}

// Follow announces keys and looks for missing ones until ctx ends.
func (k *KeyUse) Follow(ctx context.Context) {
	tick := time.NewTicker(k.feed.Interval())
	defer tick.Stop()
	var notes keyNotes
	for {
		_ = k.note(ctx, &notes) // the next tick tries again
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// note is one round of Follow. Most rounds do nothing.
func (k *KeyUse) note(ctx context.Context, n *keyNotes) error {
	now := k.now()
	if !n.read.IsZero() && now.Sub(n.read) < keyRound {
		return nil
	}
	if n.announced.Sub(now) < keyAhead/2 {
		until := now.Add(keyAhead)
		for _, id := range k.Used() {
			if err := k.db.Eval(ctx, Raise, redisdb.KeyInstallation, prefixLastSigned+id, until.Unix()).Err(); err != nil {
				return failure.Unavailable("noting the use of a key", err)
			}
		}
		n.announced = until
	}
	in, err := k.store.Load(ctx)
	if err != nil {
		return err
	}
	n.read = now
	if missing := k.Missing(in); !slices.Equal(missing, n.missing) {
		n.missing = missing
		k.lacking.Store(int64(len(missing)))
		k.onMissing(missing)
	}
	return nil
}

// Used returns the ids of the keys that this gateway signs and hashes with.
func (k *KeyUse) Used() []string {
	return slices.Compact([]string{k.keys.First().ID, k.signing.KeyID()})
}

// Had returns the ids of all keys of this gateway.
func (k *KeyUse) Had() []string {
	ids := slices.Clone(k.signing.IDs())
	for _, key := range k.keys.Keys {
		if !slices.Contains(ids, key.ID) {
			ids = append(ids, key.ID)
		}
	}
	return ids
}

// Lacking is how many keys were missing in the last round.
func (k *KeyUse) Lacking() int { return int(k.lacking.Load()) }

// Missing returns the ids of the keys in use that this gateway does not have.
func (k *KeyUse) Missing(in *State) []string {
	var missing []string
	for id := range in.LastSigned {
		if _, have := k.signing.AlgorithmOf(id); !have && in.Uses(id, k.now()) {
			missing = append(missing, id)
		}
	}
	slices.Sort(missing)
	return missing
}

// Uses reports whether something made with a key may still be valid.
func (in *State) Uses(keyID string, now time.Time) bool {
	return now.Before(in.LastSigned[keyID]) && !in.Withdrawn[keyID]
}

// Misses returns ErrUnavailable if a key that this gateway lacks is in use, and nil if no
// gateway uses it.
func (k *KeyUse) Misses(ctx context.Context, id, doing string) error {
	now := k.now()
	in := k.store.Remembered()
	known := in != nil && k.feed.Fresh() && (in.Uses(id, now) || now.Sub(in.Read) < time.Second && !k.reads.AllowN(now, 1))
	if !known {
		err := k.feed.Read(ctx, doing, func(ctx context.Context, _ feed.Reader) (found bool, err error) {
			if in, err = k.store.Load(ctx); err != nil {
				return false, err
			}
			return in.Uses(id, now), nil
		})
		if err != nil {
			return err
		}
	}
	if in.Uses(id, now) {
		return failure.Unavailable(doing, ErrMissingKey)
	}
	return nil
}

// OrMissing turns the refusal of a token for its unknown key into ErrUnavailable if other
// gateways use that key.
func (k *KeyUse) OrMissing(ctx context.Context, err error) error {
	if u, ok := errors.AsType[*signing.UnknownKey](err); ok {
		if missing := k.Misses(ctx, u.ID, "verifying a token"); missing != nil {
			return missing
		}
	}
	return err
}

// NoteSigned records when the last token signed by the current key expires, which tells
// when the key may be removed. It writes ahead of need, at most once a minute.
func (k *KeyUse) NoteSigned(ctx context.Context, lifetime time.Duration) error {
	until := k.now().Add(lifetime)
	k.mu.Lock()
	known := !until.After(k.signed)
	k.mu.Unlock()
	if known {
		return nil
	}
	until = until.Add(keyBehind)
	err := k.db.Eval(ctx, Raise, redisdb.KeyInstallation, prefixLastSigned+k.signing.KeyID(), until.Unix()).Err()
	if err != nil {
		return failure.Unavailable("noting the use of a key", err)
	}
	k.mu.Lock()
	if until.After(k.signed) {
		k.signed = until
	}
	k.mu.Unlock()
	return nil
}
