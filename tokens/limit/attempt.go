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
	*bucket
	counted
}

// Attempt decides whether an application may try to authenticate from an address:
// whether too many have failed there. application is its id, whichever of its
// client ids was presented, or a client id that no application has; rates are its
// own. Unless the decision is a refusal, the Attempt must be ended.
//
// The first limit is of the application from that network (/24 of IPv4, /64 of IPv6);
// from elsewhere the application goes on undisturbed. The second, wider one is of all
// applications from there. An attempt that succeeds is not counted: while those under
// way are all that is left of the limit, further ones wait until one of them ends.
func (l *Limiter) Attempt(ctx context.Context, application string, source netip.Addr, rates *Rates) (*Attempt, Decision) {
	a := &Attempt{l: l}
	pair, all := sources(application, source)
	d := Decision{Allowed: true, Policy: Failed}
	if all.Subject != "" {
		if d = a.hold(ctx, counted{all, l.rate(nil, FailedSource)}); !d.Allowed {
			return nil, d
		}
	}
	if d = nearer(a.hold(ctx, counted{pair, l.rate(rates, Failed)}), d); !d.Allowed {
		a.End()
		return nil, d
	}
	return a, d
}

// Fail counts the attempt as failed, and ends it.
func (a *Attempt) Fail() {
	now := a.l.now()
	for _, p := range a.places {
		p.mu.Lock()
		change(&p.tat, func(tat int64) int64 { return max(tat, now) + p.rate.interval() })
		p.addUnreported(1, p.rate)
		a.l.note(p.bucket, p.counted, now)
		a.l.catchUp(p.bucket, p.counted, now)
		p.mu.Unlock()
	}
	a.End()
}

// End gives back what the attempt holds. Calling it again does nothing.
func (a *Attempt) End() {
	for _, p := range a.places {
		p.mu.Lock()
		p.held--
		if p.freed != nil {
			close(p.freed)
			p.freed = nil
		}
		p.mu.Unlock()
	}
	a.places = nil
}

// hold takes a place, or refuses.
func (a *Attempt) hold(ctx context.Context, c counted) Decision {
	if c.rate.IsOff() {
		return Decision{Allowed: true, Policy: c.Policy}
	}
	b := a.l.bucket(c)
	b.mu.Lock()
	defer b.mu.Unlock()
	d, full := a.l.room(ctx, b, c)
	if full {
		ctx, cancel := context.WithTimeout(ctx, attemptPatience)
		defer cancel()
		for full {
			if b.freed == nil {
				b.freed = make(chan struct{})
			}
			if !b.await(ctx, b.freed) {
				break
			}
			d, full = a.l.room(ctx, b, c)
		}
	}
	if d.Allowed {
		b.held++
		a.places = append(a.places, place{b, c})
	}
	return d
}

// room decides about one more attempt. full reports a refusal that would be none
// without the attempts under way. The bucket is locked.
func (l *Limiter) room(ctx context.Context, b *bucket, c counted) (d Decision, full bool) {
	outOfStep, now := l.keepStep(ctx, b, c, l.now())
	withHeld := func(tat int64, r Rate) int64 { return max(tat, now) + int64(b.held)*r.interval() }
	if d = decide(c, b.tat.Load(), now); !d.Allowed {
		return d, false
	}
	if held := decide(c, withHeld(b.tat.Load(), c.rate), now); !held.Allowed || !outOfStep {
		return held, !held.Allowed
	}
	// The shared count does not answer: this gateway has its share.
	share, tat := l.share(c.rate), b.shareTAT.Load()
	d.Degraded = true
	if wait := share.wait(withHeld(tat, share), now); wait > 0 {
		d.Allowed, d.Remaining, d.RetryAfter = false, 0, time.Duration(wait)
	}
	return d, !d.Allowed && b.held > 0 && share.wait(tat, now) == 0
}

// sources are the counts of a failure. An unknown address counts as a network of the
// application, and in no count of all applications.
func sources(application string, source netip.Addr) (pair, all Key) {
	network := Network(source)
	application = application[:min(len(application), maxSubject)]
	if !network.IsValid() {
		return Key{Failed, application, "unknown"}, Key{}
	}
	return Key{Failed, application, network.String()}, Key{Policy: FailedSource, Subject: network.String()}
}
