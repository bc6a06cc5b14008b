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

func hasCome(mine *ticket) bool {
	select {
	case <-mine.granted:
		return true
	default:
		return false
	}
}

// One application that asks for very many users keeps another's first one waiting
// for one turn, not for all of its own.
func TestTurns_AFloodDelaysItsOwnApplicationOnly(t *testing.T) {
	t.Parallel()
	all := newFairQueue(1)
	running := all.ask("flood")
	require.True(t, hasCome(running))
	var flood []*ticket
	for range 100 {
		flood = append(flood, all.ask("flood"))
	}
	quiet, second := all.ask("quiet"), all.ask("quiet")

	all.leave(running)
	require.True(t, hasCome(flood[0]))
	all.leave(flood[0])
	require.True(t, hasCome(quiet), "its turn comes after one of the flood's")
	require.False(t, hasCome(flood[1]))
	all.leave(quiet)
	require.True(t, hasCome(flood[1]))
	require.False(t, hasCome(second))
	all.leave(flood[1])
	require.True(t, hasCome(second))
	all.leave(second)

	for _, mine := range flood[2:] {
		require.True(t, hasCome(mine), "within an application who came first")
		all.leave(mine)
	}
	require.Equal(t, 1, all.free)
	require.Zero(t, all.order.Len())
	require.Empty(t, all.waiting)
}

// Who gives up waiting leaves nothing behind, and nobody's turn is lost with it.
func TestTurns_GivingUp(t *testing.T) {
	t.Parallel()
	all := newFairQueue(2)
	a, b := all.ask("a"), all.ask("b")
	c, d, e := all.ask("c"), all.ask("d"), all.ask("c")
	all.leave(c)
	all.leave(a)
	require.True(t, hasCome(e), "its application keeps its place")
	require.False(t, hasCome(d))
	all.leave(d)
	all.leave(b)
	all.leave(e)
	require.Equal(t, 2, all.free)
	require.Zero(t, all.order.Len())
	require.Empty(t, all.waiting)
}

// Of one application no more than so many wait, and others go on asking.
func TestTurns_AreBounded(t *testing.T) {
	t.Parallel()
	all := newFairQueue(1)
	running := all.ask("flood")
	var waiting []*ticket
	for range maxQueued {
		waiting = append(waiting, all.ask("flood"))
	}
	require.NotContains(t, waiting, (*ticket)(nil))
	require.Nil(t, all.ask("flood"))
	quiet := all.ask("quiet")
	require.NotNil(t, quiet)
	for _, mine := range append(waiting, quiet, running) {
		all.leave(mine)
	}
	require.Equal(t, 1, all.free)
	require.Empty(t, all.waiting)
}

// A spare turn is one of those beyond the half that is left to callers.
func TestTurns_Spare(t *testing.T) {
	t.Parallel()
	for size, spare := range []int{0, 0, 1, 1, 2, 2, 3} {
		all := newFairQueue(size)
		var taken []*ticket
		for mine := all.spare(); mine != nil; mine = all.spare() {
			require.True(t, hasCome(mine))
			taken = append(taken, mine)
		}
		require.Len(t, taken, spare, "of %d", size)
		for range size - spare {
			mine := all.ask("caller")
			require.True(t, hasCome(mine), "callers take the rest")
			taken = append(taken, mine)
		}
		require.Nil(t, all.spare())
		waiting := all.ask("caller")
		for i, mine := range taken {
			all.leave(mine)
			require.True(t, hasCome(waiting), "who waits comes first")
			require.Equal(t, i, all.free)
		}
		all.leave(waiting)
		require.Equal(t, size, all.free)
	}
}

// Applications that present the same credentials at Meet are told apart all the same.
func TestExchanges_AFloodDelaysItsOwnApplicationOnly(t *testing.T) {
	t.Parallel()
	came, answer := make(chan string), make(chan struct{})
	c, err := New(Options{Host: "meet.example.org", MaxExchanges: 1, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		var asked struct{ Scope string }
		_ = json.NewDecoder(r.Body).Decode(&asked)
		came <- asked.Scope
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
	<-came // the first of them
	require.Eventually(t, func() bool { return waiting() == flood-1 }, 10*time.Second, time.Millisecond)
	ask("quiet", "ada@example.org")
	require.Eventually(t, func() bool { return waiting() == flood }, 10*time.Second, time.Millisecond)

	var order []string
	for range flood {
		answer <- struct{}{}
		order = append(order, <-came)
	}
	answer <- struct{}{}
	require.Contains(t, order[:2], "ada@example.org")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
