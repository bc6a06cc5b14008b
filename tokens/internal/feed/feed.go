// SPDX-License-Identifier: MIT

// Package feed keeps the gateways of an installation together: it tells each what
// changed, so that it can answer from memory, and decides what of Redis may be
// believed. docs/consistency.md explains the whole.
//
// Three verbs are what other packages use: [Feed.Read], [Feed.Refuse] and
// [Feed.Commit].
//
// A change is written first and then published, with a number counted up in Redis.
// To know that it hears everything, a gateway publishes heartbeats of its own
// through the connections that changes are written with, and waits to hear them:
// when the one sent at T arrives, every change published before T has. It carries
// the current number, so a change that got lost on the way shows as well.
//
// A heartbeat is a write, though it changes nothing: a server that only answers
// reads may be behind for any length of time, and must not prove anything.
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
	// Restored is told of an entry of applications or users that was lost and is written
	// again, so that what depends on it can be mended.
	Restored(ctx context.Context, e journal.Entry) error
	// RevokeAll ends everything issued so far: revocations were lost.
	RevokeAll(ctx context.Context) error
}

// Observer is told how the feed is doing. It must not block.
type Observer interface {
	// FeedLag is told how long a heartbeat was on its way.
	FeedLag(time.Duration)
	// FeedState is told when the feed becomes fresh or stale.
	FeedState(fresh bool)
	// StoreRolledBack is told that Redis lost changes, and whether all were written again.
	StoreRolledBack(lost int64, reapplied bool)
}

// publishPatience bounds telling the other gateways.
const publishPatience = 5 * time.Second

// maxPending is how many messages wait to be published one by one. When there are
// more, one message says that everything changed.
const maxPending = 256

// Feed is what one gateway hears and tells.
type Feed struct {
	db        *redisdb.DB
	domain    Domain
	observer  Observer
	journal   *journal.Journal
	now       func() time.Time
	node      string
	staleness time.Duration
	started   time.Time

	// proven is when the making of the newest heartbeat that came back began, in
	// nanoseconds since the start; 0 if none came back on this subscription.
	proven atomic.Int64
	// provenWall is the same by the wall clock, in unix nanoseconds: the other one
	// stands still while the machine is suspended.
	provenWall atomic.Int64
	// checked is when Redis was last found to be the primary and to have all that this
	// gateway knows, in nanoseconds since the start; 0 if never.
	checked  atomic.Int64
	wasFresh atomic.Bool

	mu      sync.Mutex
	heardTo uint64    // highest number heard, on this subscription
	synced  bool      // whether heardTo has been set on this subscription
	highest uint64    // highest number known, ever
	pending []message // still to be published

	beating sync.Mutex // one heartbeat at a time
	servers []string   // identities of the primaries when they were last checked

	// checking lets one goroutine at a time make sure that Redis has what it
	// acknowledged. verified is how many connections had been opened when that was last
	// known: one that was opened later may lead to another server.
	checking chan struct{}
	verified atomic.Uint64
	// lacking is since when, as elapsed, Redis has lacked changes that this gateway did
	// not hear of one by one; 0 if it does not.
	lacking atomic.Int64
	began   time.Duration // since the start: when the last check began that succeeded; guarded by checking
	// replaced is when Redis was last found to be another one than before, or to have
	// lost something, in nanoseconds since the start; 0 if never.
	replaced atomic.Int64
	// replacements counts the servers that were found in the place of others.
	replacements atomic.Uint64

	// beatFailed and listenFailed hold why the last heartbeat, and the last
	// subscription, failed; nil once one succeeded.
	beatFailed, listenFailed atomic.Pointer[error]

	once   sync.Once
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// New makes a feed that has not started. Without one that has, nothing is fresh and
// every decision asks Redis.
func New(db *redisdb.DB, d Domain, o Observer, staleness time.Duration, now func() time.Time) *Feed {
	return &Feed{
		db: db, domain: d, observer: o, journal: new(journal.Journal), now: now,
		node: vault.RandomID(12), staleness: staleness, started: time.Now(), checking: make(chan struct{}, 1),
	}
}

// Start follows the feed, and runs the loops given beside it until Stop.
func (f *Feed) Start(loops ...func(context.Context)) {
	f.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		f.cancel = cancel
		for _, loop := range append(loops, f.listen, f.beat) {
			f.done.Go(func() { loop(ctx) })
		}
	})
}

// Stop ends it. Changes that were not published yet get a last try. A feed that was
// stopped does not start again.
func (f *Feed) Stop() {
	f.once.Do(func() {})
	if f.cancel != nil {
		f.cancel()
	}
	f.done.Wait()
	f.proven.Store(0) // nobody listens any more
	ctx, cancel := context.WithTimeout(context.Background(), publishPatience)
	defer cancel()
	_ = f.publishPending(ctx) // nobody was promised more than a try
}

// Node is the random id of this gateway.
func (f *Feed) Node() string { return f.node }

// Started is when this gateway began.
func (f *Feed) Started() time.Time { return f.started }

// Staleness is the bound.
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

// Changes is the number of the last change heard of.
func (f *Feed) Changes() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.highest
}

// Replacements counts the servers that were found in the place of others.
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

// since is how long ago an instant is that elapsed has returned.
func (f *Feed) since(then int64) time.Duration { return time.Since(f.started) - time.Duration(then) }

// restoring marks the context of what writes again what Redis has lost. A check waits
// for that, so it must not wait for a check; nor for replicas, of which there may be
// none after a failover.
type restoring struct{}

func isRestoring(ctx context.Context) bool { return ctx.Value(restoring{}) != nil }

// Check makes sure that the server asked is the primary, now or later, and that it has
// what it acknowledged.
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
		return nil // one that began while this one waited
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

// confirm is Check after a write, where Sentinels may have replaced the primary.
func (f *Feed) confirm(ctx context.Context) error {
	if !f.db.Watched() {
		return nil
	}
	return f.Check(ctx)
}

// checkServers writes again what servers may have lost that were no primaries when
// this was last asked: they may have been before, and not since.
func (f *Feed) checkServers(ctx context.Context) error {
	ids, err := f.db.Servers(ctx)
	if err != nil {
		return failure.Unavailable("finding the primary", err)
	}
	known := func(id string) bool { return slices.Contains(f.servers, id) }
	if len(ids) == 0 || !slices.ContainsFunc(ids, func(id string) bool { return !known(id) }) {
		return nil
	}
	// A gateway that has just started may have heard of a few changes already, which
	// are made sure of. That is no sign that anything is lost.
	if first := len(f.servers) == 0 && f.journal.Idle(); !first {
		// Before the journal is read, so that whoever adds to it later sees to that entry;
		// and after, since the other gateways begin no later than at their next heartbeat
		// and need about as long.
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
