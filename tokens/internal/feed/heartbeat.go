// SPDX-License-Identifier: MIT

package feed

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// heartbeatMark begins the text of a heartbeat, behind the number.
const heartbeatMark = "h "

// heartbeatScript tells the sender alone, and counts nothing.
var heartbeatScript = redisdb.NewScript(`
local seq = redis.call('INCRBY', KEYS[1], 0)
redis.call('PUBLISH', ARGV[1], string.format('%.0f', seq) .. ' ` + heartbeatMark + `' .. ARGV[2])
return seq`)

// beat sends heartbeats.
func (f *Feed) beat(ctx context.Context) {
	tick := time.NewTicker(f.Interval())
	defer tick.Stop()
	for {
		f.sendHeartbeat(ctx)
		f.report()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sendHeartbeat sends when it began and was sent, and the highest number that Redis
// must know by then. Before, it makes sure that it is the primary that proves
// something and that it has what it acknowledged, and publishes what is pending.
func (f *Feed) sendHeartbeat(ctx context.Context) {
	f.beating.Lock()
	defer f.beating.Unlock()
	ctx, cancel := context.WithTimeout(ctx, max(f.staleness, f.db.Timeout()))
	defer cancel()
	began, wall := f.elapsed(), time.Now()
	// A failure needs no handling: nothing is proven, and the next heartbeat tries again.
	err := f.Check(ctx)
	if err != nil {
		f.beatFailed.Store(&err)
		return
	}
	if f.Settling() {
		// A token that was exchanged here may have been given by another gateway, and be
		// lost until that has recorded it again.
		err = f.replay(context.WithValue(ctx, restoring{}, true), false, journal.Families, journal.IdempotencyKeys)
	}
	if err == nil {
		err = f.publishPending(ctx)
	}
	if err == nil {
		mark := fmt.Sprintf("%d/%d/%d/%d", began, f.elapsed(), f.Changes(), wall.UnixNano())
		err = heartbeatScript.Run(ctx, f.db.Client(), []string{redisdb.KeyFeed}, redisdb.ChannelNode+f.node, mark).Err()
	}
	if err == nil || isFull(err) {
		f.checked.Store(began)
	}
	if err != nil {
		f.beatFailed.Store(&err)
		return
	}
	f.beatFailed.Store(nil)
}

// isFull reports whether a primary refuses writes because it has no room for them, or
// could not save. What it answers to reads is still true.
func isFull(err error) bool {
	return redis.IsOOMError(err) || redis.HasErrorPrefix(err, "MISCONF")
}

func (f *Feed) report() {
	if ok := f.Fresh(); f.wasFresh.Swap(ok) != ok {
		f.observer.FeedState(ok)
	}
}

// listen subscribes, again and again, until ctx ends.
func (f *Feed) listen(ctx context.Context) {
	for ctx.Err() == nil {
		f.session(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(min(f.Interval(), 200*time.Millisecond)):
		}
	}
}

// session listens on one subscription until it fails or stays silent for longer than
// the staleness bound.
func (f *Feed) session(ctx context.Context) {
	ps := f.db.Subscribe(ctx, redisdb.ChannelFeed, redisdb.ChannelNode+f.node)
	// Receiving does not watch the context.
	unhook := context.AfterFunc(ctx, func() { _ = ps.Close() })
	var asked sync.WaitGroup
	defer func() {
		unhook()
		_ = ps.Close()
		// What was proven stays so until the bound: what changes from now on is not heard
		// of, and forgotten with everything else on the next subscription.
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
			// Also after go-redis has reconnected by itself: what was said in between is not
			// known.
			f.proven.Store(0)
			f.mu.Lock()
			f.synced, f.heardTo = false, 0
			f.mu.Unlock()
			f.domain.ForgetAll()
			if m.Channel != redisdb.ChannelFeed { // the second of the two
				// Ask for the proof now instead of at the next tick.
				asked.Go(func() { f.sendHeartbeat(ctx) })
			}
		case *redis.Message:
			f.receive(ctx, m.Payload)
		}
	}
}

func (f *Feed) receive(ctx context.Context, payload string) {
	digits, text, _ := strings.Cut(payload, " ")
	number, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		f.domain.ForgetAll() // of another version: trust nothing remembered
		return
	}
	if mark, ok := strings.CutPrefix(text, heartbeatMark); ok {
		f.heard(ctx, number, mark)
		return
	}
	m, err := parseMessage(text)
	if err != nil {
		m = message{All: true} // of another version: those who made it know how to make it again
	}
	if m.Lost {
		f.noteReplaced() // other gateways still write again what Redis has lost
	}
	f.journal.Heard(number)
	f.journal.Add(m.Redo...)
	f.mu.Lock()
	f.highest = max(f.highest, number)
	skipped := f.synced && number > f.heardTo+1
	f.heardTo = max(f.heardTo, number)
	f.mu.Unlock()
	if skipped {
		f.domain.ForgetAll()
	}
	f.apply(m)
}

// heard handles a heartbeat of our own that came back. number is what it found in
// Redis.
func (f *Feed) heard(ctx context.Context, number uint64, mark string) {
	var began, sent, wall int64
	var must uint64
	if n, err := fmt.Sscanf(mark, "%d/%d/%d/%d", &began, &sent, &must, &wall); n != 4 || err != nil || began <= 0 {
		return
	}
	// What Redis has to know is what was known when the heartbeat was sent, not what is
	// known now: they cross on the way.
	if number < must && !f.restore(ctx, number, must) {
		return // not proven: the next heartbeat tries again
	}
	f.lacking.Store(0)
	f.mu.Lock()
	skipped := f.synced && number > f.heardTo
	f.heardTo = max(f.heardTo, number)
	f.highest = max(f.highest, number)
	f.synced = true
	f.mu.Unlock()
	if skipped {
		f.domain.ForgetAll()
	}
	f.provenWall.Store(wall)
	f.proven.Store(began)
	f.listenFailed.Store(nil)
	f.observer.FeedLag(f.since(sent))
	f.report()
}
