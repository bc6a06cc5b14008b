// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/gateways"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/rekey"
)

type stats struct{ hits, misses atomic.Uint64 }

// Status is how an Authority is doing.
type Status struct {
	Store StoreStatus `json:"store"`
	Feed  FeedStatus  `json:"feed"`
	Cache CacheStatus `json:"cache"`
	Keys  []KeyStatus `json:"keys"`
	// MissingKeys are the ids of keys that other gateways use and this one lacks. It answers
	// ErrUnavailable for credentials made with them.
	MissingKeys []string `json:"missing_keys,omitempty"`
	// KeysError is set if this node was given the wrong keys. It is then not ready.
	KeysError string `json:"keys_error,omitempty"`
	// Gateways are all of the installation, this one among them.
	Gateways []Gateway `json:"gateways,omitempty"`
}

// StoreStatus is how Redis is doing.
type StoreStatus struct {
	// Mode is "standalone", "sentinel", "cluster" or "embedded".
	Mode string `json:"mode"`
	// Available tells whether Redis answered just now, in Latency, and can be
	// believed; see [Authority.Ready].
	Available bool     `json:"available"`
	Latency   Duration `json:"latency,omitempty"`
	// LatencySeconds is Latency as a number, for scripts.
	LatencySeconds float64 `json:"latency_seconds,omitempty"`
	Error          string  `json:"error,omitempty"`
	// Warnings are settings of Redis that lose state, as far as it tells them.
	Warnings []string `json:"warnings,omitempty"`
}

// FeedStatus is the state of this node's feed.
type FeedStatus struct {
	// Fresh tells whether memory is believed.
	Fresh bool `json:"fresh"`
	// Age is how long ago the feed was last known to be complete. Absent if never.
	Age Duration `json:"age,omitempty"`
	// Staleness is the bound on Age.
	Staleness Duration `json:"staleness"`
	// AgeSeconds and StalenessSeconds are the same as numbers, for scripts.
	AgeSeconds       float64 `json:"age_seconds,omitempty"`
	StalenessSeconds float64 `json:"staleness_seconds"`
	// Changes is the number of the last change known.
	Changes uint64 `json:"changes"`
	// Error is why the last subscription failed, while Fresh is false.
	Error string `json:"error,omitempty"`
}

// CacheStatus counts what this node has in memory.
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
	// SafeToRemove tells that the key is no longer needed: no token it signed is valid, and
	// for a secret, nothing is hashed or encrypted with it.
	SafeToRemove bool `json:"safe_to_remove"`
	// Needed tells what the key is needed for after its tokens have expired.
	Needed string `json:"needed,omitempty"`
}

// reporter reports the state of this gateway and of Redis.
type reporter struct {
	*core
	installations *installation.Store
	applications  *applications
	verifier      *verifier
	gateways      *gateways.List
	keyUse        *installation.KeyUse
	observer      Observer
}

// Status asks Redis and reports the state of the installation. It never fails: what cannot
// be found out is reported as such.
func (r *reporter) Status(ctx context.Context) Status {
	s := Status{Store: StoreStatus{Mode: r.db.Mode()}}
	in := new(installation.State)
	err := r.storeReady(ctx)
	if err == nil {
		var read *installation.State
		began := time.Now()
		if read, err = r.installations.Load(ctx); err == nil {
			in = read
			s.Store.Available, s.Store.Latency = true, Duration(time.Since(began).Round(time.Microsecond))
		}
	}
	report := new(rekey.Report)
	if err == nil && len(r.keys.Keys) > 1 {
		var read *rekey.Report
		if read, err = rekey.Load(ctx, r.db); err == nil {
			report = read
		}
	}
	s.Store.Error = StoreProblem(err)
	if settings, err := r.db.Settings(ctx); err == nil {
		s.Store.Warnings = settings.Warnings()
	}
	if p, err := r.db.Permitted(ctx); err == nil && !p.OK() && !p.Refusing {
		s.Store.Warnings = append(s.Store.Warnings, "NOPERM: the Redis user may not use "+p.String()+
			"; requests are served, and what else needs it fails (docs/redis.md has the line for ACL SETUSER)")
	}
	s.Feed = FeedStatus{Fresh: r.feed.Fresh(), Staleness: Duration(r.feed.Staleness()), Error: r.FeedProblem(ctx)}
	if age, ok := r.feed.Lag(); ok {
		s.Feed.Age = Duration(age.Round(time.Millisecond))
	}
	s.Store.LatencySeconds = time.Duration(s.Store.Latency).Seconds()
	s.Feed.AgeSeconds, s.Feed.StalenessSeconds = time.Duration(s.Feed.Age).Seconds(), r.feed.Staleness().Seconds()
	s.Feed.Changes = r.feed.Changes()
	s.Cache = r.cacheStatus()
	now := r.now()
	for _, id := range r.signing.IDs() {
		k := KeyStatus{
			ID: id, Signs: id == r.signing.KeyID(),
			Withdrawn: in.Withdrawn[id], LiveUntil: in.LastSigned[id],
		}
		k.Algorithm, _ = r.signing.AlgorithmOf(id)
		if err == nil && id != r.keys.First().ID && !k.Signs && (k.Withdrawn || !now.Before(k.LiveUntil)) {
			k.Needed = r.needed(id, in, report)
			k.SafeToRemove = k.Needed == ""
		}
		s.Keys = append(s.Keys, k)
	}
	s.MissingKeys = r.keyUse.Missing(in)
	if len(s.MissingKeys) > 0 {
		s.KeysError = StoreProblem(r.ousted(ctx))
	}
	if s.Store.Available {
		s.Gateways, _ = r.gateways.All(ctx) // Redis went away just now
	}
	return s
}

// notUsedYet describes a secret that was added and not used yet. It is not called safe to
// remove, because it is about to be used.
const notUsedYet = "no gateway uses it yet"

// needed tells what a key is needed for after its tokens have expired; "" if nothing.
func (r *reporter) needed(id string, in *installation.State, last *rekey.Report) string {
	if r.keys.ByID(id) == nil {
		return "" // it signs, and nothing else
	}
	if in.LastSigned[id].IsZero() {
		return notUsedYet
	}
	if !last.Covers(id, in.LastSigned[id]) || last.Key != r.keys.First().ID {
		if left := last.Left[id]; left != nil && last.Key == r.keys.First().ID && left.String() != "" {
			return left.String()
		}
		return "what is kept may be made with it: run \"meet secret rekey\""
	}
	if until := in.LastSigned[id].Add(IdempotencyLifetime); r.now().Before(until) {
		return "answers that are kept under an Idempotency-Key until " + until.UTC().Format(time.RFC3339)
	}
	return ""
}
