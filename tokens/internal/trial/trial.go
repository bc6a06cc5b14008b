// SPDX-License-Identifier: MIT

// Package trial bounds how often unknown credentials are tried at Meet.
//
// A trial costs Meet a second of CPU, so strangers must not cause many. A pair that Meet
// has refused is not tried again for a while, no two gateways try the same pair at once,
// and each gateway tries one pair at a time. The caller limits trials by source.
package trial

import (
	"context"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/meettokens"
)

const (
	// RefusalLifetime is how long refused credentials are not tried again.
	RefusalLifetime = time.Minute
	// Duration is more than a trial and a registration take.
	Duration = 30 * time.Second
	// MaxWaiting is how many may wait for a gateway's one trial.
	MaxWaiting = 16
	// Poll is how often a gateway checks whether another one's trial has ended, and
	// patience for how long.
	Poll     = 25 * time.Millisecond
	patience = 5 * time.Second
)

// Trials are the trials of one gateway.
type Trials struct {
	// Running admits the running trial, Waiting those that wait.
	Running, Waiting chan struct{}

	db    *redisdb.DB
	keys  *vault.Ring
	locks *meettokens.Store
}

// New makes trials.
func New(db *redisdb.DB, keys *vault.Ring, locks *meettokens.Store) *Trials {
	return &Trials{Running: make(chan struct{}, 1), Waiting: make(chan struct{}, MaxWaiting), db: db, keys: keys, locks: locks}
}

// enter waits for a place; leave gives it back. The error is ErrBusy.
func (t *Trials) enter(ctx context.Context) (leave func(), err error) {
	select {
	case t.Waiting <- struct{}{}:
		defer func() { <-t.Waiting }()
	default:
		return nil, failure.Deny(failure.ErrBusy, "adoption_pool_full")
	}
	select {
	case t.Running <- struct{}{}:
		return func() { <-t.Running }, nil
	case <-ctx.Done():
		return nil, failure.Deny(failure.ErrBusy, "adoption_pool_timeout")
	}
}

// Alone calls try, unless another gateway is trying the same credentials: then it
// reports false. The place in the queue comes before the lock, so that the lock need
// not last for the waiting. Errors: ErrBusy, ErrUnavailable.
func (t *Trials) Alone(ctx context.Context, clientID, secret string, try func(context.Context)) (tried bool, err error) {
	leave, err := t.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	unlock, mine, err := t.locks.LockMeetToken(ctx, t.LockName(clientID, secret), Duration)
	if err != nil || !mine {
		return false, err
	}
	defer unlock()
	// Meet completes the check even if the caller disconnects. The trial waits for the answer, so
	// that callers cannot start more trials by disconnecting.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Duration/2)
	defer cancel()
	try(ctx)
	return true, nil
}

// Lock takes the lock for registering a client id, and waits for it. Errors: ErrBusy,
// ErrUnavailable.
func (t *Trials) Lock(ctx context.Context, clientID string) (unlock func(), err error) {
	for wait := NewWait(); ; {
		unlock, mine, err := t.locks.LockMeetToken(ctx, "adopt\x00"+clientID, Duration)
		if err != nil || mine {
			return unlock, err
		}
		if err := wait.Next(ctx); err != nil {
			return nil, err
		}
	}
}

// NoteRefusal notes, for a minute, that Meet refused the credentials. The error is
// ErrUnavailable.
func (t *Trials) NoteRefusal(ctx context.Context, clientID, secret string) error {
	if err := t.db.Set(ctx, t.name(clientID, secret), "1", RefusalLifetime); err != nil {
		return failure.Unavailable("noting refused credentials", err)
	}
	return nil
}

// Refused reports whether Meet refused the credentials within the last minute. The
// error is ErrUnavailable.
func (t *Trials) Refused(ctx context.Context, clientID, secret string) (bool, error) {
	refused, err := t.db.Exists(ctx, t.name(clientID, secret))
	if err != nil {
		return false, failure.Unavailable("looking for refused credentials", err)
	}
	return refused, nil
}

func (t *Trials) name(clientID, secret string) string {
	return redisdb.KeyName(t.keys.First(), redisdb.KindTrial, clientID, secret)
}

// LockName names the lock of a trial.
func (t *Trials) LockName(clientID, secret string) string {
	return "trial\x00" + t.name(clientID, secret)
}

// Wait polls for the end of another gateway's trial.
type Wait struct{ until time.Time }

// NewWait begins to wait.
func NewWait() Wait { return Wait{time.Now().Add(patience)} }

// Next waits a moment. The error is ErrBusy when patience has run out.
func (w Wait) Next(ctx context.Context) error {
	timer := time.NewTimer(Poll)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return failure.Deny(failure.ErrBusy, "adoption_in_progress")
	}
	if time.Now().After(w.until) {
		return failure.Deny(failure.ErrBusy, "adoption_in_progress")
	}
	return nil
}
