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

// ErrUnproven means that the last proof is too old that Redis is the primary and complete.
var ErrUnproven = errors.New("the last proof that Redis is the primary and complete is too old")

var (
	errLacking  = errors.New("changes are missing in Redis that other gateways may still restore")
	errUnsteady = errors.New("the server may have been replaced by another one a moment ago")
)

// unverified is the number of no connection.
const unverified = math.MaxUint64

// maxLooks bounds how often a read is repeated because the server may have been replaced.
const maxLooks = 10

// Snapshot identifies the server that a read was sent to.
type Snapshot struct {
	dialed   uint64
	replaced int64
}

// Snapshot identifies the server in use now.
func (f *Feed) Snapshot() Snapshot { return Snapshot{f.db.Dialed(), f.replaced.Load()} }

// Replaced reports whether another server was found since the snapshot.
func (f *Feed) Replaced(since Snapshot) bool { return f.replaced.Load() != since.replaced }

// Believable returns an error unless Redis may be believed now: within the staleness
// bound it was the primary and had lost nothing, and no connection has been opened since,
// which could lead to another server.
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

// StillPrimary reports whether a negative answer read since the snapshot can be trusted.
// If not, the caller reads again.
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

// Settling reports whether other gateways may still be restoring what Redis has lost: it
// was replaced or set back within the staleness bound.
func (f *Feed) Settling() bool {
	r := f.replaced.Load()
	return r != 0 && f.since(r) < f.staleness
}

// Settled returns ErrUnavailable while something missing may still be restored.
func (f *Feed) Settled(ctx context.Context, doing string) error {
	if f.Settling() && !isRestoring(ctx) {
		return failure.Unavailable(doing, failure.ErrSettling)
	}
	return nil
}

// replacedLately reports whether a write that has just ended may have begun before Redis
// was replaced.
func (f *Feed) replacedLately() bool {
	r := f.replaced.Load()
	return r != 0 && f.since(r) < f.staleness+publishPatience
}

// Reader sends commands that change nothing.
type Reader = redis.Cmdable

// Read runs a read and repeats it until its answer can be believed. read reports whether
// it found what it looked for (redis.Nil counts as not found). An absence is believed only
// if the server was still the primary after the read and Redis has settled. Inside Refuse
// the decision is verified as a whole instead. The error is ErrUnavailable.
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

// Absent tells the surrounding Refuse that something was found missing without Read.
func Absent(ctx context.Context) {
	if d := decisionOf(ctx); d != nil {
		d.absent = true
	}
}

// Present tells the surrounding Refuse that the refusal follows from something that
// exists, so it need not wait until Redis has settled.
func Present(ctx context.Context) {
	if d := decisionOf(ctx); d != nil {
		d.present = true
	}
}

// Refuse runs a decision that may end in a refusal, and repeats it until the refusal can
// be trusted: the server was the primary throughout, and Redis has settled.
// ErrUnavailable is not a refusal. A decision inside another one is verified with it.
func (f *Feed) Refuse(ctx context.Context, doing string, decide func(context.Context) error) error {
	return f.RefuseSince(ctx, f.Snapshot(), doing, decide)
}

// RefuseSince is Refuse for a decision that began to read at the snapshot.
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

// Unsteady is the error for an operation during which the server was replaced.
func Unsteady(doing string) error { return failure.Unavailable(doing, errUnsteady) }
