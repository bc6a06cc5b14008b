// SPDX-License-Identifier: MIT

package feed

import (
	"context"
	"slices"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// replay writes the journal to Redis. emptied means that the server is the same as before
// but has lost data. The context must be a restoring one.
func (f *Feed) replay(ctx context.Context, emptied bool, of ...journal.Rank) error {
	entries := f.journal.All(of...)
	for len(entries) > 0 {
		// Rank by rank: entries of one rank are repaired before the next rank is written.
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

// restore replays the journal to a server whose counter fell back to number. It reports
// whether the server has everything again.
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
	// Other gateways see a counter that looks right. Without this message they would go on
	// answering from memory.
	if err := f.tell(ctx, message{All: true, Lost: true}); err != nil {
		return false
	}
	f.mu.Lock()
	f.heardTo = max(f.heardTo, known)
	f.mu.Unlock()
	f.domain.ForgetAll() // changes published meanwhile reused old numbers
	f.observer.StoreRolledBack(int64(known-number), complete)
	return true
}

// othersMayRestore reports whether to wait for other gateways, which may have heard
// changes that this one missed: a subscription made after a failover misses earlier
// messages. A gateway that has restored everything raises the counter. This one waits for
// the staleness bound and does not believe Redis until its next heartbeat comes back.
func (f *Feed) othersMayRestore() bool {
	f.lacking.CompareAndSwap(0, max(f.elapsed(), 1))
	return f.since(f.lacking.Load()) < f.staleness
}

// raiseScript lifts the counter to at least the given number.
var raiseScript = redisdb.NewScript(`
local seq = tonumber(redis.call('GET', KEYS[1]) or '0')
if seq < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return 1`)
