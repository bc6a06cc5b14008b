// SPDX-License-Identifier: MIT

package limit

import (
	"context"
	"net/netip"
	"time"
)

// attemptPatience is how long an attempt waits for those before it to end.
const attemptPatience = 5 * time.Second

// Attempt is an authentication under way. It holds a place in the limits of failed
// authentications until it ends, so that many at once are not more than the limit.
type Attempt struct {
	l      *Limiter
	places []place
}

// place is what an attempt holds of one count.
type place struct {
	b *bucket
	k Key
	r Rate
}

// Attempt decides whether an application may try to authenticate from an address:
// whether too many have failed there. application is its id, whichever of its
// client ids was presented, or a client id that no application has; rates are its
// own. Unless the decision is a refusal, the Attempt must be ended.
//
// What is slowed is the application from there (a /24 network of IPv4, a /64 of
// IPv6), and, by a wider limit, all applications from there. From elsewhere the
// application goes on undisturbed. Who succeeds is not counted: where those under
// way are all that is left of the limit, further ones wait until one of them ends.
func (l *Limiter) Attempt(ctx context.Context, application string, source netip.Addr, rates *Rates) (*Attempt, Decision) {
	a := &Attempt{l: l}
	pair, all := sources(application, source)
	d := Decision{Allowed: true, Policy: Failed}
	if all.Subject != "" {
		if d = a.hold(ctx, all, l.rate(nil, FailedSource)); !d.Allowed {
			return nil, d
		}
	}
	if d = nearer(a.hold(ctx, pair, l.rate(rates, Failed)), d); !d.Allowed {
		a.End()
		return nil, d
	}
	return a, d
}

// Fail counts the attempt as failed, and ends it.
func (a *Attempt) Fail() {
	now := a.l.now()
	for _, p := range a.places {
		p.b.mu.Lock()
		a.l.grant(p.b, p.k, p.r, now)
		p.b.mu.Unlock()
	}
	a.End()
}

// End gives back what the attempt holds. Calling it again does nothing.
func (a *Attempt) End() {
	for _, p := range a.places {
		p.b.mu.Lock()
		p.b.held--
		if p.b.freed != nil {
			close(p.b.freed)
			p.b.freed = nil
		}
		p.b.mu.Unlock()
	}
	a.places = nil
}

// hold takes a place, or refuses.
func (a *Attempt) hold(ctx context.Context, k Key, r Rate) Decision {
	if r.IsOff() {
		return Decision{Allowed: true, Policy: k.Policy}
	}
	b := a.l.bucket(k, r)
	b.mu.Lock()
	defer b.mu.Unlock()
	d, full := a.l.room(ctx, b, k, r)
	if !d.Allowed && full {
		ctx, cancel := context.WithTimeout(ctx, attemptPatience)
		defer cancel()
		for !d.Allowed && full && b.awaitFreed(ctx) {
			d, full = a.l.room(ctx, b, k, r)
		}
	}
	if d.Allowed {
		b.held++
		a.places = append(a.places, place{b, k, r})
	}
	return d
}

// room tells whether there is a place in a count, and whether there would be if
// no attempt were under way. The bucket is locked.
func (l *Limiter) room(ctx context.Context, b *bucket, k Key, r Rate) (d Decision, full bool) {
	outOfStep, now := l.keepStep(ctx, b, k, r, l.now())
	tat := b.tat.Load()
	if next := due(tat, r, now); next > now+slack(r) {
		return refused(k.Policy, r, tat, next, now), false
	}
	held := max(tat, now) + int64(b.held)*r.interval()
	if next := due(held, r, now); next > now+slack(r) {
		return refused(k.Policy, r, held, next, now), true
	}
	if !outOfStep {
		return standing(k.Policy, r, held, now), false
	}
	// The shared count does not answer: this gateway has its share.
	share := l.share(r)
	held = max(b.alone, now) + int64(b.held)*share.interval()
	next := due(held, share, now)
	if next <= now+slack(share) {
		d = standing(k.Policy, r, max(tat, now), now)
	} else {
		d = refused(k.Policy, r, tat, next, now)
	}
	d.Alone = true
	return d, b.held > 0 && due(b.alone, share, now) <= now+slack(share)
}

// awaitFreed gives the bucket up until an attempt ends, and reports whether one has.
func (b *bucket) awaitFreed(ctx context.Context) bool {
	if b.freed == nil {
		b.freed = make(chan struct{})
	}
	freed := b.freed
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-freed:
		return true
	case <-ctx.Done():
		return false
	}
}

// sources are what failures are counted by. An unknown address is one network as
// well, but nothing that could stop all applications.
func sources(application string, source netip.Addr) (pair, all Key) {
	network := Network(source)
	application = application[:min(len(application), maxSubject)]
	if !network.IsValid() {
		return Key{Failed, application, "unknown"}, Key{}
	}
	return Key{Failed, application, network.String()}, Key{Policy: FailedSource, Subject: network.String()}
}
