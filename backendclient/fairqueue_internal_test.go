// SPDX-License-Identifier: MIT

package backendclient

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// isGranted reports whether the ticket has its slot.
func isGranted(mine *ticket) bool {
	select {
	case <-mine.granted:
		return true
	default:
		return false
	}
}

// The first caller of an application waits for one caller of a busy application, not for all
// of them.
func TestFairQueue_FloodDelaysItsOwnApplication(t *testing.T) {
	t.Parallel()
	q := newFairQueue(1)
	running := q.ask("flood")
	require.True(t, isGranted(running))
	var flood []*ticket
	for range 100 {
		flood = append(flood, q.ask("flood"))
	}
	quiet, second := q.ask("quiet"), q.ask("quiet")

	q.leave(running)
	require.True(t, isGranted(flood[0]))
	q.leave(flood[0])
	require.True(t, isGranted(quiet), "it is granted after one ticket of the flood")
	require.False(t, isGranted(flood[1]))
	q.leave(quiet)
	require.True(t, isGranted(flood[1]))
	require.False(t, isGranted(second))
	q.leave(flood[1])
	require.True(t, isGranted(second))
	q.leave(second)

	for _, mine := range flood[2:] {
		require.True(t, isGranted(mine), "tickets of one application are granted in order")
		q.leave(mine)
	}
	require.Equal(t, 1, q.free)
	require.Zero(t, q.order.Len())
	require.Empty(t, q.waiting)
}

// A caller who stops waiting leaves nothing behind, and its slot goes to the next ticket.
func TestFairQueue_AbandonedTickets(t *testing.T) {
	t.Parallel()
	q := newFairQueue(2)
	a, b := q.ask("a"), q.ask("b")
	c, d, e := q.ask("c"), q.ask("d"), q.ask("c")
	q.leave(c)
	q.leave(a)
	require.True(t, isGranted(e), "the application keeps its place in the queue")
	require.False(t, isGranted(d))
	q.leave(d)
	q.leave(b)
	q.leave(e)
	require.Equal(t, 2, q.free)
	require.Zero(t, q.order.Len())
	require.Empty(t, q.waiting)
}

// The queue of one application is bounded. Other applications can still queue.
func TestFairQueue_BoundsEachApplication(t *testing.T) {
	t.Parallel()
	q := newFairQueue(1)
	running := q.ask("flood")
	var waiting []*ticket
	for range maxQueued {
		waiting = append(waiting, q.ask("flood"))
	}
	require.NotContains(t, waiting, (*ticket)(nil))
	require.Nil(t, q.ask("flood"))
	quiet := q.ask("quiet")
	require.NotNil(t, quiet)
	for _, mine := range append(waiting, quiet, running) {
		q.leave(mine)
	}
	require.Equal(t, 1, q.free)
	require.Empty(t, q.waiting)
}

// A spare slot is granted only while at least half of the slots stay free for callers.
func TestFairQueue_SpareLeavesHalf(t *testing.T) {
	t.Parallel()
	for size, spare := range []int{0, 0, 1, 1, 2, 2, 3} {
		q := newFairQueue(size)
		var taken []*ticket
		for mine := q.spare(); mine != nil; mine = q.spare() {
			require.True(t, isGranted(mine))
			taken = append(taken, mine)
		}
		require.Len(t, taken, spare, "of %d", size)
		for range size - spare {
			mine := q.ask("caller")
			require.True(t, isGranted(mine), "callers take the rest")
			taken = append(taken, mine)
		}
		require.Nil(t, q.spare())
		waiting := q.ask("caller")
		for i, mine := range taken {
			q.leave(mine)
			require.True(t, isGranted(waiting), "a waiting caller is granted first")
			require.Equal(t, i, q.free)
		}
		q.leave(waiting)
		require.Equal(t, size, q.free)
	}
}

// Applications that share Meet credentials still queue separately.
func TestExchanges_FloodDelaysItsOwnApplication(t *testing.T) {
	t.Parallel()
	arrived, answer := make(chan string), make(chan struct{})
	c, err := New(Options{Host: "meet.example.org", MaxExchanges: 1, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		var asked struct{ Scope string }
		_ = json.NewDecoder(r.Body).Decode(&asked)
		arrived <- asked.Scope
		<-answer
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: -1,
			Body: io.NopCloser(strings.NewReader(`{"access_token":"a.b.c","expires_in":3600}`)),
		}, nil
	})})
	require.NoError(t, err)
	var callers sync.WaitGroup
	defer callers.Wait()
	ask := func(application, mail string) {
		callers.Go(func() {
			caller := Caller{Credentials: Credentials{ClientID: "shared", ClientSecret: "s"}, Application: application, Mail: mail}
			_, _ = c.Token(t.Context(), caller)
		})
	}
	waiting := func() (n int) {
		c.turns.mu.Lock()
		defer c.turns.mu.Unlock()
		for _, queue := range c.turns.waiting {
			n += queue.turns.Len()
		}
		return n
	}
	const flood = 20
	for i := range flood {
		ask("flood", fmt.Sprintf("u%d@example.org", i))
	}
	<-arrived // the first exchange of the flood
	require.Eventually(t, func() bool { return waiting() == flood-1 }, 10*time.Second, time.Millisecond)
	ask("quiet", "ada@example.org")
	require.Eventually(t, func() bool { return waiting() == flood }, 10*time.Second, time.Millisecond)

	var order []string
	for range flood {
		answer <- struct{}{}
		order = append(order, <-arrived)
	}
	answer <- struct{}{}
	require.Contains(t, order[:2], "ada@example.org")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
