// SPDX-License-Identifier: MIT

package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// ErrUntold means that a change was written and not yet published.
var ErrUntold = errors.New("the other gateways are not told yet")

// repeatPatience bounds one attempt at writing everything again.
const repeatPatience = 30 * time.Second

// Commit is one change of what other gateways may remember.
type Commit struct {
	// Doing says in errors what is done.
	Doing string
	// Script changes what is at Key.
	Script *redisdb.Script
	Key    string
	Args   []any
	// Redo writes the change again where it was lost. It is set for a change that is
	// known before it is made, and so can be made again elsewhere.
	Redo []journal.Entry
	// Outcome reads the script's reply and returns what more writes the change again. It
	// is set for a change that is known only afterwards, such as one that counts up. An
	// error means that nothing was changed, and is returned.
	Outcome func(*redisdb.Reply) ([]journal.Entry, error)
}

// Commit writes a change, and waits for the replicas asked for; makes sure that the
// server was not replaced meanwhile; forgets here what the change concerns; and
// publishes it.
//
// ErrUnavailable means that it may or may not have been made; in case it was, all
// gateways forget what it concerns. With ErrUntold in addition it was made, and is
// published later.
func (f *Feed) Commit(ctx context.Context, c Commit) error {
	seen := f.Snapshot()
	m := message{Forget: []string{c.Key}, Redo: c.Redo}
	reply, err := f.Write(ctx, c.Script, c.Key, c.Args...)
	if err != nil {
		return f.uncertain(m, c.Doing, err)
	}
	if c.Outcome != nil {
		more, err := c.Outcome(reply)
		if err != nil {
			return err
		}
		m.Redo = append(slices.Clip(m.Redo), more...)
	}
	// A change made on a deposed primary is lost. Unless it can be made again there, it
	// is reported as failed: the caller tries again, and what was counted up elsewhere
	// does not go over that.
	if c.Redo == nil && !isRestoring(ctx) {
		confirming, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishPatience)
		err := f.confirm(confirming)
		cancel()
		if err == nil && f.Replaced(seen) {
			err = errUnsteady
		}
		if err != nil {
			return f.uncertain(message{Forget: m.Forget}, c.Doing, err)
		}
	}
	return f.publish(ctx, m)
}

// Write runs a script that changes one key, and waits for the replicas asked for, but
// not for what is written again. Nobody is told: a change that other gateways may
// remember is a Commit.
func (f *Feed) Write(ctx context.Context, script *redisdb.Script, key string, args ...any) (*redisdb.Reply, error) {
	if isRestoring(ctx) {
		return f.db.Run(ctx, script, key, args...)
	}
	reply, err := f.db.Write(ctx, script, key, args...)
	if redisdb.IsReadOnly(err) {
		f.verified.Store(unverified) // a replica: what it says is checked from now on
	}
	return reply, err
}

// Forget makes every gateway drop what it remembers of a key, and with entries
// remember those: for a change that may have been made and not published. If that
// fails now, it is done later.
func (f *Feed) Forget(ctx context.Context, key string, redo ...journal.Entry) error {
	return f.publish(ctx, message{Forget: []string{key}, Redo: redo})
}

// Keep remembers what only this gateway has to write again, and was just written. If
// the server may have been replaced meanwhile, it is written once more.
func (f *Feed) Keep(ctx context.Context, doing string, entries ...journal.Entry) error {
	f.journal.Add(entries...)
	if err := f.confirm(ctx); err != nil {
		return err
	}
	if !f.replacedLately() {
		return nil
	}
	for _, e := range entries {
		if _, err := e.Write(ctx, f.db, f.now()); err != nil {
			return failure.Unavailable(doing, err)
		}
	}
	return nil
}

// Journal is what this gateway remembers.
func (f *Feed) Journal() *journal.Journal { return f.journal }

// message is what the feed carries behind the number of a change.
type message struct {
	// Forget are the keys that changed.
	Forget []string `json:"f,omitempty"`
	// Redo writes the change again.
	Redo []journal.Entry `json:"r,omitempty"`
	// All says that more changed than can be named.
	All bool `json:"all,omitempty"`
	// Lost says that Redis has lost changes, and that gateways write again.
	Lost bool `json:"lost,omitempty"`
}

func parseMessage(text string) (message, error) {
	var m message
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return m, fmt.Errorf("message of the feed: %w", err)
	}
	m.Redo = slices.DeleteFunc(m.Redo, func(e journal.Entry) bool { return e.Script == nil })
	return m, nil
}

// publishScript counts the change and tells everybody.
var publishScript = redisdb.NewScript(`
local seq = redis.call('INCR', KEYS[1])
redis.call('PUBLISH', ARGV[1], string.format('%.0f', seq) .. ' ' .. ARGV[2])
return seq`)

// publish applies an acknowledged change here and tells the other gateways. If they
// cannot be told now, that is ErrUntold, and they will be as soon as possible.
func (f *Feed) publish(ctx context.Context, m message) error {
	m.nameEntries()
	f.journal.Add(m.Redo...)
	f.apply(m)
	// What was changed has to be told even if the caller has gone away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishPatience)
	defer cancel()
	if err := f.tell(ctx, m); err != nil {
		f.queue(m)
		return failure.Unavailable("publishing a change", fmt.Errorf("%w: %w", ErrUntold, err))
	}
	if err := f.confirm(ctx); err != nil {
		return err
	}
	if isRestoring(ctx) || !f.replacedLately() {
		return nil
	}
	// The write may have gone to the server that is no more, and what was written again
	// to its successor did not have this change yet.
	for _, e := range m.Redo {
		lost, err := e.Write(ctx, f.db, f.now())
		if err == nil && lost {
			err = f.restored(ctx, e)
		}
		if err != nil {
			return failure.Unavailable("writing a lost change again", err)
		}
	}
	return nil
}

// restored tells of an entry that was lost and is there again.
func (f *Feed) restored(ctx context.Context, e journal.Entry) error {
	if e.Rank == journal.Edits || e.Rank == journal.Users {
		if err := f.domain.Restored(ctx, e); err != nil {
			return err
		}
	}
	if !e.Rank.Told() {
		return nil
	}
	m := message{Forget: []string{e.Key}, Redo: []journal.Entry{e}}
	f.apply(m)
	if err := f.tell(ctx, m); err != nil {
		f.queue(m)
		return failure.Unavailable("publishing a change", err)
	}
	return nil
}

// uncertain handles a change of which is not known whether Redis has made it. The
// caller is told that it failed; should it have been made all the same, everybody
// learns it.
func (f *Feed) uncertain(m message, doing string, err error) error {
	m.nameEntries()
	f.apply(m)
	f.queue(m)
	return failure.Unavailable(doing, err)
}

// nameEntries gives a name to entries without one, so that each is remembered once
// however often it is heard of.
func (m *message) nameEntries() {
	m.Redo = slices.Clone(m.Redo)
	for i := range m.Redo {
		if e := &m.Redo[i]; e.Name == "" {
			e.Name = e.Key + " " + e.Script.Hash()[:8] + " " + fmt.Sprint(e.Args...)
		}
	}
}

// apply forgets what a message names.
func (f *Feed) apply(m message) {
	if m.All {
		f.domain.ForgetAll()
		return
	}
	for _, key := range m.Forget {
		f.domain.Forget(key)
	}
}

// tell publishes a message, and remembers it under its number.
func (f *Feed) tell(ctx context.Context, m message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding a change: %w", err)
	}
	seq, err := publishScript.Run(ctx, f.db.Client(), []string{redisdb.KeyFeed}, redisdb.ChannelFeed, text).Int64()
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the callers
	}
	f.journal.Heard(uint64(seq))
	f.journal.Add(m.Redo...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.highest = max(f.highest, uint64(seq))
	return nil
}

// queue holds a message that could not be published until it can.
func (f *Feed) queue(m message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case slices.ContainsFunc(f.pending, m.same):
	case len(f.pending) < maxPending:
		f.pending = append(f.pending, m)
	default:
		f.pending = []message{{All: true}}
	}
}

func (m message) same(o message) bool { return reflect.DeepEqual(m, o) }

// publishPending publishes the messages that are held.
func (f *Feed) publishPending(ctx context.Context) error {
	for {
		f.mu.Lock()
		if len(f.pending) == 0 {
			f.mu.Unlock()
			return nil
		}
		m := f.pending[0]
		f.mu.Unlock()
		if err := f.tell(ctx, m); err != nil {
			return err
		}
		f.mu.Lock()
		f.pending = slices.DeleteFunc(f.pending, m.same)
		f.mu.Unlock()
	}
}

// replay writes again what is remembered. emptied says that the server is the one that
// there was. The context is a restoring one.
func (f *Feed) replay(ctx context.Context, emptied bool, of ...journal.Rank) error {
	entries := f.journal.All(of...)
	for len(entries) > 0 {
		// By rank, since what is restored of one is mended before the next.
		n := slices.IndexFunc(entries, func(e journal.Entry) bool { return e.Rank != entries[0].Rank })
		if n < 0 {
			n = len(entries)
		}
		lost, err := journal.Replay(ctx, f.db, entries[:n], f.now(), emptied)
		if err != nil {
			return failure.Unavailable("writing again what was lost", err)
		}
		for _, e := range lost {
			if err := f.restored(ctx, e); err != nil {
				return err
			}
		}
		entries = entries[n:]
	}
	return nil
}

// restore writes again what a server has lost that knows no number above number. It
// reports whether that was acknowledged.
func (f *Feed) restore(ctx context.Context, number, known uint64) bool {
	complete := f.journal.Complete(number, known)
	f.domain.ForgetAll()
	f.noteReplaced()
	defer f.noteReplaced()
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, restoring{}, true), repeatPatience)
	defer cancel()
	if err := f.replay(ctx, true); err != nil {
		return false
	}
	if !complete && f.othersMayRestore() {
		return false
	}
	if !complete {
		if err := f.domain.RevokeAll(ctx); err != nil {
			return false
		}
	}
	if err := raiseScript.Run(ctx, f.db.Client(), []string{redisdb.KeyFeed}, known).Err(); err != nil {
		return false
	}
	// The other gateways find the number as they know it and would go on with what they
	// remember.
	if err := f.tell(ctx, message{All: true, Lost: true}); err != nil {
		return false
	}
	f.mu.Lock()
	f.heardTo = max(f.heardTo, known)
	f.mu.Unlock()
	f.domain.ForgetAll() // what was said meanwhile had numbers that were used before
	f.observer.StoreRolledBack(int64(known-number), complete)
	return true
}

// othersMayRestore reports whether to wait for gateways that heard of the changes that
// this one missed: a subscription made after a failover misses what was published before
// it. A gateway that has written everything again raises the counter. This one waits for
// the staleness bound, and until its next heartbeat comes back it does not believe Redis.
func (f *Feed) othersMayRestore() bool {
	f.lacking.CompareAndSwap(0, max(f.elapsed(), 1))
	return f.since(f.lacking.Load()) < f.staleness
}

// raiseScript lifts the counter to at least the given number.
var raiseScript = redisdb.NewScript(`
local seq = tonumber(redis.call('GET', KEYS[1]) or '0')
if seq < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return 1`)
