// SPDX-License-Identifier: MIT

package feed

import (
	"context"
	"errors"
	"math"

	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// ErrUnproven means that Redis was not proven to be the primary for too long.
var ErrUnproven = errors.New("it has not been found to be the primary, and to have lost nothing, for too long")

var (
	errLacking  = errors.New("it has lost changes, which gateways that heard of them may still write again")
	errUnsteady = errors.New("it may be another server than a moment ago")
	errSettling = errors.New("it is not there, and what Redis may have lost is not written again yet")
)

// unverified is the number of no connection.
const unverified = math.MaxUint64

// maxLooks is how often something is read again because the server may be another
// one.
const maxLooks = 10

// Snapshot is which server something was read from.
type Snapshot struct {
	dialed   uint64
	replaced int64
}

// Snapshot returns which server is asked from now on.
func (f *Feed) Snapshot() Snapshot { return Snapshot{f.db.Dialed(), f.replaced.Load()} }

// Replaced reports whether another server was found since the snapshot.
func (f *Feed) Replaced(since Snapshot) bool { return f.replaced.Load() != since.replaced }

// Believable returns an error unless what Redis says now may be believed: within the
// staleness bound it was the primary and had lost nothing, and no connection was
// opened since that may lead to another server.
func (f *Feed) Believable(ctx context.Context) error {
	if isRestoring(ctx) {
		return nil
	}
	if c := f.checked.Load(); c != 0 && f.since(c) > f.staleness {
		return failure.Unavailable("asking Redis", ErrUnproven)
	}
	if f.lacking.Load() != 0 {
		return failure.Unavailable("asking Redis", errLacking)
	}
	if f.verified.Load() == f.db.Dialed() {
		return nil
	}
	return f.Check(ctx)
}

// StillPrimary reports whether a negative answer that was read since the snapshot can
// be trusted. If not, it has to be read again.
func (f *Feed) StillPrimary(ctx context.Context, since Snapshot) (bool, error) {
	if f.Snapshot() != since {
		return false, nil
	}
	known := f.Changes()
	if err := f.Check(ctx); err != nil {
		return false, err
	}
	if isRestoring(ctx) {
		return f.Snapshot() == since, nil
	}
	number, err := f.db.Client().Get(ctx, redisdb.KeyFeed).Uint64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, failure.Unavailable("reading the number of the last change", err)
	}
	if number < known {
		f.noteReplaced() // emptied or set back: the next heartbeat finds it out and writes again
		return false, nil
	}
	return f.Snapshot() == since, nil
}

// Settling reports whether Redis was found to be another one, or to have lost
// something, so lately that other gateways may not have written again yet what they
// remember.
func (f *Feed) Settling() bool {
	r := f.replaced.Load()
	return r != 0 && f.since(r) < f.staleness
}

// Settled returns ErrUnavailable while something that is not there may come back.
func (f *Feed) Settled(ctx context.Context, doing string) error {
	if f.Settling() && !isRestoring(ctx) {
		return failure.Unavailable(doing, errSettling)
	}
	return nil
}

// replacedLately reports whether Redis was found to be another one so lately that a
// write may have begun before and ended after.
func (f *Feed) replacedLately() bool {
	r := f.replaced.Load()
	return r != 0 && f.since(r) < f.staleness+publishPatience
}

// Reader sends commands that change nothing.
type Reader = redis.Cmdable

// Read runs a read whose answer is to be believed. read reports whether what it looked
// for is there (redis.Nil says that it is not). That it is not is believed only from a
// server that was still the primary after the read, and not while it may come back;
// inside Refuse, the decision is verified as a whole. The error is ErrUnavailable.
func (f *Feed) Read(ctx context.Context, doing string, read func(context.Context, Reader) (found bool, err error)) error {
	part := decisionOf(ctx)
	for range maxLooks {
		if err := f.Believable(ctx); err != nil {
			return err
		}
		seen := f.Snapshot()
		found, err := read(ctx, f.db.Client())
		switch {
		case errors.Is(err, failure.ErrUnavailable):
			return err
		case err != nil && !errors.Is(err, redis.Nil):
			return failure.Unavailable(doing, err)
		case found:
			if f.db.Dialed() == seen.dialed {
				return nil
			}
		case part != nil:
			part.absent = true
			return nil
		default:
			stands, err := f.StillPrimary(ctx, seen)
			if err != nil {
				return err
			}
			if stands {
				return f.Settled(ctx, doing)
			}
		}
	}
	return failure.Unavailable(doing, errUnsteady)
}

// decision is one Refuse under way.
type decision struct{ absent, present bool }

type decisionKey struct{}

func decisionOf(ctx context.Context) *decision {
	d, _ := ctx.Value(decisionKey{}).(*decision)
	return d
}

// Absent says inside Refuse that something was found not to be there by other means
// than Read.
func Absent(ctx context.Context) {
	if d := decisionOf(ctx); d != nil {
		d.absent = true
	}
}

// Present says inside Refuse that it is for something that is there that somebody is
// turned away, so that it need not be waited for what may still be written again.
func Present(ctx context.Context) {
	if d := decisionOf(ctx); d != nil {
		d.present = true
	}
}

// Refuse runs a decision that may end in turning somebody away, again until that
// stands: the server is still the primary, no other has taken over meanwhile, and
// nothing may still be written again. ErrUnavailable turns nobody away. A decision
// inside another one is verified with it.
func (f *Feed) Refuse(ctx context.Context, doing string, decide func(context.Context) error) error {
	return f.RefuseSince(ctx, f.Snapshot(), doing, decide)
}

// RefuseSince is Refuse for a decision whose first reading began at a snapshot.
func (f *Feed) RefuseSince(ctx context.Context, seen Snapshot, doing string, decide func(context.Context) error) error {
	if decisionOf(ctx) != nil {
		return decide(ctx)
	}
	for range maxLooks {
		d := new(decision)
		err := decide(context.WithValue(ctx, decisionKey{}, d))
		if errors.Is(err, failure.ErrUnavailable) || err == nil && !d.absent {
			return err
		}
		stands, problem := f.StillPrimary(ctx, seen)
		if problem != nil {
			return problem
		}
		if stands {
			if problem := f.Settled(ctx, doing); problem != nil && !d.present {
				return problem
			}
			return err
		}
		seen = f.Snapshot()
	}
	return failure.Unavailable(doing, errUnsteady)
}

// Unsteady is the error for what was done while another server took over.
func Unsteady(doing string) error { return failure.Unavailable(doing, errUnsteady) }
