// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type valueKey struct{}

func TestTimeoutPool_EndsOverdueAndAbandoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newTimeoutPool(time.Second)
		client, leave := context.WithCancel(context.WithValue(t.Context(), valueKey{}, "kept"))
		defer leave()
		overdue, abandoned := d.begin(t.Context()), d.begin(client)
		require.Equal(t, "kept", abandoned.Value(valueKey{}))
		due, ok := overdue.Deadline()
		require.True(t, ok)
		require.Equal(t, time.Now().Add(time.Second), due)

		leave()
		<-abandoned.Done()
		require.ErrorIs(t, d.end(abandoned, false), context.Canceled)
		require.NoError(t, overdue.Err())
		<-overdue.Done()
		require.Less(t, time.Since(due), 2*d.tick)
		require.ErrorIs(t, d.end(overdue, false), context.DeadlineExceeded)

		again := d.begin(t.Context())
		require.NoError(t, again.Err(), "an ended context is not reused")
		require.NoError(t, d.end(again, true))
		time.Sleep(time.Minute)
		d.mu.Lock()
		defer d.mu.Unlock()
		require.Empty(t, d.all, "idle contexts are released")
		require.Nil(t, d.timer)
	})
}

func TestTimeoutPool_ReusesOnlyAfterSuccess(t *testing.T) {
	t.Parallel()
	d := newTimeoutPool(time.Hour)
	first := d.begin(t.Context())
	require.NoError(t, d.end(first, true))
	second := d.begin(t.Context())
	require.Same(t, first.lease, second.lease)

	child, cancel := context.WithCancel(second)
	defer cancel()
	require.NoError(t, d.end(second, false))
	<-child.Done() // a derived context ends too
	third := d.begin(t.Context())
	require.NotSame(t, second.lease, third.lease)
	require.NoError(t, third.Err())
	require.NoError(t, d.end(third, true))
}

// A caller who leaves must never end the request that reuses its context.
func TestTimeoutPool_RequestsAreIndependent(t *testing.T) {
	t.Parallel()
	d := newTimeoutPool(time.Hour)
	d.tick = time.Microsecond
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 2000 {
				client, leave := context.WithCancel(context.Background())
				b := d.begin(client)
				stays := (worker+i)%2 == 0
				if !stays {
					leave()
				}
				child, cancel := context.WithCancel(b)
				if stays && child.Err() != nil {
					t.Error("ended by another request")
				}
				cancel()
				if cause := d.end(b, true); stays && cause != nil {
					t.Error(cause)
				}
				leave()
			}
		})
	}
	all.Wait()
}
