// SPDX-License-Identifier: MIT

package limit

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
)

// Shared is the count of all gateways.
type Shared interface {
	// Debit adds n granted requests, 0 or more, to the count of the key. It returns the
	// time until all of the rate is free again, which is more than the period if more
	// than the rate was granted. It adds no more than makes that MaxDebt periods.
	Debit(ctx context.Context, k Key, r Rate, n int) (reset time.Duration, err error)
}

// MaxDebt bounds the time until a count is free again, in periods. Within it, what was
// granted too much is granted less later.
const MaxDebt = 2

// Key is one thing that is counted.
type Key struct {
	Policy Policy
	// Subject is the application, the client id, or for FailedSource and Adopt the
	// network.
	Subject string
	// Detail is the user, or for Failed the network; "" if the policy has none.
	Detail string
}

// Options make a [Limiter]. All of them may be left out.
type Options struct {
	// Shared is the count of all gateways. Default: this gateway is alone.
	Shared Shared
	// Rates are the installation's. Those not set are the [Defaults].
	Rates *Rates
	// Nodes is how many gateways share the limits, at most. Default: 2. With
	// more than that the errors that [Limiter] states grow accordingly.
	Nodes int
	// Entries is how many counts of each policy are remembered. Default: 20000.
	// A count that is forgotten loses what it had not shared yet. Those that are free
	// again soonest are forgotten first.
	Entries int
	// Patience is how long a request waits for the shared count when it needs the
	// answer. Default: 50ms.
	Patience time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

const (
	// batches is the number of batches that all gateways together cut a limit into.
	batches = 10

	// DefaultNodes is the default of [Options.Nodes].
	DefaultNodes    = 2
	defaultEntries  = 20_000
	defaultPatience = 50 * time.Millisecond
	// reportTimeout bounds one report to the shared count.
	reportTimeout = time.Second
	// pause is the time without reports after one has failed.
	pause = time.Second
	// maxReports bounds the reports under way at a time.
	maxReports = 64
	// maxWaits bounds the reports that one request waits for: twice the batches of a
	// limit.
	maxWaits = 2 * batches
	// maxSubject bounds the length of a name that an unknown caller chooses.
	maxSubject = 128
)

// Limiter decides whether a request may go on. It is safe for concurrent use.
//
// A gateway counts for itself what it grants, and reports it to the shared count once a
// batch is full, without letting the request wait. A batch is a tenth of the limit
// divided by the number of gateways, at least one. While one full batch is being
// reported and the next one is full as well, requests wait for the answer, for
// [Options.Patience] at most. So:
//
//   - One gateway alone never grants more than the limit.
//   - Together they grant at most two batches per gateway more than one exact
//     count would: 20 % of the limit, or two per gateway where the limit is
//     below ten per gateway, and the requests that are being decided at the time. It is
//     granted less later. And at most a batch less,
//     since what a batch holds is counted as if it came at its end.
//   - What a gateway granted and never reported is forgotten when nothing was asked
//     for a whole period: at most a batch per gateway and period.
//   - While the shared count does not answer, each gateway grants its share: the
//     limit divided by the number of gateways, at least one. None lets everything
//     through, and none blocks.
//
// A refused request is not counted.
type Limiter struct {
	o     Options
	rates *Rates
	born  time.Time
	// buckets are found by the hash of what they count, because that can be longer than the
	// bucket. The hashes have 64 bits and a random seed; things with the same hash would share
	// one count.
	buckets [policies]*memory.Bounded[uint64, *bucket]
	seed    maphash.Seed

	stop    context.Context //nolint:containedctx // ends the reports in the background
	cancel  context.CancelFunc
	reports atomic.Int32
	resume  atomic.Int64 // when reports are tried again, as bucket.tat

	mu     sync.Mutex // of the two below
	closed bool
	all    sync.WaitGroup
}

// counted names a count. Each rate of a key has its own, so that a limit that is changed
// holds at once, whatever was used up of the one before.
type counted struct {
	Key
	rate Rate
}

// bucket is one count. Most grants change it by atomic operations alone: the lock is for
// reports, for requests that wait for one, and for attempts.
type bucket struct {
	// tat is when all of the limit is free again (the theoretical arrival time of
	// GCRA), as far as this gateway knows: nanoseconds since the Limiter was made.
	tat atomic.Int64
	// shareTAT is the same for this gateway's share of the limit.
	shareTAT atomic.Int64
	// last is when something was granted.
	last atomic.Int64
	// unreported is how many were granted since the last report. A request adds itself after it
	// is granted, so the number may lack the requests that are being decided.
	unreported atomic.Int32
	// failed tells that the last report was not answered.
	failed atomic.Bool

	// held is how many attempts are under way.
	held int32

	mu sync.Mutex // of held and what follows
	// underWay is the report that is under way; nil if there is none.
	underWay *report
	// freed is closed when an attempt ends, if another waits for that.
	freed chan struct{}
}

// freeBefore reports whether the bucket is free again before another one. The map drops such a
// bucket first: otherwise many new counts would make a gateway forget one that is used up.
func (b *bucket) freeBefore(other *bucket) bool { return b.tat.Load() < other.tat.Load() }

// report is a report to the shared count.
type report struct {
	left int64         // when, as bucket.tat
	done chan struct{} // closed when it ends
}

// New makes a Limiter.
func New(o Options) *Limiter {
	if o.Nodes <= 0 {
		o.Nodes = DefaultNodes
	}
	if o.Shared == nil {
		o.Nodes = 1
	}
	if o.Entries <= 0 {
		o.Entries = defaultEntries
	}
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Limiter{o: o, rates: Defaults(), born: o.Now(), seed: maphash.MakeSeed()}
	for p := range policies {
		if rate, ok := o.Rates.Get(p); ok {
			l.rates.Set(p, rate)
		}
		if !p.daily() {
			l.buckets[p] = memory.NewRanked[uint64](o.Entries, (*bucket).freeBefore)
		}
	}
	l.stop, l.cancel = context.WithCancel(context.Background())
	return l
}

// Close ends what runs in the background. The Limiter goes on deciding, alone.
func (l *Limiter) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.all.Wait()
}

// Rates returns the installation's rates.
func (l *Limiter) Rates() *Rates { return l.rates }

// Caller is the application that asks, and the user it asks for.
type Caller struct {
	// Application is the application's id.
	Application string
	// User is the user's id or mail; "" for a request that is for none.
	User string
	// Rates are the application's own.
	Rates *Rates
}

// Token decides about a token request.
func (l *Limiter) Token(ctx context.Context, c Caller) Decision {
	return l.both(ctx, c, Token, TokenUser)
}

// Read decides about a request that reads rooms.
func (l *Limiter) Read(ctx context.Context, c Caller) Decision { return l.both(ctx, c, Read, ReadUser) }

// Create decides about a request that creates or changes a room.
func (l *Limiter) Create(ctx context.Context, c Caller) Decision {
	return l.both(ctx, c, Create, CreateUser)
}

// both takes one from the user's limit, then one from the application's. It looks at the
// application's first, so that what that refuses takes nothing from the user's.
func (l *Limiter) both(ctx context.Context, caller Caller, app, user Policy) Decision {
	now := l.now()
	ofApp := counted{Key{Policy: app, Subject: caller.Application}, l.rate(caller.Rates, app)}
	ofUser := counted{Key{user, caller.Application, caller.User}, l.rate(caller.Rates, user)}
	var b *bucket
	if !ofApp.rate.IsOff() {
		b = l.bucket(ofApp)
		if d := decide(ofApp, b.tat.Load(), now); !d.Allowed {
			return d
		}
	}
	d := Decision{Allowed: true, Policy: user}
	if caller.User != "" && !ofUser.rate.IsOff() {
		if d = l.take(ctx, l.bucket(ofUser), ofUser, now); !d.Allowed {
			return d
		}
	}
	if b == nil {
		return d
	}
	return nearer(l.take(ctx, b, ofApp, now), d)
}

// nearer returns the decision that is nearer to a refusal.
func nearer(a, b Decision) Decision {
	switch {
	case b.Limit.IsOff() || !a.Allowed:
		return a
	case !b.Allowed || a.Limit.IsOff() || b.Remaining < a.Remaining:
		return b
	default:
		return a
	}
}

// Adopt decides whether unknown credentials from an address may be tried at Meet,
// where a trial is expensive. Unknown addresses count as one network.
func (l *Limiter) Adopt(ctx context.Context, source netip.Addr) Decision {
	c := counted{Key{Policy: Adopt, Subject: "unknown"}, l.rate(nil, Adopt)}
	if c.rate.IsOff() {
		return Decision{Allowed: true, Policy: Adopt}
	}
	if network := Network(source); network.IsValid() {
		c.Subject = network.String()
	}
	return l.take(ctx, l.bucket(c), c, l.now())
}

// Network returns the network that an address counts as: /24 for IPv4, /64 for
// IPv6, the least that one customer of a provider has.
func Network(source netip.Addr) netip.Prefix {
	source = source.Unmap().WithZone("")
	bits := 64
	if source.Is4() {
		bits = 24
	}
	p, err := source.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// now is the time since the Limiter was made, so that setting the machine's
// clock changes nothing.
func (l *Limiter) now() int64 { return int64(l.o.Now().Sub(l.born)) }

func (l *Limiter) rate(own *Rates, p Policy) Rate {
	if r, ok := own.Get(p); ok {
		return r
	}
	return l.rates.rate[p]
}

// share is what this gateway grants of a rate while the shared count does not answer.
func (l *Limiter) share(r Rate) Rate { return Rate{Count: max(1, r.Count/l.o.Nodes), Per: r.Per} }

// batch is how many are granted before they are reported.
func (l *Limiter) batch(r Rate) int32 { return int32(max(1, r.Count/(batches*l.o.Nodes))) }

// bucket returns a count.
func (l *Limiter) bucket(c counted) *bucket {
	hash := maphash.Comparable(l.seed, c)
	if b, ok := l.buckets[c.Policy].Load(hash); ok {
		return b
	}
	return l.buckets[c.Policy].LoadOrStore(hash, new(bucket))
}

// take grants one, or refuses.
func (l *Limiter) take(ctx context.Context, b *bucket, c counted, now int64) Decision {
	if d, ok := l.takeUnlocked(b, c, now); ok {
		return d
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.idle(c, now) {
		b.unreported.Store(0) // all of it has come back since
	}
	outOfStep, now := l.keepStep(ctx, b, c, now)
	if outOfStep {
		d := decide(c, b.tat.Load(), now)
		if wait := l.share(c.rate).wait(b.shareTAT.Load(), now); d.Allowed && wait > 0 {
			d.Allowed, d.Remaining, d.RetryAfter, d.Degraded = false, 0, time.Duration(wait), true
			return d
		}
	}
	d := b.admit(c, now)
	if d.Allowed {
		b.addUnreported(1, c.rate)
		l.note(b, c, now)
		l.catchUp(b, c, now)
		d.Degraded = outOfStep
	}
	return d
}

// takeUnlocked is take while nothing has to be reported, which is nearly always: the
// batch is not full and the shared count answers. Callers then never wait for each other.
func (l *Limiter) takeUnlocked(b *bucket, c counted, now int64) (d Decision, decided bool) {
	full := l.batch(c.rate)
	if b.failed.Load() || b.idle(c, now) {
		return d, false
	}
	if d = decide(c, b.tat.Load(), now); !d.Allowed {
		return d, b.unreported.Load() < full
	}
	if l.o.Shared != nil && b.unreported.Load()+1 >= full {
		return d, false
	}
	if d = b.admit(c, now); d.Allowed {
		if l.o.Shared != nil {
			b.unreported.Add(1) // after the grant: a report in between must not count it twice
		}
		l.note(b, c, now)
	}
	return d, true
}

// idle reports that nothing was granted for a whole period.
func (b *bucket) idle(c counted, now int64) bool { return now-b.last.Load() >= int64(c.rate.Per) }

// admit takes one from the limit unless that does not conform.
func (b *bucket) admit(c counted, now int64) Decision {
	for {
		tat := b.tat.Load()
		d := decide(c, tat, now)
		if !d.Allowed {
			return d
		}
		after := max(tat, now) + c.rate.interval()
		if b.tat.CompareAndSwap(tat, after) {
			d = decide(c, after, now)
			d.Allowed, d.RetryAfter = true, 0
			return d
		}
	}
}

// note remembers when something was granted, and takes it from the share. A gateway that
// has granted more than its share goes on at the pace of the share.
func (l *Limiter) note(b *bucket, c counted, now int64) {
	share := l.share(c.rate)
	change(&b.shareTAT, func(tat int64) int64 {
		return min(max(tat, now)+share.interval(), now+int64(share.Per)+slack(share))
	})
	b.last.Store(now)
}

// addUnreported adds granted requests to the next report, up to the whole limit.
func (b *bucket) addUnreported(n int32, r Rate) {
	if over := b.unreported.Add(n) - int32(r.Count); over > 0 {
		b.unreported.Add(-over)
	}
}

// change replaces a value by a function of it.
func change(v *atomic.Int64, by func(int64) int64) {
	for {
		old := v.Load()
		if v.CompareAndSwap(old, by(old)) {
			return
		}
	}
}

// wait returns the time until one more conforms to the rate (GCRA); 0 for now.
func (r Rate) wait(tat, now int64) int64 {
	early := max(tat, now) + r.interval() - int64(r.Per) - now
	if early <= slack(r) {
		return 0
	}
	return early
}

// slack is how much too early a request may come. It makes up for the time that
// messages to the shared count take. Being shorter than an interval, it never
// lets another one into a burst, and what comes early is counted in full.
func slack(r Rate) int64 { return r.interval() / 2 }

// decide returns the decision about one more request; it takes nothing.
func decide(c counted, tat, now int64) Decision {
	reset, wait := max(tat-now, 0), c.rate.wait(tat, now)
	return Decision{
		Allowed: wait == 0, Policy: c.Policy, Limit: c.rate, Reset: time.Duration(reset), RetryAfter: time.Duration(wait),
		Remaining: int(max(0, int64(c.rate.Per)-reset+slack(c.rate)) / c.rate.interval()),
	}
}

// catchUp reports a full batch, and returns whether the bucket has got too far ahead of
// the shared count. The bucket is locked.
func (l *Limiter) catchUp(b *bucket, c counted, now int64) (outOfStep bool) {
	if l.o.Shared == nil {
		return false
	}
	behind := func() bool { return b.failed.Load() || b.unreported.Load() >= l.batch(c.rate) }
	if behind() {
		l.report(b, c, now)
	}
	return behind()
}

// keepStep is catchUp that waits for the answer of the shared count, unless the last
// report failed. It returns the time after that.
func (l *Limiter) keepStep(ctx context.Context, b *bucket, c counted, now int64) (outOfStep bool, later int64) {
	outOfStep = l.catchUp(b, c, now)
	for range maxWaits {
		if !outOfStep || b.underWay == nil || b.failed.Load() {
			break
		}
		patience, cancel := context.WithTimeout(ctx, l.o.Patience-time.Duration(now-b.underWay.left))
		answered := b.await(patience, b.underWay.done)
		cancel()
		if !answered {
			break
		}
		now = max(now, l.now())
		outOfStep = l.catchUp(b, c, now)
	}
	return outOfStep, now
}

// await unlocks the bucket until a channel is closed, and reports whether it was.
func (b *bucket) await(ctx context.Context, closed <-chan struct{}) bool {
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-closed:
		return true
	case <-ctx.Done():
		return false
	}
}

// report tells the shared count what the bucket has granted, unless a report is under
// way, one has failed just now, or too many are under way for others.
func (l *Limiter) report(b *bucket, c counted, now int64) {
	if b.underWay != nil || now < l.resume.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.reports.Load() >= maxReports {
		return
	}
	l.reports.Add(1)
	b.underWay = &report{now, make(chan struct{})}
	n := max(b.unreported.Load(), 0)
	b.unreported.Add(-n)
	l.all.Go(func() {
		defer l.reports.Add(-1)
		l.tell(b, c, n)
	})
}

// tell sends a report and applies its answer.
func (l *Limiter) tell(b *bucket, c counted, n int32) {
	ctx, cancel := context.WithTimeout(l.stop, reportTimeout)
	defer cancel()
	reset, err := l.o.Shared.Debit(ctx, c.Key, c.rate, int(n))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed.Store(err != nil)
	if err != nil {
		b.addUnreported(n, c.rate)
		l.resume.Store(l.now() + int64(pause))
	} else {
		// What was granted meanwhile comes on top of what is shared. The answer is
		// as old as the question at most.
		known := b.underWay.left + int64(min(reset, MaxDebt*c.rate.Per)) + int64(max(b.unreported.Load(), 0))*c.rate.interval()
		change(&b.tat, func(tat int64) int64 { return max(tat, known) })
	}
	close(b.underWay.done)
	b.underWay = nil
}
