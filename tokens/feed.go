package tokens

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
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
// Three things end in forgetting everything: a new subscription, a number that
// was skipped, and a number that went back. The last means that Redis has lost
// changes (an old snapshot, a failover to a replica that lagged): what this
// gateway still remembers of them is written again, and if that is not all of
// it, everything issued so far is revoked.

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
	changedApplication  changeKind = "a" // id; value: version
	changedAlias        changeKind = "c" // alias
	revokedApplication  changeKind = "A" // id; value: generation
	revokedUser         changeKind = "U" // id; value: generation
	revokedGrant        changeKind = "G" // user id/application id; value: generation
	changedUser         changeKind = "u" // id
	revokedToken        changeKind = "t" // record key; value: hash of the token
	revokedInstallation changeKind = "I" // value: generation
	revokedBefore       changeKind = "B" // value: unix milliseconds
	withdrawnKey        changeKind = "K" // key id
)

func (c change) String() string { return string(c.kind) + " " + c.id + " " + c.value }

// parseMessage reads "<number> <kind> <id> <value>".
func parseMessage(s string) (seq uint64, c change, err error) {
	f := strings.Split(s, " ")
	if len(f) != 4 || f[1] == "" {
		return 0, c, errors.New("feed message without four fields")
	}
	seq, err = strconv.ParseUint(f[0], 10, 64)
	if err != nil {
		return 0, c, fmt.Errorf("feed message without a number: %w", err)
	}
	return seq, change{changeKind(f[1]), f[2], f[3]}, nil
}

// publishScript counts the change and tells everybody.
var publishScript = redis.NewScript(`
local seq = redis.call('INCR', KEYS[1])
redis.call('PUBLISH', ARGV[1], string.format('%.0f', seq) .. ' ' .. ARGV[2])
return seq`)

// heartbeatScript tells the sender alone, and counts nothing.
var heartbeatScript = redis.NewScript(`
local seq = redis.call('GET', KEYS[1]) or '0'
redis.call('PUBLISH', ARGV[1], seq .. ' h ' .. ARGV[2] .. ' -')
return seq`)

// raiseScript lifts the counter to at least the given number.
var raiseScript = redis.NewScript(`
local seq = tonumber(redis.call('GET', KEYS[1]) or '0')
if seq < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return 1`)

// publish applies the change here and tells the other gateways. The change
// must have been acknowledged by Redis before.
func (a *Authority) publish(ctx context.Context, c change) error {
	a.feed.apply(c)
	seq, err := publishScript.Run(ctx, a.store.rdb, []string{keyFeed}, channelFeed, c.String()).Int64()
	if err != nil {
		return unavailable("publishing a change", err)
	}
	a.feed.remember(uint64(seq), c)
	return nil
}

// history is how many changes a gateway could write again.
const history = 4096

type feed struct {
	a         *Authority
	node      string
	staleness time.Duration

	// proven is when the newest heartbeat that came back was sent, in
	// nanoseconds since born; 0 if none did on this subscription.
	proven atomic.Int64
	born   time.Time
	wasOK  atomic.Bool

	mu      sync.Mutex
	heardTo uint64            // highest number heard, on this subscription
	synced  bool              // whether heardTo has been set on this subscription
	highest uint64            // highest number heard or published, ever
	recent  map[uint64]change // the last changes by number

	cancel context.CancelFunc
	done   sync.WaitGroup
}

func newFeed(a *Authority, staleness time.Duration) *feed {
	return &feed{a: a, node: randomID(12), staleness: staleness, born: time.Now(), recent: map[uint64]change{}}
}

func (f *feed) start() {
	if f.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.done.Add(2)
	go func() { defer f.done.Done(); f.listen(ctx) }()
	go func() { defer f.done.Done(); f.beat(ctx) }()
}

func (f *feed) stop() {
	if f.cancel != nil {
		f.cancel()
	}
	f.done.Wait()
}

// fresh reports whether the caches may be trusted.
func (f *feed) fresh() bool {
	p := f.proven.Load()
	return p != 0 && time.Since(f.born)-time.Duration(p) < f.staleness
}

// lag returns how long ago the feed was last proven complete, and false if never.
func (f *feed) lag() (time.Duration, bool) {
	p := f.proven.Load()
	return time.Since(f.born) - time.Duration(p), p != 0
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

// ask sends one heartbeat: when it was sent, and the highest number that Redis
// must know by then.
func (f *feed) ask(ctx context.Context) {
	f.mu.Lock()
	highest := f.highest
	f.mu.Unlock()
	mark := fmt.Sprintf("%d/%d", int64(time.Since(f.born)), highest)
	ctx, cancel := context.WithTimeout(ctx, f.staleness)
	defer cancel()
	// A failure needs no handling: the heartbeat will be missed.
	_ = heartbeatScript.Run(ctx, f.a.store.rdb, []string{keyFeed}, channelNode+f.node, mark).Err()
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
	ps := f.a.store.rdb.Subscribe(ctx, channelFeed, channelNode+f.node)
	// Receiving does not watch the context.
	unhook := context.AfterFunc(ctx, func() { _ = ps.Close() })
	defer func() {
		unhook()
		_ = ps.Close()
		f.proven.Store(0)
		f.report()
	}()
	for ctx.Err() == nil {
		m, err := ps.ReceiveTimeout(ctx, f.staleness)
		if err != nil {
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
			// Ask for the proof now instead of at the next tick.
			f.a.background.Go(func() { f.ask(ctx) })
		case *redis.Message:
			f.receive(ctx, m.Payload)
		}
	}
}

func (f *feed) receive(ctx context.Context, payload string) {
	seq, c, err := parseMessage(payload)
	if err != nil {
		f.a.cache.dropAll() // somebody speaks another version: trust nothing remembered
		return
	}
	if c.kind == "h" {
		f.heard(ctx, seq, c.id)
		return
	}
	f.remember(seq, c)
	f.mu.Lock()
	skipped := f.synced && seq > f.heardTo+1
	f.heardTo = max(f.heardTo, seq)
	f.mu.Unlock()
	if skipped {
		f.a.cache.dropAll()
	}
	f.apply(c)
}

// remember keeps a change so that it can be written again.
func (f *feed) remember(seq uint64, c change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.highest = max(f.highest, seq)
	f.recent[seq] = c
	delete(f.recent, seq-history)
}

// heard handles a heartbeat of our own that came back. seq is the number it
// found in Redis.
func (f *feed) heard(ctx context.Context, seq uint64, mark string) {
	sentText, highestText, _ := strings.Cut(mark, "/")
	sent, err := strconv.ParseInt(sentText, 10, 64)
	if err != nil || sent <= 0 {
		return
	}
	// What Redis has to know is what was known when the heartbeat was sent, not
	// what is known now: they cross on the way.
	if must := parseUint(highestText); seq < must && !f.writeAgain(ctx, seq, must) {
		return // not proven: the next heartbeat tries again
	}
	f.mu.Lock()
	skipped := f.synced && seq > f.heardTo
	f.heardTo = max(f.heardTo, seq)
	f.synced = true
	f.mu.Unlock()
	if skipped {
		f.a.cache.dropAll()
	}
	f.proven.Store(sent)
	f.a.observer.FeedLag(time.Since(f.born) - time.Duration(sent))
	f.report()
}

// writeAgain restores what Redis lost between number and known. It reports
// whether that was acknowledged.
func (f *feed) writeAgain(ctx context.Context, number, known uint64) bool {
	f.mu.Lock()
	var lost []change
	complete := true
	for n := number + 1; n <= known; n++ {
		c, ok := f.recent[n]
		if !ok {
			complete = false
			break
		}
		lost = append(lost, c)
	}
	f.mu.Unlock()
	f.a.cache.dropAll()
	ctx, cancel := context.WithTimeout(ctx, f.staleness)
	defer cancel()
	if complete {
		for _, c := range lost {
			if err := f.a.repeat(ctx, c); err != nil {
				return false
			}
		}
	} else if err := f.a.revokeEverything(ctx); err != nil {
		return false
	}
	if err := raiseScript.Run(ctx, f.a.store.rdb, []string{keyFeed}, known).Err(); err != nil {
		return false
	}
	f.mu.Lock()
	f.heardTo = max(f.heardTo, known)
	f.mu.Unlock()
	f.a.observer.StoreWentBack(int64(known-number), complete)
	return true
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
		var sum [sha256.Size]byte
		if b, err := base64.RawURLEncoding.DecodeString(c.value); err == nil && len(b) == len(sum) {
			copy(sum[:], b)
			k.dropToken(sum)
		}
	case revokedInstallation, revokedBefore, withdrawnKey:
		k.dropInstallation()
	default:
		k.dropAll()
	}
}
