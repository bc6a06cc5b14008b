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
		require.NoError(t, again.lease.ended.Err(), "a free context is never overdue")
	})
}

func TestTimeoutPool_ReusesOnlyAfterSuccess(t *testing.T) {
	t.Parallel()
	d := newTimeoutPool(time.Hour)
	var reused *bounded
	require.Eventually(t, func() bool { // sync.Pool may drop a context
		first := d.begin(t.Context())
		require.NoError(t, d.end(first, true))
		reused = d.begin(t.Context())
		return reused.lease == first.lease
	}, time.Minute, time.Microsecond)

	child, cancel := context.WithCancel(reused)
	defer cancel()
	require.NoError(t, d.end(reused, false))
	<-child.Done() // a derived context ends too
	next := d.begin(t.Context())
	require.NotSame(t, reused.lease, next.lease)
	require.NoError(t, next.Err())
	require.NoError(t, d.end(next, true))
}

// A timer that was set for an earlier request bounds the next one by that one's deadline.
func TestTimeoutPool_NextRequestHasItsOwnDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newTimeoutPool(time.Second)
		for range 10 {
			b := d.begin(t.Context())
			time.Sleep(time.Second - time.Millisecond)
			require.NoError(t, b.Err())
			require.NoError(t, d.end(b, true))
		}
		b := d.begin(t.Context())
		<-b.Done()
		require.ErrorIs(t, d.end(b, false), context.DeadlineExceeded)
	})
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
