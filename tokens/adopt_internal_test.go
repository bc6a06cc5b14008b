// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/django/djangotest"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/trial"
)

// The lock against trials at other gateways is taken when the trial starts, not while it
// waits for the trial before it, and outlasts the trial.
func TestAdopt_LockOutlastsTrial(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	b, _ := testNode(t, server)
	lock := redisdb.KeyMeetLock(a.keys.First(), a.trials.LockName("client", "secret"))

	a.trials.Running <- struct{}{} // another trial
	asked, answer := make(chan time.Time), make(chan struct{})
	result := make(chan error)
	go func() {
		_, err := a.Adopt(ctx, "client", "secret", func(ctx context.Context) (Application, error) {
			until, _ := ctx.Deadline()
			asked <- until
			<-answer
			return Application{}, ErrInvalidClient
		})
		result <- err
	}()
	eventually(t, func() bool { return len(a.trials.Waiting) == 1 })
	server.FastForward(trial.MaxWaiting * trial.Duration)
	require.False(t, server.Exists(lock))
	<-a.trials.Running

	until := <-asked
	require.False(t, until.IsZero(), "the trial has a deadline")
	require.Greater(t, server.TTL(lock), time.Until(until), "the lock outlasts the deadline")
	server.FastForward(time.Until(until))
	short, cancel := context.WithTimeout(ctx, 4*trial.Poll)
	defer cancel()
	_, err := b.Adopt(short, "client", "secret", func(context.Context) (Application, error) {
		t.Error("another gateway tries the same credentials")
		return Application{}, ErrInvalidClient
	})
	require.Error(t, err)
	close(answer)
	require.ErrorIs(t, <-result, ErrInvalidClient)
}

// LearnBackend returns ErrConflict if the application keeps changing and ErrNotFound if it
// is deleted, not ErrUnavailable.
func TestLearnBackend_ConcurrentChanges(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	b, _ := testNode(t, server)
	app, err := a.ImportApplication(ctx, Application{Name: "Calendar", Active: true}, ImportedSecret{
		Hash: djangotest.Hash("at-meet", "salt", 1), ClientID: "client",
	})
	require.NoError(t, err)
	learned := BackendCredentials{ClientID: "client", ClientSecret: "at-meet"}
	saves := onScript(saveScript)
	f.set(func(cmd redis.Cmder) error {
		if saves(cmd) != nil {
			_, err := b.UpdateApplication(ctx, app.ID, 0, func(n *Application) error { n.Note += "x"; return nil })
			return err
		}
		return nil
	}, nil)
	require.ErrorIs(t, a.LearnBackend(ctx, app.ID, learned, true), ErrConflict)
	f.set(nil, nil)
	require.NoError(t, a.LearnBackend(ctx, app.ID, learned, true))
	require.NoError(t, a.DeleteApplication(ctx, app.ID, 0))
	require.ErrorIs(t, a.LearnBackend(ctx, app.ID, learned, true), ErrNotFound)
}

// A gateway runs one trial at a time. Few callers may wait for it, and only for a short
// time.
func TestAdopt_OneTrialAtATime(t *testing.T) {
	ctx := t.Context()
	a, _ := overMiniredis(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	slow := func(context.Context) (Application, error) {
		asked <- struct{}{}
		<-answer
		return Application{}, ErrInvalidClient
	}
	results := make(chan error)
	try := func(ctx context.Context, secret string) {
		_, err := a.Adopt(ctx, "client", secret, slow)
		results <- err
	}
	gone, hangUp := context.WithCancel(ctx)
	go try(gone, "first")
	<-asked
	hangUp()

	// The number of waiting callers is bounded, and so is their wait.
	for range trial.MaxWaiting {
		a.trials.Waiting <- struct{}{}
	}
	_, err := a.Adopt(ctx, "client", "second", slow)
	require.ErrorIs(t, err, ErrBusy)
	for range trial.MaxWaiting {
		<-a.trials.Waiting
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	_, err = a.Adopt(short, "client", "third", slow)
	require.Error(t, err)
	require.True(t, errors.Is(err, ErrBusy) || errors.Is(err, ErrUnavailable)) // depends on where it was waiting

	close(answer)
	require.ErrorIs(t, <-results, ErrInvalidClient)
	refused, err := a.trials.Refused(ctx, "client", "first")
	require.NoError(t, err)
	require.True(t, refused, "the refusal is stored although the caller has gone")
}

func TestAdopt_RefusalsAreHashedAndExpire(t *testing.T) {
	ctx := t.Context()
	a, server := overMiniredis(t)
	require.NoError(t, a.trials.NoteRefusal(ctx, "the-client", "the-secret"))
	require.NotContains(t, server.Dump(), "the-")
	requireExpiring(t, server)
	server.FastForward(trial.RefusalLifetime + time.Second)
	refused, err := a.trials.Refused(ctx, "the-client", "the-secret")
	require.NoError(t, err)
	require.False(t, refused)

	app, err := a.register(ctx, Application{}, "the-client", "the-secret")
	require.NoError(t, err)
	require.Equal(t, "Adopted the-client", app.Name)
	require.NotContains(t, server.Dump(), "the-secret")
	_, err = a.register(ctx, Application{}, "the-client", "another")
	require.ErrorIs(t, err, ErrInvalidClient)
	require.NoError(t, a.DeleteApplication(ctx, app.ID, 0))
	_, err = a.register(ctx, Application{}, "the-client", "the-secret")
	require.ErrorIs(t, err, ErrInvalidClient, "the application was removed during the trial")
	require.Equal(t, "removed_here", Reason(err))

	server.Close()
	_, err = a.Adopt(ctx, "other", "secret", nil)
	require.ErrorIs(t, err, ErrUnavailable)
	_, err = a.trials.Refused(ctx, "other", "secret")
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorIs(t, a.trials.NoteRefusal(ctx, "other", "secret"), ErrUnavailable)
	_, err = a.register(ctx, Application{}, "other", "secret")
	require.ErrorIs(t, err, ErrUnavailable)
}

// Two gateways that register the same client id concurrently get one application.
func TestAdopt_RegistersOnce(t *testing.T) {
	_, a, b := testPair(t)
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			app, err := []*Authority{a, b}[i%2].register(t.Context(), Application{}, "the-client", "the-secret")
			if assert.NoError(t, err) {
				ids[i] = app.ID
			}
		})
	}
	wg.Wait()
	require.NotEmpty(t, ids[0])
	require.Len(t, slices.Compact(ids), 1)
}
