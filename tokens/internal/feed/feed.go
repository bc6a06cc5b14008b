// SPDX-License-Identifier: MIT

// Package feed keeps the gateways of an installation consistent: it tells each of them
// what changed, so that they can answer from memory, and decides when Redis may be
// believed. Other packages use three verbs: [Feed.Read], [Feed.Refuse] and
// [Feed.Commit]. docs/consistency.md explains the contract.
//
// A change is written, then published with a number that Redis counts up. A gateway
// proves that it hears everything by heartbeats: it publishes one through the connections
// that changes are written with, and waits to hear it. When the heartbeat sent at T
// arrives, every change published before T has arrived. It carries the current number,
// which also reveals a message that was lost.
//
// A heartbeat is a write, although it changes nothing: a server that only answers reads
// may be arbitrarily far behind and must not prove anything.
package feed

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Domain is the package whose records change.
type Domain interface {
	// Forget drops from memory what was read at a key.
	Forget(key string)
	// ForgetAll drops everything.
	ForgetAll()
	// Restored is called for an entry of an application or a user that was lost and is
	// written again, so that records that depend on it can be repaired.
	Restored(ctx context.Context, e journal.Entry) error
	// RevokeAll ends everything issued so far, because revocations were lost.
	RevokeAll(ctx context.Context) error
}

// Observer watches the state of the feed. Its methods must not block.
type Observer interface {
	// FeedLag reports how long a heartbeat took to come back.
	FeedLag(time.Duration)
	// FeedState reports that the feed became fresh or stale.
	FeedState(fresh bool)
	// StoreRolledBack reports that Redis lost changes, and whether all were restored.
	StoreRolledBack(lost int64, reapplied bool)
}

// publishPatience bounds publishing a change.
const publishPatience = 5 * time.Second

// maxPending bounds the queue of messages. When there are more, one message saying that
// everything changed replaces them.
const maxPending = 256

// Feed is the view that one gateway has of the feed.
type Feed struct {
	db        *redisdb.DB
	domain    Domain
	observer  Observer
	journal   *journal.Journal
	now       func() time.Time
	node      string
	staleness time.Duration
	started   time.Time

	// Is memory fresh? Instants are nanoseconds since started; 0 means never.

	// proven is the start of the newest heartbeat that came back on this subscription.
	proven atomic.Int64
	// provenWall is the same by the wall clock, in unix nanoseconds: the monotonic clock
	// stands still while the machine is suspended.
	provenWall atomic.Int64
	wasFresh   atomic.Bool

	// Is Redis the primary, and complete? "checking" admits one check at a time, and guards
	// servers and began.

	checking chan struct{}
	servers  []string      // identities of the primaries at the last check
	began    time.Duration // start of the last successful check
	// checked is the start of the last heartbeat that was sent after a successful check.
	checked atomic.Int64
	// verified is the number of connections opened before the last successful check. A
	// later connection may lead to another server.
	verified atomic.Uint64
	// replaced is when Redis was last found replaced or set back; replacements counts how
	// often.
	replaced     atomic.Int64
	replacements atomic.Uint64
	// lacking is since when Redis has lacked changes that this gateway cannot restore.
	lacking atomic.Int64

	// The numbers of changes.

	mu      sync.Mutex
	heardTo uint64    // highest number heard on this subscription
	synced  bool      // heardTo is set on this subscription
	highest uint64    // highest number ever known
	pending []message // to be published

	beating sync.Mutex // one heartbeat at a time
	// beatFailed and listenFailed are the errors of the last heartbeat and subscription;
	// nil after a success.
	beatFailed, listenFailed atomic.Pointer[error]

	once   sync.Once
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// New makes a feed. Until it is started nothing is fresh, and every decision asks Redis.
func New(db *redisdb.DB, d Domain, o Observer, staleness time.Duration, now func() time.Time) *Feed {
	return &Feed{
		db: db, domain: d, observer: o, journal: new(journal.Journal), now: now,
		node: vault.RandomID(12), staleness: staleness, started: time.Now(), checking: make(chan struct{}, 1),
	}
}

// Start follows the feed and runs the given loops until Stop.
func (f *Feed) Start(loops ...func(context.Context)) {
	f.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		f.cancel = cancel
		for _, loop := range append(loops, f.listen, f.beat) {
			f.done.Go(func() { loop(ctx) })
		}
	})
}

// Stop stops the feed for good. It tries once more to publish queued changes.
func (f *Feed) Stop() {
	f.once.Do(func() {})
	if f.cancel != nil {
		f.cancel()
	}
	f.done.Wait()
	f.proven.Store(0) // nobody listens any more
	ctx, cancel := context.WithTimeout(context.Background(), publishPatience)
	defer cancel()
	_ = f.publishPending(ctx) // best effort
}

// Node is the random id of this gateway.
func (f *Feed) Node() string { return f.node }

// Started is when this gateway began.
func (f *Feed) Started() time.Time { return f.started }

// Staleness is the staleness bound.
func (f *Feed) Staleness() time.Duration { return f.staleness }

// Interval is the time between heartbeats.
func (f *Feed) Interval() time.Duration { return f.staleness / 5 }

// Fresh reports whether memory may be believed.
func (f *Feed) Fresh() bool {
	p := f.proven.Load()
	return p != 0 && f.since(p) < f.staleness && time.Duration(time.Now().UnixNano()-f.provenWall.Load()) < f.staleness
}

// Lag returns how long ago the feed was last proven complete, and false if never.
func (f *Feed) Lag() (time.Duration, bool) {
	p := f.proven.Load()
	return f.since(p), p != 0
}

// Changes is the number of the last change known.
func (f *Feed) Changes() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.highest
}

// Replacements counts how often another server was found.
func (f *Feed) Replacements() uint64 { return f.replacements.Load() }

// Failures returns why the last heartbeat and the last subscription failed; nil for
// one that succeeded.
func (f *Feed) Failures() (beat, listen error) {
	if p := f.beatFailed.Load(); p != nil {
		beat = *p
	}
	if p := f.listenFailed.Load(); p != nil {
		listen = *p
	}
	return beat, listen
}

func (f *Feed) elapsed() int64 { return int64(time.Since(f.started)) }

// since is the time since an instant returned by elapsed.
func (f *Feed) since(then int64) time.Duration { return time.Since(f.started) - time.Duration(then) }

// restoring marks the context of a replay. Replays run inside a check, so they must not
// wait for one; nor for replicas, since there may be none after a failover.
type restoring struct{}

func isRestoring(ctx context.Context) bool { return ctx.Value(restoring{}) != nil }

// Check makes sure that the server in use is the primary and has everything it
// acknowledged. Concurrent callers share one check.
func (f *Feed) Check(ctx context.Context) error {
	if isRestoring(ctx) {
		return nil
	}
	called := time.Since(f.started)
	ctx, cancel := context.WithTimeout(ctx, max(f.staleness, f.db.Timeout()))
	defer cancel()
	select {
	case f.checking <- struct{}{}:
		defer func() { <-f.checking }()
	case <-ctx.Done():
		return failure.Unavailable("waiting until Redis has what it lost", ctx.Err())
	}
	if f.began > called {
		return nil // another check began and ended meanwhile
	}
	began := time.Since(f.started)
	dialed := f.db.Dialed()
	if err := f.checkServers(ctx); err != nil {
		return err
	}
	f.verified.Store(dialed)
	f.began = began
	f.journal.Forget(f.started.Add(began - journal.Memory))
	return nil
}

// confirm is Check after a write. Only Sentinels replace a primary unnoticed.
func (f *Feed) confirm(ctx context.Context) error {
	if !f.db.Watched() {
		return nil
	}
	return f.Check(ctx)
}

// checkServers replays the journal if a primary is not among those of the last check. It
// may have been the primary earlier and have missed everything since.
func (f *Feed) checkServers(ctx context.Context) error {
	ids, err := f.db.Servers(ctx)
	if err != nil {
		return failure.Unavailable("finding the primary", err)
	}
	known := func(id string) bool { return slices.Contains(f.servers, id) }
	if len(ids) == 0 || !slices.ContainsFunc(ids, func(id string) bool { return !known(id) }) {
		return nil
	}
	// The first check of a gateway finds new servers but no sign of a loss.
	if first := len(f.servers) == 0 && f.journal.Idle(); !first {
		// Noted before the journal is read: whatever is added later is written once more by
		// Keep and Commit. Noted again afterwards, because the other gateways may begin their
		// replay with their next heartbeat, and this one settles until they are done.
		f.noteReplaced()
		defer f.noteReplaced()
	}
	ctx, cancel := context.WithTimeout(context.WithValue(context.WithoutCancel(ctx), restoring{}, true), repeatPatience)
	defer cancel()
	if err := f.replay(ctx, false); err != nil {
		return err
	}
	if len(f.servers) > 0 {
		f.replacements.Add(1)
	}
	f.servers = ids
	return nil
}

func (f *Feed) noteReplaced() { f.replaced.Store(f.elapsed()) }
