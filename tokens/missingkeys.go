// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
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
	// keySample is how many applications tell which of two secrets is the
	// installation's.
	keySample = 50
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

var errMissingKey = errors.New("it was made with a key that other gateways use and this one was not given")

// keyNotes is what a gateway has said and found last.
type keyNotes struct {
	looked  time.Time // zero if never
	said    time.Time // until when
	missing []string
}

// keyUse notes which keys this gateway makes things with, and finds those that others
// use and this one does not have.
type keyUse struct {
	*core
	installations *installations
	observer      Observer
	lastSigned    lastSigned
	reads         perSecond // of the installation, for keys that are unknown
}

// follow notes keys until ctx ends.
func (k *keyUse) follow(ctx context.Context) {
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
func (k *keyUse) note(ctx context.Context, n *keyNotes) error {
	now := k.now()
	if !n.looked.IsZero() && now.Sub(n.looked) < keyRound {
		return nil
	}
	if n.said.Sub(now) < keyAhead/2 {
		until := now.Add(keyAhead)
		for _, id := range k.used() {
			if err := k.db.Eval(ctx, laterScript, redisdb.KeyInstallation, prefixLastSigned+id, until.Unix()).Err(); err != nil {
				return unavailable("noting the use of a key", err)
			}
		}
		n.said = until
	}
	in, err := k.installations.load(ctx)
	if err != nil {
		return err
	}
	n.looked = now
	if missing := k.missing(in); !slices.Equal(missing, n.missing) {
		n.missing = missing
		k.observer.KeysMissing(missing)
	}
	return nil
}

// used are the ids of the keys that this gateway makes things with.
func (k *keyUse) used() []string {
	return slices.Compact([]string{k.keys.First().ID, k.signing.KeyID()})
}

// had are the ids of all keys of this gateway.
func (k *keyUse) had() []string {
	ids := slices.Clone(k.signing.IDs())
	for _, key := range k.keys.Keys {
		if !slices.Contains(ids, key.ID) {
			ids = append(ids, key.ID)
		}
	}
	return ids
}

// missing returns the ids of the keys in use that this gateway does not have.
func (k *keyUse) missing(in *installation) []string {
	var missing []string
	for id := range in.lastSigned {
		if _, have := k.signing.AlgorithmOf(id); !have && in.uses(id, k.now()) {
			missing = append(missing, id)
		}
	}
	slices.Sort(missing)
	return missing
}

// uses reports whether things made with a key may live, as far as known.
func (in *installation) uses(keyID string, now time.Time) bool {
	return now.Before(in.lastSigned[keyID]) && !in.withdrawn[keyID]
}

// misses returns ErrUnavailable if a key that this gateway does not have is
// in use, and nil if nobody uses it.
func (k *keyUse) misses(ctx context.Context, id, doing string) error {
	now := k.now()
	in := k.cache.installation.Load()
	known := in != nil && k.feed.Fresh() && (in.uses(id, now) || now.Sub(in.read) < time.Second && !k.reads.allows(keyReads, now))
	if !known {
		err := k.feed.Read(ctx, doing, func(ctx context.Context, _ feed.Reader) (found bool, err error) {
			if in, err = k.installations.load(ctx); err != nil {
				return false, err
			}
			return in.uses(id, now), nil
		})
		if err != nil {
			return err
		}
	}
	if in.uses(id, now) {
		return unavailable(doing, errMissingKey)
	}
	return nil
}

// orMissing returns ErrUnavailable instead of the refusal of a token for its
// key alone, if others use that key.
func (k *keyUse) orMissing(ctx context.Context, err error) error {
	if u, ok := errors.AsType[*signing.UnknownKey](err); ok {
		if missing := k.misses(ctx, u.ID, "verifying a token"); missing != nil {
			return missing
		}
	}
	return err
}

// ousted returns an error if this gateway is the one that was given other keys than
// the installation: most applications have a secret that only a missing key can
// check. Where the applications do not tell, it is the gateway that was started
// after one that uses a missing key. Of two gateways with different keys, exactly
// one is not ready.
func (r *reporter) ousted(ctx context.Context) error {
	in, err := r.installations.load(ctx)
	if err != nil {
		return err
	}
	missing := r.keyUse.missing(in)
	if len(missing) == 0 {
		return nil
	}
	page, err := r.applications.Applications(ctx, ListOptions{Limit: keySample})
	if err != nil {
		return err
	}
	ours, theirs := 0, 0
	for _, app := range page.Applications {
		for _, v := range app.storedSecrets {
			switch {
			case v.Kind != SecretHMAC || v.Expired(r.now()):
			case r.keys.ByID(v.Key) != nil:
				ours++
			case slices.Contains(missing, v.Key):
				theirs++
			}
		}
	}
	if ours != theirs {
		if theirs > ours {
			return unavailable("checking the keys of this gateway", errMissingKey)
		}
		return nil
	}
	gateways, err := r.gateways.All(ctx)
	if err != nil {
		return err
	}
	for _, g := range gateways {
		if g.Self {
			return nil // those that were started before it use no key that is missing
		}
		if !g.Silent && slices.ContainsFunc(g.Uses, func(id string) bool { return slices.Contains(missing, id) }) {
			return unavailable("checking the keys of this gateway", errMissingKey)
		}
	}
	return nil
}
