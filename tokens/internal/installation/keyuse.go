// SPDX-License-Identifier: MIT

package installation

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

// A gateway that was given another secret than its neighbours, or not yet the new
// one, cannot judge what they made: it is not a credential that is wrong then,
// but this gateway. So every gateway says in Redis which keys it makes things
// with, a little ahead of time, and looks which others do that it does not have.
// It reports them, and answers what was made with them with ErrUnavailable.
const (
	// keyAhead is for how long a gateway says that it uses a key.
	keyAhead = 10 * time.Minute
	// keyRound is how often it looks what others say.
	keyRound = time.Minute
	// keyReads is how often in a second Redis is asked about an unknown key. Tokens
	// with such can be made by anybody: those that come faster are answered by what
	// was read within that second.
	keyReads = 100
	// keyBehind is how far behind the note of a key's last use may be.
	keyBehind = time.Minute
)

// perSecond lets something be done so many times in each second.
type perSecond struct {
	mu    sync.Mutex
	since time.Time
	count int
}

func (p *perSecond) allows(most int, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.since) >= time.Second || now.Before(p.since) {
		p.since, p.count = now, 0
	}
	p.count++
	return p.count <= most
}

// ErrMissingKey means that something was made with a key that this gateway lacks.
var ErrMissingKey = errors.New("it was made with a key that other gateways use and this one was not given")

// keyNotes is what a gateway has said and found last.
type keyNotes struct {
	looked  time.Time // zero if never
	said    time.Time // until when
	missing []string
}

// KeyUse notes which keys this gateway makes things with, and finds those that others
// use and this one does not have.
type KeyUse struct {
	db        *redisdb.DB
	feed      *feed.Feed
	keys      *vault.Ring
	signing   *signing.Set
	now       func() time.Time
	store     *Store
	onMissing func(ids []string)
	reads     perSecond // of the installation, for keys that are unknown
	lacking   atomic.Int64

	mu     sync.Mutex
	signed time.Time // until when something lives that was signed here, as last written
}

// NewKeyUse notes the use of keys. onMissing is told which are missing, when that changes.
func NewKeyUse(s *Store, keys *vault.Ring, set *signing.Set, onMissing func(ids []string)) *KeyUse {
	return &KeyUse{db: s.db, feed: s.feed, keys: keys, signing: set, now: s.now, store: s, onMissing: onMissing}
}

// Follow notes keys until ctx ends.
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

// note says which keys this gateway uses and finds those that it lacks. It mostly
// does nothing.
func (k *KeyUse) note(ctx context.Context, n *keyNotes) error {
	now := k.now()
	if !n.looked.IsZero() && now.Sub(n.looked) < keyRound {
		return nil
	}
	if n.said.Sub(now) < keyAhead/2 {
		until := now.Add(keyAhead)
		for _, id := range k.Used() {
			if err := k.db.Eval(ctx, Raise, redisdb.KeyInstallation, prefixLastSigned+id, until.Unix()).Err(); err != nil {
				return failure.Unavailable("noting the use of a key", err)
			}
		}
		n.said = until
	}
	in, err := k.store.Load(ctx)
	if err != nil {
		return err
	}
	n.looked = now
	if missing := k.Missing(in); !slices.Equal(missing, n.missing) {
		n.missing = missing
		k.lacking.Store(int64(len(missing)))
		k.onMissing(missing)
	}
	return nil
}

// Used are the ids of the keys that this gateway makes things with.
func (k *KeyUse) Used() []string {
	return slices.Compact([]string{k.keys.First().ID, k.signing.KeyID()})
}

// Had are the ids of all keys of this gateway.
func (k *KeyUse) Had() []string {
	ids := slices.Clone(k.signing.IDs())
	for _, key := range k.keys.Keys {
		if !slices.Contains(ids, key.ID) {
			ids = append(ids, key.ID)
		}
	}
	return ids
}

// Lacking is how many keys were missing when that was last looked.
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

// Uses reports whether things made with a key may live, as far as known.
func (in *State) Uses(keyID string, now time.Time) bool {
	return now.Before(in.LastSigned[keyID]) && !in.Withdrawn[keyID]
}

// Misses returns ErrUnavailable if a key that this gateway does not have is
// in use, and nil if nobody uses it.
func (k *KeyUse) Misses(ctx context.Context, id, doing string) error {
	now := k.now()
	in := k.store.Remembered()
	known := in != nil && k.feed.Fresh() && (in.Uses(id, now) || now.Sub(in.Read) < time.Second && !k.reads.allows(keyReads, now))
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

// OrMissing returns ErrUnavailable instead of the refusal of a token for its
// key alone, if others use that key.
func (k *KeyUse) OrMissing(ctx context.Context, err error) error {
	if u, ok := errors.AsType[*signing.UnknownKey](err); ok {
		if missing := k.Misses(ctx, u.ID, "verifying a token"); missing != nil {
			return missing
		}
	}
	return err
}

// NoteSigned keeps until when something signed by the current key lives, so that it is
// known when the key may be removed. It is written ahead of need, at most once a minute.
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
