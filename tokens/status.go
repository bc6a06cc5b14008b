package tokens

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

type stats struct{ hits, misses atomic.Uint64 }

// Status is how an Authority is doing.
type Status struct {
	Store StoreStatus `json:"store"`
	Feed  FeedStatus  `json:"feed"`
	Cache CacheStatus `json:"cache"`
	Keys  []KeyStatus `json:"keys"`
	// MissingKeys are the ids of keys that other gateways use and this one does not
	// have: what they make with them is answered with ErrUnavailable here.
	MissingKeys []string `json:"missing_keys,omitempty"`
}

// StoreStatus is how Redis is doing.
type StoreStatus struct {
	// Mode is "standalone", "sentinel", "cluster" or "embedded".
	Mode string `json:"mode"`
	// Available tells whether Redis answered just now, in Latency, and may be
	// believed: see [Authority.Ready].
	Available bool     `json:"available"`
	Latency   Duration `json:"latency,omitempty"`
	Error     string   `json:"error,omitempty"`
}

// FeedStatus is how well this node is informed.
type FeedStatus struct {
	// Fresh tells whether the caches are trusted.
	Fresh bool `json:"fresh"`
	// Age is how long ago the feed was last known to be complete. Absent if never.
	Age Duration `json:"age,omitempty"`
	// Staleness is the bound on Age.
	Staleness Duration `json:"staleness"`
	// Changes is the number of the last change heard of.
	Changes uint64 `json:"changes"`
}

// CacheStatus is what this node remembers.
type CacheStatus struct {
	Tokens       int    `json:"tokens"`
	Applications int    `json:"applications"`
	Users        int    `json:"users"`
	Hits         uint64 `json:"hits"`
	Misses       uint64 `json:"misses"`
}

// KeyStatus is one key that tokens are or were signed with.
type KeyStatus struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"`
	// Signs is true for the one that signs.
	Signs     bool `json:"signs"`
	Withdrawn bool `json:"withdrawn,omitempty"`
	// LiveUntil is when the last token it signed expires, but at least ten minutes
	// after a gateway was last heard of that uses it; zero if none ever did.
	LiveUntil time.Time `json:"live_until,omitzero"`
	// SafeToRemove tells that nobody needs it any more: nothing it signed lives, and
	// for a secret, nothing that is kept was hashed or encrypted with it.
	SafeToRemove bool `json:"safe_to_remove"`
	// Needed tells what it is still needed for, once its tokens have expired.
	Needed string `json:"needed,omitempty"`
}

// Status asks Redis for a sign of life and tells how things are. It never fails:
// what is not known is said.
func (a *Authority) Status(ctx context.Context) Status {
	s := Status{Store: StoreStatus{Mode: a.store.mode}}
	in := new(installation)
	err := a.Ready(ctx)
	if err == nil {
		var read *installation
		began := time.Now()
		if read, err = a.loadInstallation(ctx); err == nil {
			in = read
			s.Store.Available, s.Store.Latency = true, Duration(time.Since(began).Round(time.Microsecond))
		}
	}
	report := new(rekeyReport)
	if err == nil && len(a.keys.keys) > 1 {
		var read *rekeyReport
		if read, err = a.loadRekeyReport(ctx); err == nil {
			report = read
		}
	}
	s.Store.Error = StoreProblem(err)
	s.Feed = FeedStatus{Fresh: a.feed.fresh(), Staleness: Duration(a.feed.staleness)}
	if age, ok := a.feed.lag(); ok {
		s.Feed.Age = Duration(age.Round(time.Millisecond))
	}
	a.feed.mu.Lock()
	s.Feed.Changes = a.feed.highest
	a.feed.mu.Unlock()
	s.Cache = a.cacheStatus()
	now := a.now()
	for _, id := range a.signing.order {
		k := KeyStatus{
			ID: id, Algorithm: a.signing.verify[id].alg, Signs: id == a.signing.kid,
			Withdrawn: in.withdrawn[id], LiveUntil: in.lastSigned[id],
		}
		if err == nil && id != a.keys.first().id && !k.Signs && (k.Withdrawn || !now.Before(k.LiveUntil)) {
			k.Needed = a.needed(id, in, report)
			k.SafeToRemove = k.Needed == ""
		}
		s.Keys = append(s.Keys, k)
	}
	s.MissingKeys = a.missingKeys(in)
	return s
}

// needed tells what a key is needed for whose tokens have expired; "" if nothing.
func (a *Authority) needed(id string, in *installation, last *rekeyReport) string {
	if a.keys.byID(id) == nil {
		return "" // it signs, and nothing else
	}
	if !last.covers(id, in) || last.Key != a.keys.first().id {
		if left := last.Left[id]; left != nil && last.Key == a.keys.first().id && left.String() != "" {
			return left.String()
		}
		return "what is kept is still being moved to the first secret"
	}
	if until := in.lastSigned[id].Add(IdempotencyLifetime); a.now().Before(until) {
		return "answers that are kept under an Idempotency-Key until " + until.UTC().Format(time.RFC3339)
	}
	return ""
}

// StoreProblem tells what is wrong with Redis, given an error of [Authority.Ready],
// without the cause: that may hold an address. "" means nothing is.
func StoreProblem(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errNotPrimary):
		return "redis answers, and is a replica"
	case errors.Is(err, errUndecided):
		return "the sentinels contradict each other"
	case errors.Is(err, errUnfollowed):
		return "most sentinels do not answer, and a replica that they knew is missing"
	case errors.Is(err, errUnproven):
		return "redis answers, and has taken no writes for too long"
	}
	return "redis does not answer"
}

// Ready tells whether this node could serve a request it has never seen: Redis
// answers, is the primary, and has taken heartbeats within the staleness bound.
// The error is ErrUnavailable.
func (a *Authority) Ready(ctx context.Context) error {
	if err := a.store.Ping(ctx); err != nil {
		return err
	}
	if err := a.feed.check(ctx); err != nil {
		return err
	}
	return a.feed.authoritative(ctx)
}

// Fresh reports whether decisions are made from memory, because the feed is
// known to be complete within the staleness bound.
func (a *Authority) Fresh() bool { return a.feed.fresh() }
