// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is seen all the time must not be asked for or written all the time.
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

	// Places to wait are bounded, and so is the time.
	for range maxWaitingTrials {
		a.trials.waiting <- struct{}{}
	}
	_, err := a.Adopt(ctx, "client", "second", slow)
	require.ErrorIs(t, err, ErrBusy)
	for range maxWaitingTrials {
		<-a.trials.waiting
	}
	impatient, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	_, err = a.Adopt(impatient, "client", "third", slow)
	require.Error(t, err)
	require.True(t, errors.Is(err, ErrBusy) || errors.Is(err, ErrUnavailable)) // wherever it was when its time was over

	close(answer)
	require.ErrorIs(t, <-results, ErrInvalidClient)
	refused, err := a.WasRefused(ctx, "client", "first")
	require.NoError(t, err)
	require.True(t, refused, "remembered, though the caller has hung up")
}

func TestAdopt_NothingInClearAndNotForLong(t *testing.T) {
	ctx := t.Context()
	a, server := overMiniredis(t)
	require.NoError(t, a.RememberRefusal(ctx, "the-client", "the-secret"))
	require.NotContains(t, server.Dump(), "the-")
	requireExpiring(t, server)
	server.FastForward(refusalLifetime + time.Second)
	refused, err := a.WasRefused(ctx, "the-client", "the-secret")
	require.NoError(t, err)
	require.False(t, refused)

	app, err := a.AdoptApplication(ctx, Application{}, "the-client", "the-secret")
	require.NoError(t, err)
	require.Equal(t, "Adopted the-client", app.Name)
	require.NotContains(t, server.Dump(), "the-secret")

	server.Close()
	_, err = a.Adopt(ctx, "other", "secret", nil)
	require.ErrorIs(t, err, ErrUnavailable)
	_, err = a.WasRefused(ctx, "other", "secret")
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorIs(t, a.RememberRefusal(ctx, "other", "secret"), ErrUnavailable)
	_, err = a.AdoptApplication(ctx, Application{}, "other", "secret")
	require.ErrorIs(t, err, ErrUnavailable)
}
