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

// Status is the state of an Authority as operators see it.
type Status struct {
	Store StoreStatus `json:"store"`
	Feed  FeedStatus  `json:"feed"`
	Cache CacheStatus `json:"cache"`
	Keys  []KeyStatus `json:"keys"`
	// MissingKeys are the ids of keys that other gateways use and this one lacks. Credentials
	// made with them get ErrUnavailable.
	MissingKeys []string `json:"missing_keys,omitempty"`
	// KeysError is set if this gateway has the wrong keys. It is then not ready.
	KeysError string `json:"keys_error,omitempty"`
	// Gateways are those of the installation, including this one.
	Gateways []Gateway `json:"gateways,omitempty"`
}

// StoreStatus is the state of Redis.
type StoreStatus struct {
	// Mode is "standalone", "sentinel", "cluster" or "embedded".
	Mode string `json:"mode"`
	// Available is true if Redis just answered, in Latency, and can be believed; see
	// [Authority.Ready].
	Available bool     `json:"available"`
	Latency   Duration `json:"latency,omitempty"`
	// LatencySeconds is Latency as a number, for scripts.
	LatencySeconds float64 `json:"latency_seconds,omitempty"`
	Error          string  `json:"error,omitempty"`
	// Warnings are about settings of Redis that lose state.
	Warnings []string `json:"warnings,omitempty"`
}

// FeedStatus is the state of this gateway's feed.
type FeedStatus struct {
	// Fresh is true while decisions are made from memory.
	Fresh bool `json:"fresh"`
	// Age is how long ago the feed was last complete. Absent if never.
	Age Duration `json:"age,omitempty"`
	// Staleness is the bound on Age.
	Staleness Duration `json:"staleness"`
	// AgeSeconds and StalenessSeconds are the same as numbers, for scripts.
	AgeSeconds       float64 `json:"age_seconds,omitempty"`
	StalenessSeconds float64 `json:"staleness_seconds"`
	// Changes is the number of the last change known.
	Changes uint64 `json:"changes"`
	// Error is why the feed is not fresh.
	Error string `json:"error,omitempty"`
}

// CacheStatus counts what this gateway has in memory.
type CacheStatus struct {
	Tokens       int    `json:"tokens"`
	Applications int    `json:"applications"`
	Users        int    `json:"users"`
	Hits         uint64 `json:"hits"`
	Misses       uint64 `json:"misses"`
}

// KeyStatus is the state of one key.
type KeyStatus struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"`
	// Signs is true for the key that signs new tokens.
	Signs     bool `json:"signs"`
	Withdrawn bool `json:"withdrawn,omitempty"`
	// LiveUntil is when the last token that the key signed expires, and at least ten minutes
	// after a gateway last announced that it uses the key. Zero if none ever did.
	LiveUntil time.Time `json:"live_until,omitzero"`
	// SafeToRemove is true if no valid token was signed with the key, and nothing that is
	// stored was hashed or encrypted with it.
	SafeToRemove bool `json:"safe_to_remove"`
	// Needed says why the key is needed after its tokens have expired.
	Needed string `json:"needed,omitempty"`
}

// notUsedYet describes a secret that was added to be used soon, so it is not safe to remove.
const notUsedYet = "no gateway uses it yet"

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

// Status reads the state of the installation from Redis. It never fails: it reports errors in
// the result.
func (r *reporter) Status(ctx context.Context) Status {
	s := Status{Store: StoreStatus{Mode: r.db.Mode()}}
	in, report := new(installation.State), new(rekey.Report)
	err := r.storeReady(ctx)
	if err == nil {
		began := time.Now()
		if in, err = r.installations.Load(ctx); err == nil {
			s.Store.Available, s.Store.Latency = true, Duration(time.Since(began).Round(time.Microsecond))
		} else {
			in = new(installation.State)
		}
	}
	if err == nil && len(r.keys.Keys) > 1 {
		report, err = rekey.Load(ctx, r.db)
	}
	s.Store.Error = StoreProblem(err)
	if settings, err := r.db.Settings(ctx); err == nil {
		s.Store.Warnings = StoreWarnings(settings)
	}
	if p, err := r.db.Permitted(ctx); err == nil && !p.OK() && !p.Refusing() {
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
	for _, id := range r.signing.IDs() {
		k := KeyStatus{ID: id, Signs: id == r.signing.KeyID(), Withdrawn: in.Withdrawn[id], LiveUntil: in.LastSigned[id]}
		k.Algorithm, _ = r.signing.AlgorithmOf(id)
		if err == nil && id != r.keys.First().ID && !k.Signs && (k.Withdrawn || !r.now().Before(k.LiveUntil)) {
			k.Needed = r.needed(id, in, report)
			k.SafeToRemove = k.Needed == ""
		}
		s.Keys = append(s.Keys, k)
	}
	s.MissingKeys = r.keyUse.Missing(in)
	if len(s.MissingKeys) > 0 {
		s.KeysError = StoreProblem(r.checkKeys(ctx))
	}
	if s.Store.Available {
		s.Gateways, _ = r.gateways.All(ctx) // none if Redis has just become unavailable
	}
	return s
}

// needed says why a key is needed after its tokens have expired; "" if it is not.
func (r *reporter) needed(id string, in *installation.State, last *rekey.Report) string {
	if r.keys.ByID(id) == nil {
		return "" // a signing key, which does nothing else
	}
	if in.LastSigned[id].IsZero() {
		return notUsedYet
	}
	left, current := last.Left[id].String(), last.Key == r.keys.First().ID
	switch {
	case current && left != "":
		return left
	case !current || !last.BeganAfter(in.LastSigned[id]):
		return "stored data may be made with it: run \"meet secret rekey\""
	}
	if until := in.LastSigned[id].Add(IdempotencyLifetime); r.now().Before(until) {
		return "answers stored under an Idempotency-Key until " + until.UTC().Format(time.RFC3339)
	}
	return ""
}
