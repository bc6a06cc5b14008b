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

// heartbeatMark follows the number in a heartbeat.
const heartbeatMark = "h "

// heartbeatScript publishes the current number to the sender alone.
var heartbeatScript = redisdb.NewScript(`
local seq = redis.call('INCRBY', KEYS[1], 0)
redis.call(ARGV[1], ARGV[2], string.format('%.0f', seq) .. ' ` + heartbeatMark + `' .. ARGV[3])
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

// sendHeartbeat checks that Redis is the primary and has what it acknowledged, publishes
// queued changes, and sends a heartbeat. It carries when it was begun and sent, and the
// number that the counter of Redis must have reached.
func (f *Feed) sendHeartbeat(ctx context.Context) {
	f.beating.Lock()
	defer f.beating.Unlock()
	ctx, cancel := context.WithTimeout(ctx, max(f.staleness, f.db.Timeout()))
	defer cancel()
	began, wall := f.elapsed(), time.Now()
	// After a failure nothing is proven, and the next heartbeat tries again.
	err := f.Check(ctx)
	if err != nil {
		f.beatFailed.Store(&err)
		return
	}
	if f.Settling() {
		// A rotation made here may build on a token from another gateway, so it can only be
		// replayed once that gateway has restored the token.
		err = f.replay(context.WithValue(ctx, restoring{}, true), false, journal.Families, journal.IdempotencyKeys)
	}
	if err == nil {
		err = f.publishPending(ctx)
	}
	if err == nil {
		mark := fmt.Sprintf("%d/%d/%d/%d", began, f.elapsed(), f.Changes(), wall.UnixNano())
		err = heartbeatScript.Run(ctx, f.db.Client(), []string{redisdb.KeyFeed}, f.db.PublishCommand(), redisdb.ChannelNode+f.node, mark).Err()
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

// isFull reports whether a primary refuses writes because it is full or could not save.
// Its answers to reads are still true.
func isFull(err error) bool {
	return redis.IsOOMError(err) || redis.HasErrorPrefix(err, "MISCONF")
}

func (f *Feed) report() {
	if ok := f.Fresh(); f.wasFresh.Swap(ok) != ok {
		f.observer.FeedState(ok)
	}
}

// listen keeps a subscription until ctx ends. One that ends is made again at once; while
// that fails, it is tried less and less often.
func (f *Feed) listen(ctx context.Context) {
	const soon, late = 5 * time.Millisecond, 200 * time.Millisecond
	pause := soon
	for ctx.Err() == nil {
		began := time.Now()
		f.session(ctx)
		if time.Since(began) > late {
			pause = soon
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, late, f.Interval())
	}
}

// session listens on one subscription until it fails, loses its slot, or is silent for the
// staleness bound.
func (f *Feed) session(ctx context.Context) {
	ps := f.db.Subscribe(ctx, redisdb.ChannelFeed, redisdb.ChannelNode+f.node)
	named := f.db.FeedServer(ctx)
	// Receiving does not watch the context.
	unhook := context.AfterFunc(ctx, func() { _ = ps.Close() })
	var asked sync.WaitGroup
	defer func() {
		unhook()
		_ = ps.Close()
		// Memory stays believable until the bound. The next subscription drops it all, since
		// changes in between are not heard.
		f.report()
		asked.Wait()
	}()
	for ctx.Err() == nil {
		m, err := ps.ReceiveTimeout(ctx, f.staleness)
		if err != nil {
			f.listenFailed.Store(new(named(err)))
			return // broken or silent: start over
		}
		switch m := m.(type) {
		case *redis.Subscription:
			if redisdb.SlotLost(m) {
				return // start over at the server that has it now
			}
			// go-redis also subscribes again after it has reconnected by itself. Messages in
			// between were lost.
			f.proven.Store(0)
			f.mu.Lock()
			f.synced, f.heardTo = false, 0
			f.mu.Unlock()
			f.domain.ForgetAll()
			if m.Channel != redisdb.ChannelFeed { // confirmed together with the others
				// Prove it now rather than at the next tick.
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
		f.domain.ForgetAll() // from another version: believe nothing in memory
		return
	}
	if mark, ok := strings.CutPrefix(text, heartbeatMark); ok {
		f.heard(ctx, number, mark)
		return
	}
	m, err := parseMessage(text)
	if err != nil {
		m = message{All: true} // from another version, whose gateways can replay it
	}
	if m.Lost {
		f.noteReplaced() // other gateways are still replaying
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

// heard handles a heartbeat of this gateway that came back with the number it found in
// Redis.
func (f *Feed) heard(ctx context.Context, number uint64, mark string) {
	var began, sent, wall int64
	var must uint64
	if n, err := fmt.Sscanf(mark, "%d/%d/%d/%d", &began, &sent, &must, &wall); n != 4 || err != nil || began <= 0 {
		return
	}
	// The counter must have reached the number known when the heartbeat was sent. Changes
	// since then may not have been counted yet.
	if number < must && !f.restore(ctx, number, must) {
		return // not proven: the next heartbeat tries again
	}
	f.lacking.Store(0)
	f.mu.Lock()
	// Before its first heartbeat a subscription may miss changes unnoticed: a replica in a
	// Cluster hears nothing until its primary knows it.
	missed := !f.synced || number > f.heardTo
	f.heardTo = max(f.heardTo, number)
	f.highest = max(f.highest, number)
	f.synced = true
	f.mu.Unlock()
	if missed {
		f.domain.ForgetAll()
	}
	f.provenWall.Store(wall)
	f.proven.Store(began)
	f.listenFailed.Store(nil)
	f.observer.FeedLag(f.since(sent))
	f.report()
}
