// SPDX-License-Identifier: MIT

package limit

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Shared is the count of all gateways.
type Shared interface {
	// Debit adds n, which were granted, 0 or more, to the count of the key and returns in how
	// much time all of the rate is free again: more than its period if more than
	// the rate was granted. It adds at most so many that this is MaxDebt periods.
	Debit(ctx context.Context, k Key, r Rate, n int) (reset time.Duration, err error)
}

// MaxDebt is how many periods a count may be from being free again. Up to it, what
// was granted too much is granted less later.
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
	// The one that is forgotten has lost what it had not shared yet.
	Entries int
	// Patience is how long the shared count may take to answer before a request
	// that needs the answer is decided without. Default: 50ms.
	Patience time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

const (
	// batches is how many the gateways together have of a limit.
	batches = 10

	// DefaultNodes is how many gateways share the limits unless it is said.
	DefaultNodes    = 2
	defaultEntries  = 20_000
	defaultPatience = 50 * time.Millisecond
	// reportTimeout bounds telling the shared count.
	reportTimeout = time.Second
	// pause is for how long nothing is told after that failed.
	pause = time.Second
	// maxReports is how many are told at a time.
	maxReports = 64
	// maxWaits is how many reports one request waits for: as many as a limit has
	// batches, twice over.
	maxWaits = 2 * batches
	// maxSubject bounds what a stranger can make this process remember.
	maxSubject = 128
)

// Limiter decides whether a request may go on. It is safe for concurrent use.
//
// What a gateway grants it counts for itself, and tells the shared count once a
// batch is full, without letting the request wait. A batch is a tenth of the
// limit divided by the number of gateways, at least one. While a full batch is
// being told and the next one is full as well, requests wait for the answer, for
// [Options.Patience] at most. So:
//
//   - One gateway alone never grants more than the limit.
//   - Together they grant at most two batches per gateway more than one exact
//     count would: 20 % of the limit, or two per gateway where the limit is
//     below ten per gateway. It is granted less later. And at most a batch less,
//     since what a batch holds is counted as if it came at its end.
//   - What a gateway granted and never told is forgotten when nothing was asked
//     for a whole period: at most a batch per gateway and period.
//   - While the shared count does not answer, each gateway grants its share: the
//     limit divided by the number of gateways, at least one. None lets everything
//     through, and none blocks.
//
// A refused request is not counted.
type Limiter struct {
	o       Options
	rates   *Rates
	born    time.Time
	buckets [policies]*otter.Cache[counted, *bucket]

	stop    context.Context //nolint:containedctx // ends the reports in the background
	cancel  context.CancelFunc
	reports atomic.Int32
	resume  atomic.Int64 // when telling is tried again, as bucket.tat

	mu     sync.Mutex // of the two below
	closed bool
	all    sync.WaitGroup
}

// bucket is one count.
type bucket struct {
	mu sync.Mutex
	// tat is when all of the limit is free again (the theoretical arrival time of
	// GCRA), as far as this gateway knows: nanoseconds since the Limiter was made.
	// It is written while mu is held.
	tat atomic.Int64
	// alone is the same for this gateway's share of the limit.
	alone int64
	// last is when something was granted.
	last int64
	// untold is how many were granted since the shared count was told.
	untold int
	// told is closed when the report that is on its way ends; nil if none is.
	told chan struct{}
	// since is when that report left.
	since int64
	// failed tells that the last report was not answered.
	failed bool
	// held is how many attempts are under way of which is not known yet whether
	// they count.
	held int
	// freed is closed when one of them ends, if somebody waits for it.
	freed chan struct{}
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
	l := &Limiter{o: o, rates: Defaults(), born: o.Now()}
	for p := range policies {
		if rate, ok := o.Rates.Get(p); ok {
			l.rates.Set(p, rate)
		}
		if !p.daily() {
			l.buckets[p] = otter.Must(&otter.Options[counted, *bucket]{MaximumSize: o.Entries, Executor: func(f func()) { f() }})
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

// Caller is who asks.
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

// both asks the user's limit first: a user who asks too much must not use up
// what is the whole application's. Neither does an application that asks too much
// use up what is its users'.
func (l *Limiter) both(ctx context.Context, c Caller, app, user Policy) Decision {
	now := l.now()
	ofApp, ofUser := l.rate(c.Rates, app), l.rate(c.Rates, user)
	key := Key{Policy: app, Subject: c.Application}
	var b *bucket
	if !ofApp.IsOff() {
		b = l.bucket(key, ofApp)
		if d := look(b, app, ofApp, now); !d.Allowed {
			return d
		}
	}
	d := Decision{Allowed: true, Policy: user}
	if c.User != "" && !ofUser.IsOff() {
		k := Key{user, c.Application, c.User}
		if d = l.take(ctx, l.bucket(k, ofUser), k, ofUser, now); !d.Allowed {
			return d
		}
	}
	if b == nil {
		return d
	}
	return nearer(l.take(ctx, b, key, ofApp, now), d)
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
	rate := l.rate(nil, Adopt)
	if rate.IsOff() {
		return Decision{Allowed: true, Policy: Adopt}
	}
	k := Key{Policy: Adopt, Subject: "unknown"}
	if network := Network(source); network.IsValid() {
		k.Subject = network.String()
	}
	return l.take(ctx, l.bucket(k, rate), k, rate, l.now())
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

// take grants one, or refuses.
func (l *Limiter) take(ctx context.Context, b *bucket, k Key, r Rate, now int64) Decision {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now-b.last >= int64(r.Per) {
		b.untold = 0 // all of it has come back since
	}
	outOfStep, now := l.keepStep(ctx, b, k, r, now)
	tat := b.tat.Load()
	if next := due(tat, r, now); next > now+slack(r) {
		return refused(k.Policy, r, tat, next, now)
	}
	share := l.share(r)
	if next := due(b.alone, share, now); outOfStep && next > now+slack(share) {
		d := refused(k.Policy, r, tat, next, now)
		d.Alone = true
		return d
	}
	d := standing(k.Policy, r, l.grant(b, k, r, now), now)
	d.Alone = outOfStep
	return d
}

// grant counts one, and returns when all of the limit is free again.
func (l *Limiter) grant(b *bucket, k Key, r Rate, now int64) (tat int64) {
	tat = max(b.tat.Load(), now) + r.interval()
	b.tat.Store(tat)
	// Who has been granted more than the share still has its pace.
	share := l.share(r)
	b.alone = min(max(b.alone, now)+share.interval(), now+int64(r.Per)+slack(share))
	b.last = now
	b.untold = min(b.untold+1, r.Count)
	l.catchUp(b, k, r, now)
	return tat
}

// share is what this gateway grants of a rate while it is alone.
func (l *Limiter) share(r Rate) Rate { return Rate{Count: max(1, r.Count/l.o.Nodes), Per: r.Per} }

// counted is what has a count: each rate of a key has its own, so that a limit that
// is changed holds at once, whatever was used up of the one before.
type counted struct {
	Key
	rate Rate
}

// bucket returns the count of a key.
func (l *Limiter) bucket(k Key, r Rate) *bucket {
	if b, ok := l.buckets[k.Policy].GetIfPresent(counted{k, r}); ok {
		return b
	}
	// The strings may be parts of whole requests, with secrets in them.
	k.Subject, k.Detail = strings.Clone(k.Subject), strings.Clone(k.Detail)
	b, _ := l.buckets[k.Policy].SetIfAbsent(counted{k, r}, new(bucket))
	return b
}

// catchUp tells the shared count when a batch is full, and reports whether this
// count has gone too far ahead of it.
func (l *Limiter) catchUp(b *bucket, k Key, r Rate, now int64) bool {
	if l.o.Shared == nil {
		return false
	}
	full := max(1, r.Count/(batches*l.o.Nodes))
	if b.untold >= full || b.failed {
		l.report(b, k, r, now)
	}
	return b.untold >= full || b.failed
}

// keepStep is catchUp that waits for the answer of the shared count, unless it is
// known not to answer. It returns the time, too.
func (l *Limiter) keepStep(ctx context.Context, b *bucket, k Key, r Rate, now int64) (outOfStep bool, later int64) {
	outOfStep = l.catchUp(b, k, r, now)
	for range maxWaits {
		if !outOfStep || b.told == nil || b.failed || !l.wait(ctx, b, l.o.Patience-time.Duration(now-b.since)) {
			break
		}
		now = max(now, l.now())
		outOfStep = l.catchUp(b, k, r, now)
	}
	return outOfStep, now
}

// due returns when one more would be conforming (GCRA).
func due(tat int64, r Rate, now int64) int64 { return max(tat, now) + r.interval() - int64(r.Per) }

// slack is how much too early one may come. It makes up for the time that
// messages to the shared count take. Being shorter than an interval, it never
// lets another one into a burst, and what comes early is counted in full.
func slack(r Rate) int64 { return r.interval() / 2 }

// look tells how a bucket stands.
func look(b *bucket, p Policy, r Rate, now int64) Decision {
	tat := b.tat.Load()
	if next := due(tat, r, now); next > now+slack(r) {
		return refused(p, r, tat, next, now)
	}
	return standing(p, r, tat, now)
}

func refused(p Policy, r Rate, tat, next, now int64) Decision {
	return Decision{
		Policy: p, Limit: r, Reset: time.Duration(max(tat-now, 0)),
		RetryAfter: time.Duration(next - now),
	}
}

func standing(p Policy, r Rate, tat, now int64) Decision {
	reset := max(tat-now, 0)
	return Decision{
		Allowed: true, Policy: p, Limit: r,
		Remaining: int(max(0, int64(r.Per)-reset+slack(r)) / r.interval()), Reset: time.Duration(reset),
	}
}

// wait gives the bucket up until the report on its way ends, for d at most, and
// reports whether it has ended.
func (l *Limiter) wait(ctx context.Context, b *bucket, d time.Duration) bool {
	if d <= 0 {
		return false
	}
	told := b.told
	b.mu.Unlock()
	defer b.mu.Lock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-told:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// report tells the shared count what the bucket has granted, unless that is
// being done, has failed just now or is being done for too many others.
func (l *Limiter) report(b *bucket, k Key, r Rate, now int64) {
	if b.told != nil || now < l.resume.Load() {
		return
	}
	if l.reports.Add(1) > maxReports {
		l.reports.Add(-1)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.reports.Add(-1)
		return
	}
	b.told, b.since = make(chan struct{}), now
	n := b.untold
	b.untold = 0
	l.all.Go(func() {
		defer l.reports.Add(-1)
		l.tell(b, k, r, n)
	})
}

// tell is the report, and what follows from its answer.
func (l *Limiter) tell(b *bucket, k Key, r Rate, n int) {
	ctx, cancel := context.WithTimeout(l.stop, reportTimeout)
	defer cancel()
	reset, err := l.o.Shared.Debit(ctx, k, r, n)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = err != nil
	if b.failed {
		b.untold = min(b.untold+n, r.Count)
		l.resume.Store(l.now() + int64(pause))
	} else {
		// What was granted meanwhile comes on top of what is shared. The answer is
		// as old as the question at most.
		reset = min(reset, MaxDebt*r.Per)
		b.tat.Store(max(b.tat.Load(), b.since+int64(reset)+int64(b.untold)*r.interval()))
	}
	close(b.told)
	b.told = nil
}

// Entries returns how many counts are remembered.
func (l *Limiter) Entries() int {
	n := 0
	for _, c := range l.buckets {
		if c != nil {
			n += c.EstimatedSize()
		}
	}
	return n
}
