// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// The feed tells every gateway what changed, so that it can answer from memory.
//
// A change is written first and then published, with a number counted up in
// Redis, as one script. A gateway forgets what the change names. To know that it
// still hears everything, it publishes a heartbeat of its own through the same
// connections that changes are written with and waits to hear it back: if the
// heartbeat it sent at time T has arrived, every change published before T has.
// The heartbeat carries the current number, so a change that got lost on the way
// shows as well. Freshness is therefore counted from when the last heartbeat
// heard was sent.
//
// A heartbeat is a write, though it changes nothing: a server that only answers
// reads (a replica cut off from its primary, a primary cut off from its
// replicas) may be behind for any length of time, and must not prove anything.
// When heartbeats have failed for the staleness bound, Redis is not believed at
// all, even if it answers. Nor does a primary that was replaced prove anything,
// though it takes writes: before every heartbeat the Sentinels are asked, if there
// are any (see sentinels.go).
//
// Three things end in forgetting everything: a new subscription, a number that
// was skipped, and a number that went back. The last means that Redis has lost
// changes; see lost.go for what is done then.

// change is one thing that changed, as published.
type change struct {
	kind changeKind
	id   string // what changed: an id, an alias or a record key
	// value is what it changed to, so that it can be written again: a
	// generation or an instant; for tokens the hash of the whole token.
	value string
}

type changeKind string

const (
	changedApplication  changeKind = "a" // id; value: version, and "/off" if it is not active
	changedAlias        changeKind = "c" // alias
	revokedApplication  changeKind = "A" // id; value: generation
	revokedUser         changeKind = "U" // id; value: generation
	revokedGrant        changeKind = "G" // user id/application id; value: generation
	changedUser         changeKind = "u" // id
	revokedToken        changeKind = "t" // record key; value: hash of the token
	revokedInstallation changeKind = "I" // value: generation
	revokedBefore       changeKind = "B" // value: unix milliseconds
	revokedFamily       changeKind = "R" // family of refresh tokens: id; value: when it ended, unix milliseconds
	withdrawnKey        changeKind = "K" // key id
	changedEverything   changeKind = "*" // more than can be told one by one
)

// lostChanges is the id of changedEverything when Redis has lost changes.
const lostChanges = "lost"

// unknownValue stands for a generation or hash when it is only known that the
// change may have been made.
const unknownValue = "0"

func (c change) String() string { return string(c.kind) + " " + c.id + " " + c.value }

// message is what the feed carries: "<number> <kind> <id> <value>", and after an
// edit what an application was edited to, in base64.
type message struct {
	number uint64
	change change
	// document is the application as stored; "" if the message does not tell.
	document string
}

func parseMessage(s string) (message, error) {
	f := strings.Split(s, " ")
	if len(f) < 4 || len(f) > 5 || f[1] == "" {
		return message{}, errors.New("feed message without four or five fields")
	}
	number, err := strconv.ParseUint(f[0], 10, 64)
	if err != nil {
		return message{}, fmt.Errorf("feed message without a number: %w", err)
	}
	m := message{number: number, change: change{changeKind(f[1]), f[2], f[3]}}
	if len(f) == 5 {
		document, err := base64.RawStdEncoding.DecodeString(f[4])
		if err != nil {
			return message{}, fmt.Errorf("feed message with an unreadable document: %w", err)
		}
		m.document = string(document)
	}
	return m, nil
}

// publishScript counts the change and tells everybody.
var publishScript = redis.NewScript(`
local seq = redis.call('INCR', KEYS[1])
redis.call('PUBLISH', ARGV[1], string.format('%.0f', seq) .. ' ' .. ARGV[2])
return seq`)

// heartbeatScript tells the sender alone, and counts nothing.
var heartbeatScript = redis.NewScript(`
local seq = redis.call('INCRBY', KEYS[1], 0)
redis.call('PUBLISH', ARGV[1], string.format('%.0f', seq) .. ' h ' .. ARGV[2] .. ' -')
return seq`)

// raiseScript lifts the counter to at least the given number.
var raiseScript = redis.NewScript(`
local seq = tonumber(redis.call('GET', KEYS[1]) or '0')
if seq < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return 1`)

// publishPatience bounds telling the other gateways.
const publishPatience = 5 * time.Second

// errUntold means that a change was acknowledged and that the other gateways
// could not be told at once.
var errUntold = errors.New("the other gateways are not told yet")

// publish applies the change here and tells the other gateways. The change
// must have been acknowledged by Redis before, and be established if it counts
// something up. If they cannot be told now, that
// is an error, errUntold, and they will be told as soon as possible.
func (a *Authority) publish(ctx context.Context, c change) error {
	a.feed.apply(c)
	// What was changed has to be told even if the caller has gone away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishPatience)
	defer cancel()
	if err := a.feed.tell(ctx, c); err != nil {
		a.feed.keep(c)
		return unavailable("publishing a change", fmt.Errorf("%w: %w", errUntold, err))
	}
	if err := a.feed.confirm(ctx); err != nil {
		return err
	}
	if a.feed.replacedLately() {
		// The write may have gone to the server that is no more, and what was written
		// again to its successor did not have this change yet.
		return a.repeat(ctx, c)
	}
	return nil
}

// established makes sure, before anybody remembers a change, that it was made at the
// primary. At one that had been replaced it is as good as not made: whoever is told so
// makes it anew at the successor, and when this gateway gets there, what it had counted
// up elsewhere must not go over that. seen is from before the change was made; unsure
// says that it may have been.
func (a *Authority) established(ctx context.Context, seen sight, unsure change, doing string) error {
	if isRestoring(ctx) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishPatience)
	defer cancel()
	err := a.feed.confirm(ctx)
	if err == nil && a.feed.look().replaced != seen.replaced {
		err = errUnsteady
	}
	if err != nil {
		return a.uncertain(unsure, doing, err)
	}
	return nil
}

// uncertain handles a change of which is not known whether Redis has made it:
// the answer was lost, or the replicas have not confirmed. The caller is told
// that it failed; should it have been made all the same, everybody learns it.
func (a *Authority) uncertain(c change, doing string, err error) error {
	a.feed.apply(c)
	a.feed.keep(c)
	return unavailable(doing, err)
}

const (
	// history is how many changes a gateway could write again.
	history = 4096
	// maxKept is how many changes wait to be published one by one. When there
	// are more, one message says that everything changed.
	maxKept = 256
)

type feed struct {
	a         *Authority
	node      string
	staleness time.Duration

	// proven is when the making of the newest heartbeat that came back began, which
	// is with finding out who the primary is, in nanoseconds since born; 0 if none
	// came back on this subscription.
	proven atomic.Int64
	// provenWall is the same by the wall clock, unix nanoseconds: the other one stands
	// still while the machine is suspended.
	provenWall atomic.Int64
	// checked is when Redis was last found to be the primary and to have all
	// that this gateway knows, in nanoseconds since born; 0 if never.
	checked atomic.Int64
	born    time.Time
	wasOK   atomic.Bool

	mu      sync.Mutex
	heardTo uint64    // highest number heard, on this subscription
	synced  bool      // whether heardTo has been set on this subscription
	highest uint64    // highest number known, ever
	recent  changeLog // the last changes
	edits   editLog   // what applications were last edited to
	kept    []change  // changes still to be published

	asking  sync.Mutex // one heartbeat at a time
	keys    keyNotes
	servers []string // identities of the primaries when they were last checked

	// checking lets one goroutine at a time make sure that Redis has what it
	// acknowledged. verified is how many connections had been opened when that
	// was last known: one that was opened later may lead to another server.
	checking chan struct{}
	verified atomic.Uint64
	began    time.Duration // since born: when the last check began that succeeded; guarded by checking
	// replaced is when Redis was last found to be another one than before, or to
	// have lost something, in nanoseconds since born; 0 if never.
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

func newFeed(a *Authority, staleness time.Duration) *feed {
	return &feed{a: a, node: randomID(12), staleness: staleness, born: time.Now(), checking: make(chan struct{}, 1)}
}

func (f *feed) start() {
	f.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		f.cancel = cancel
		f.done.Go(func() { f.listen(ctx) })
		f.done.Go(func() { f.beat(ctx) })
		f.done.Go(func() { f.a.announceAll(ctx) })
		if len(f.a.keys.Keys) > 1 {
			f.done.Go(func() { f.a.rekey(ctx) })
		}
	})
}

// stop ends the listening. Changes that were not published yet get a last try.
func (f *feed) stop() {
	f.once.Do(func() {}) // a feed that was stopped does not start
	if f.cancel != nil {
		f.cancel()
	}
	f.done.Wait()
	f.proven.Store(0) // nobody listens any more
	ctx, cancel := context.WithTimeout(context.Background(), publishPatience)
	defer cancel()
	_ = f.publishKept(ctx) // nobody was promised more than a try
}

// fresh reports whether the caches may be trusted.
func (f *feed) fresh() bool {
	p := f.proven.Load()
	return p != 0 && time.Since(f.born)-time.Duration(p) < f.staleness &&
		time.Duration(time.Now().UnixNano()-f.provenWall.Load()) < f.staleness
}

// lag returns how long ago the feed was last proven complete, and false if never.
func (f *feed) lag() (time.Duration, bool) {
	p := f.proven.Load()
	return time.Since(f.born) - time.Duration(p), p != 0
}

var errUnproven = errors.New("it has not been found to be the primary, and to have lost nothing, for too long")

// authoritative returns an error unless what Redis says now may be believed: if it
// is not known within the staleness bound that it is the primary and has lost
// nothing, or if it may be another one by now and cannot be checked. Without a
// feed nothing is known of its being the primary ever.
func (f *feed) authoritative(ctx context.Context) error {
	if isRestoring(ctx) {
		return nil
	}
	c := f.checked.Load()
	if c != 0 && time.Since(f.born)-time.Duration(c) > f.staleness {
		return unavailable("asking Redis", errUnproven)
	}
	if f.verified.Load() == f.a.store.db.Dialed() {
		return nil
	}
	return f.check(ctx)
}

// sight is which Redis something was read from.
type sight struct {
	dialed   uint64
	replaced int64
}

// look returns which Redis is asked from now on.
func (f *feed) look() sight { return sight{f.a.store.db.Dialed(), f.replaced.Load()} }

// stands reports whether what was read since look, for which somebody is to be
// turned away, may be said: it came from what is still the primary, now or later,
// and no other server has taken over, to which this gateway may have just written
// what it lacked. If not, it has to be read again.
func (f *feed) stands(ctx context.Context, s sight) (bool, error) {
	if f.look() != s {
		return false, nil
	}
	f.mu.Lock()
	known := f.highest
	f.mu.Unlock()
	if err := f.check(ctx); err != nil {
		return false, err
	}
	if isRestoring(ctx) {
		return f.look() == s, nil
	}
	number, err := f.a.store.rdb.Get(ctx, keyFeed).Uint64()
	if err = notNil(err); err != nil {
		return false, unavailable("reading the number of the last change", err)
	}
	if number < known {
		f.noteReplaced() // emptied or set back: the next heartbeat finds it out and writes again
		return false, nil
	}
	return f.look() == s, nil
}

// reading runs a read whose answer is to be believed: again, if a connection
// was opened meanwhile, which may have led to another server.
func (f *feed) reading(ctx context.Context, read func() error) error {
	return f.finding(ctx, func() (bool, error) { return true, read() })
}

// finding is reading for a read whose answer may be that something is not there,
// for which somebody is turned away. That is said only by a server that was still
// the primary after the read.
func (f *feed) finding(ctx context.Context, read func() (found bool, err error)) error {
	for range maxLooks {
		if err := f.authoritative(ctx); err != nil {
			return err
		}
		seen := f.look()
		found, err := read()
		if err != nil {
			return err
		}
		stands := f.a.store.db.Dialed() == seen.dialed
		if !found {
			if stands, err = f.stands(ctx, seen); err != nil {
				return err
			}
		}
		if stands {
			return nil
		}
	}
	return unavailable("asking Redis", errUnsteady)
}

// maxLooks is how often something is read again because the server may be another
// one.
const maxLooks = 10

var errUnsteady = errors.New("it may be another server than a moment ago")

// restoring marks the context of what writes again what Redis has lost. A check
// waits for that, so it must not wait for a check; nor for replicas: after a
// failover there may be none, and whoever was told that some have it is not told
// again.
type restoring struct{}

func isRestoring(ctx context.Context) bool { return ctx.Value(restoring{}) != nil }

// check makes sure that what is asked is the primary, now or later, and that it
// has what it acknowledged.
func (f *feed) check(ctx context.Context) error {
	if isRestoring(ctx) {
		return nil
	}
	called := time.Since(f.born)
	ctx, cancel := context.WithTimeout(ctx, max(f.staleness, f.a.store.db.Timeout()))
	defer cancel()
	select {
	case f.checking <- struct{}{}:
		defer func() { <-f.checking }()
	case <-ctx.Done():
		return unavailable("waiting until Redis has what it lost", ctx.Err())
	}
	if f.began > called {
		return nil // one that began while this one waited
	}
	began := time.Since(f.born)
	dialed := f.a.store.db.Dialed()
	if err := f.checkServers(ctx); err != nil {
		return err
	}
	f.verified.Store(dialed)
	f.began = began
	f.a.mints.forget(began - mintMemory)
	return nil
}

// confirm makes sure of what was just written, before anybody is told that it was:
// where Sentinels may replace the primary, that it was not written to one that they
// had replaced. If there is a new one, that has been written again all of which
// this gateway had taken note by then.
func (f *feed) confirm(ctx context.Context) error {
	if !f.a.store.db.Watched() {
		return nil
	}
	return f.check(ctx)
}

// unproven is for how long Redis was not found to be the primary and to have lost
// nothing; for ever since this gateway began if it never was.
func (f *feed) unproven() time.Duration { return time.Since(f.born) - time.Duration(f.checked.Load()) }

// replacedLately reports whether Redis was found to be another one, or to have
// lost something, so lately that a write may have begun before and ended after.
func (f *feed) replacedLately() bool {
	r := f.replaced.Load()
	return r != 0 && time.Since(f.born)-time.Duration(r) < f.staleness+publishPatience
}

var errSettling = errors.New("it is not there, and what Redis may have lost is not written again yet")

// settling reports whether Redis was found to be another one, or to have lost
// something, so lately that other gateways may not have written again yet what
// they remember: a record that is not there may come back.
func (f *feed) settling() bool {
	r := f.replaced.Load()
	return r != 0 && time.Since(f.born)-time.Duration(r) < f.staleness
}

// decided runs what may end in turning somebody away, again until that stands.
// ErrUnavailable turns nobody away.
func (f *feed) decided(ctx context.Context, doing string, decide func() error) error {
	for range maxLooks {
		seen := f.look()
		err := decide()
		if err == nil || errors.Is(err, ErrUnavailable) {
			return err
		}
		stands, problem := f.stands(ctx, seen)
		if problem != nil {
			return problem
		}
		if stands {
			return f.absent(ctx, doing, err)
		}
	}
	return unavailable(doing, errUnsteady)
}

// absent returns err, which says that something is not there, or ErrUnavailable
// while it may come back.
func (f *feed) absent(ctx context.Context, doing string, err error) error {
	if f.settling() && !isRestoring(ctx) {
		return unavailable(doing, errSettling)
	}
	return err
}

func (f *feed) interval() time.Duration { return f.staleness / 5 }

// beat sends heartbeats.
func (f *feed) beat(ctx context.Context) {
	tick := time.NewTicker(f.interval())
	defer tick.Stop()
	for {
		f.ask(ctx)
		f.report()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask sends one heartbeat: when it began and was sent, and the highest number
// that Redis must know by then. Before, it makes sure that it is the primary that
// proves something, tells what could not be told earlier, and makes sure that the
// servers have what they acknowledged.
func (f *feed) ask(ctx context.Context) {
	f.asking.Lock()
	defer f.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, max(f.staleness, f.a.store.db.Timeout()))
	defer cancel()
	began, wall := time.Since(f.born), time.Now()
	// A failure needs no handling: nothing is proven, and the next heartbeat
	// tries again.
	err := f.check(ctx)
	if err != nil {
		f.beatFailed.Store(&err)
		return
	}
	if f.settling() {
		err = f.a.replayJournal(context.WithValue(ctx, restoring{}, true))
	}
	if err == nil {
		err = f.publishKept(ctx)
	}
	if err == nil {
		f.mu.Lock()
		highest := f.highest
		f.mu.Unlock()
		mark := fmt.Sprintf("%d/%d/%d/%d", int64(began), int64(time.Since(f.born)), highest, wall.UnixNano())
		err = heartbeatScript.Run(ctx, f.a.store.rdb, []string{keyFeed}, channelNode+f.node, mark).Err()
	}
	if err == nil || isFull(err) {
		f.checked.Store(int64(began))
	}
	if err != nil {
		f.beatFailed.Store(&err)
		return
	}
	f.beatFailed.Store(nil)
	_ = f.a.noteKeys(ctx, &f.keys) // the next heartbeat tries again
}

// isFull reports whether a primary refuses writes because it has no room for
// them, or could not save. What it answers to reads is still true.
func isFull(err error) bool {
	return redis.IsOOMError(err) || redis.HasErrorPrefix(err, "MISCONF")
}

func (f *feed) report() {
	if ok := f.fresh(); f.wasOK.Swap(ok) != ok {
		f.a.observer.FeedState(ok)
	}
}

// listen subscribes, again and again, until ctx ends.
func (f *feed) listen(ctx context.Context) {
	for ctx.Err() == nil {
		f.session(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(min(f.interval(), 200*time.Millisecond)):
		}
	}
}

// session listens on one subscription until it fails or stays silent for longer
// than the staleness bound.
func (f *feed) session(ctx context.Context) {
	ps := f.a.store.db.Subscribe(ctx, channelFeed, channelNode+f.node)
	// Receiving does not watch the context.
	unhook := context.AfterFunc(ctx, func() { _ = ps.Close() })
	var asked sync.WaitGroup
	defer func() {
		unhook()
		_ = ps.Close()
		// What was proven stays so until the bound: what changes from now on is not
		// heard of, and forgotten with everything else on the next subscription.
		f.report()
		asked.Wait()
	}()
	for ctx.Err() == nil {
		m, err := ps.ReceiveTimeout(ctx, f.staleness)
		if err != nil {
			f.listenFailed.Store(&err)
			return // broken, or not a word in all this time: start over
		}
		switch m := m.(type) {
		case *redis.Subscription:
			// Also after go-redis has reconnected by itself: what was said in
			// between is not known.
			f.proven.Store(0)
			f.mu.Lock()
			f.synced, f.heardTo = false, 0
			f.mu.Unlock()
			f.a.cache.dropAll()
			if m.Channel != channelFeed { // the second of the two
				// Ask for the proof now instead of at the next tick.
				asked.Go(func() { f.ask(ctx) })
			}
		case *redis.Message:
			f.receive(ctx, m.Payload)
		}
	}
}

func (f *feed) receive(ctx context.Context, payload string) {
	m, err := parseMessage(payload)
	if err != nil {
		f.a.cache.dropAll() // somebody speaks another version: trust nothing remembered
		return
	}
	seq, c := m.number, m.change
	if c.kind == "h" {
		f.heard(ctx, seq, c.id)
		return
	}
	if c.kind == changedEverything && c.id == lostChanges {
		// Other gateways still write again what Redis has lost.
		f.noteReplaced()
	}
	f.mu.Lock()
	f.recent.add(seq, c)
	f.edits.heard(c, m.document)
	f.highest = max(f.highest, seq)
	skipped := f.synced && seq > f.heardTo+1
	f.heardTo = max(f.heardTo, seq)
	f.mu.Unlock()
	if skipped {
		f.a.cache.dropAll()
	}
	f.apply(c)
}

// heard handles a heartbeat of our own that came back. seq is the number it
// found in Redis.
func (f *feed) heard(ctx context.Context, seq uint64, mark string) {
	var began, sent, wall int64
	var must uint64
	if n, err := fmt.Sscanf(mark, "%d/%d/%d/%d", &began, &sent, &must, &wall); n != 4 || err != nil || began <= 0 {
		return
	}
	// What Redis has to know is what was known when the heartbeat was sent, not
	// what is known now: they cross on the way.
	if seq < must && !f.writeAgain(ctx, seq, must) {
		return // not proven: the next heartbeat tries again
	}
	f.mu.Lock()
	skipped := f.synced && seq > f.heardTo
	f.heardTo = max(f.heardTo, seq)
	f.highest = max(f.highest, seq)
	f.synced = true
	f.mu.Unlock()
	if skipped {
		f.a.cache.dropAll()
	}
	f.provenWall.Store(wall)
	f.proven.Store(began)
	f.listenFailed.Store(nil)
	f.a.observer.FeedLag(time.Since(f.born) - time.Duration(sent))
	f.report()
}

// tell publishes the change, and remembers it under its number.
func (f *feed) tell(ctx context.Context, c change) error {
	text := c.String()
	f.mu.Lock()
	if document := f.edits.of(c); document != "" {
		text += " " + base64.RawStdEncoding.EncodeToString([]byte(document))
	}
	f.mu.Unlock()
	seq, err := publishScript.Run(ctx, f.a.store.rdb, []string{keyFeed}, channelFeed, text).Int64()
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the callers
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recent.add(uint64(seq), c)
	f.edits.heard(c, "")
	f.highest = max(f.highest, uint64(seq))
	return nil
}

// keep holds a change that could not be published until it can.
func (f *feed) keep(c change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case slices.Contains(f.kept, c):
	case len(f.kept) < maxKept:
		f.kept = append(f.kept, c)
	default:
		f.kept = []change{{changedEverything, "-", "-"}}
	}
}

// publishKept publishes the changes that are held.
func (f *feed) publishKept(ctx context.Context) error {
	for {
		f.mu.Lock()
		if len(f.kept) == 0 {
			f.mu.Unlock()
			return nil
		}
		c := f.kept[0]
		f.mu.Unlock()
		if err := f.tell(ctx, c); err != nil {
			return err
		}
		f.mu.Lock()
		f.kept = slices.DeleteFunc(f.kept, func(k change) bool { return k == c })
		f.mu.Unlock()
	}
}

// apply forgets what the change names.
func (f *feed) apply(c change) {
	k := f.a.cache
	switch c.kind {
	case changedApplication, revokedApplication:
		k.dropApplication(c.id)
	case changedAlias:
		k.dropAlias(c.id)
	case changedUser, revokedUser:
		k.dropUser(c.id)
	case revokedGrant:
		user, _, _ := strings.Cut(c.id, "/")
		k.dropUser(user)
	case revokedToken:
		k.dropToken(c.id)
	case revokedInstallation, revokedBefore, withdrawnKey:
		k.dropInstallation()
	case revokedFamily: // families are not remembered
	default:
		k.dropAll()
	}
}
