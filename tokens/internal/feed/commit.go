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

// ErrUnpublished means that a change was written but not yet published.
var ErrUnpublished = errors.New("the change is not published yet")

// repeatPatience bounds one attempt at writing everything again.
const repeatPatience = 30 * time.Second

// Commit is one change of something that other gateways may have in memory.
type Commit struct {
	// Doing names the operation in errors.
	Doing string
	// Script changes what is at Key.
	Script *redisdb.Script
	Key    string
	Args   []any
	// Redo repeats the change on a server that lost it. It is set for a change that is
	// known before it is made, and nil for one that counts up: Commit reports such a
	// change as failed if the primary was replaced meanwhile.
	Redo []journal.Entry
	// Outcome reads the script's reply and returns further entries for Redo: those that
	// depend on the reply, such as the number that was reached. An error means that
	// nothing was changed; Commit returns it.
	Outcome func(*redisdb.Reply) ([]journal.Entry, error)
}

// Commit writes a change and waits for the configured replicas, makes sure that the
// server was not replaced meanwhile, drops the changed key from memory, and publishes
// the change.
//
// ErrUnavailable means that the change may or may not have been made; all gateways drop
// the key in case it was. ErrUnavailable with ErrUnpublished means that it was made and is
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
	// A change made on a deposed primary is lost. If it cannot be repeated, it is reported
	// as failed: the caller retries on the new primary, and this gateway never replays
	// the lost value over the retry.
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

// Write runs a script that changes one key and waits for the configured replicas, except
// during a replay. It publishes nothing: use Commit for a change of something that other
// gateways may have in memory.
func (f *Feed) Write(ctx context.Context, script *redisdb.Script, key string, args ...any) (*redisdb.Reply, error) {
	if isRestoring(ctx) {
		reply := f.db.Eval(ctx, script, key, args...)
		return reply, redisdb.IgnoreNil(reply.Err())
	}
	reply, err := f.db.Write(ctx, script, key, args...)
	if redisdb.IsReadOnly(err) {
		f.verified.Store(unverified) // a replica: the next read checks it
	}
	return reply, err
}

// Forget makes every gateway drop a key from memory and remember the entries given. It is
// for a change that was written without Commit. If publishing fails, it is retried
// later.
func (f *Feed) Forget(ctx context.Context, key string, redo ...journal.Entry) error {
	return f.publish(ctx, message{Forget: []string{key}, Redo: redo})
}

// Keep adds entries to the journal that were just written and that only this gateway
// remembers. If the server may have been replaced meanwhile, it writes them once more.
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

// Journal is the journal of this gateway.
func (f *Feed) Journal() *journal.Journal { return f.journal }

// message follows the number of a change in the feed.
type message struct {
	// Forget are the keys that changed.
	Forget []string `json:"f,omitempty"`
	// Redo repeats the change.
	Redo []journal.Entry `json:"r,omitempty"`
	// All means that more changed than can be named.
	All bool `json:"all,omitempty"`
	// Lost means that Redis has lost changes, and that gateways must replay their journals.
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

// publishScript numbers the change and publishes it.
var publishScript = redisdb.NewScript(`
local seq = redis.call('INCR', KEYS[1])
redis.call(ARGV[1], ARGV[2], string.format('%.0f', seq) .. ' ' .. ARGV[3])
return seq`)

// publish applies an acknowledged change here and publishes it. If it cannot be published
// now, the error is ErrUnpublished, and it is published as soon as possible.
func (f *Feed) publish(ctx context.Context, m message) error {
	m.nameEntries()
	f.journal.Add(m.Redo...)
	f.apply(m)
	// The change was made, so it is published even if the caller has gone away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishPatience)
	defer cancel()
	if err := f.tell(ctx, m); err != nil {
		f.queue(m)
		return failure.Unavailable("publishing a change", fmt.Errorf("%w: %w", ErrUnpublished, err))
	}
	if err := f.confirm(ctx); err != nil {
		return err
	}
	if isRestoring(ctx) || !f.replacedLately() {
		return nil
	}
	// The write may have gone to the deposed primary, after the journal was replayed to its
	// successor.
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

// restored handles an entry that Redis had lost and has again.
func (f *Feed) restored(ctx context.Context, e journal.Entry) error {
	if e.Rank == journal.Edits || e.Rank == journal.Users {
		if err := f.domain.Restored(ctx, e); err != nil {
			return err
		}
	}
	if !e.Rank.Shared() {
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

// uncertain handles a change that Redis may or may not have made. The caller gets an
// error, and all gateways drop the key in case the change was made.
func (f *Feed) uncertain(m message, doing string, err error) error {
	m.nameEntries()
	f.apply(m)
	f.queue(m)
	return failure.Unavailable(doing, err)
}

// nameEntries names entries without a name, so that an entry heard twice is remembered
// once.
func (m *message) nameEntries() {
	m.Redo = slices.Clone(m.Redo)
	for i := range m.Redo {
		if e := &m.Redo[i]; e.Name == "" {
			e.Name = e.Key + " " + e.Script.Hash()[:8] + " " + fmt.Sprint(e.Args...)
		}
	}
}

// apply drops the keys of a message from memory.
func (f *Feed) apply(m message) {
	if m.All {
		f.domain.ForgetAll()
		return
	}
	for _, key := range m.Forget {
		f.domain.Forget(key)
	}
}

// tell publishes a message and records its number.
func (f *Feed) tell(ctx context.Context, m message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding a change: %w", err)
	}
	seq, err := publishScript.Run(ctx, f.db.Client(), []string{redisdb.KeyFeed}, f.db.PublishCommand(), redisdb.ChannelFeed, text).Int64()
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

// queue keeps a message to publish it later.
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

// publishPending publishes the queued messages.
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
