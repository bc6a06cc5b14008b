// SPDX-License-Identifier: MIT

package tests

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// listenQueue is the listener of a Meet without free workers. While it is shut, the kernel
// accepts connections and requests, but nothing reads them.
type listenQueue struct {
	net.Listener
	mu   sync.Mutex
	open chan struct{} // closed while connections are accepted
}

func newListenQueue(t *testing.T, address string) *listenQueue {
	t.Helper()
	var l net.Listener
	require.Eventually(t, func() bool {
		var err error
		l, err = net.Listen("tcp", address)
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	q := &listenQueue{Listener: l, open: make(chan struct{})}
	close(q.open)
	return q
}

func (q *listenQueue) shut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = make(chan struct{})
}

func (q *listenQueue) reopen() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.open)
}

func (q *listenQueue) gate() chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open
}

// Accept may have begun before the queue was shut, so connections wait here too.
func (q *listenQueue) Accept() (net.Conn, error) {
	conn, err := q.Listener.Accept()
	if err == nil {
		<-q.gate()
	}
	return conn, err
}

// madeRooms counts the creations that a Meet carried out, by request id.
type madeRooms struct {
	mu   sync.Mutex
	made map[string]int
}

func (m *madeRooms) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context()))) // Meet's workers do not notice a disconnect
		if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, roomsPath) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.made[r.Header.Get("X-Request-Id")]++
		}
	})
}

func (m *madeRooms) of(a *gatewaytest.Answer) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made[a.Header.Get("X-Request-Id")]
}

func (m *madeRooms) all() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.made)
}

// A restart of Meet may lose requests in its listen queue. The answer to every creation must be
// right: created, unknown, or not carried out.
func TestMeet_RestartHidesNoRoom(t *testing.T) {
	made := &madeRooms{made: map[string]int{}}
	var handler http.Handler
	meet := strictMeet(t, func(next http.Handler) http.Handler {
		handler = made.count(next)
		return handler
	})
	queue := newListenQueue(t, "127.0.0.1:0")
	serve := func(q *listenQueue) *http.Server {
		server := &http.Server{Handler: handler}
		server.SetKeepAlivesEnabled(false) // every request waits in the queue
		go func() { _ = server.Serve(q) }()
		return server
	}
	server := serve(queue)
	t.Cleanup(func() { server.Close() })
	meet.Address = queue.Addr().String()
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend() + "\nrequest_timeout 300ms"})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	create := func(key string) *gatewaytest.Answer {
		return g.Do("POST", roomsPath, "{}", "Authorization", token, "Content-Type", jsonType, "Idempotency-Key", key)
	}
	const each = 8
	atOnce := func(name string) []*gatewaytest.Answer {
		answers := make([]*gatewaytest.Answer, each)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() { answers[i] = create(fmt.Sprintf("%s-%d", name, i)) })
		}
		all.Wait()
		return answers
	}
	unknown := func(a *gatewaytest.Answer) bool {
		return a.Status != 201 && strings.Contains(a.Body, "may have been carried out")
	}

	queue.shut()
	late := atOnce("late") // Meet handles the requests after the callers' timeouts
	queue.reopen()
	require.Eventually(t, func() bool { return made.all() == each }, 20*time.Second, 10*time.Millisecond)

	queue.shut()
	lost := atOnce("lost") // Meet restarts and loses the queue
	queue.reopen()
	server.Close()
	closed := atOnce("closed") // no listener
	queue = newListenQueue(t, meet.Address)
	server = serve(queue)

	for name, answers := range map[string][]*gatewaytest.Answer{"late": late, "lost": lost, "closed": closed} {
		for i, first := range answers {
			said := fmt.Sprintf("%s-%d: %d %s", name, i, first.Status, first.Body)
			require.Equal(t, name != "closed", unknown(first), said)
			before := made.of(first)
			require.LessOrEqual(t, before, 1, said)
			require.True(t, before == 0 || unknown(first), "an unreported room: %s", said)
			again := create(fmt.Sprintf("%s-%d", name, i))
			if unknown(first) {
				require.Equal(t, 409, again.Status, said)
				require.Equal(t, 0, made.of(again), "the key creates no second room: %s", said)
			} else {
				require.NotEmpty(t, first.Header.Get("Retry-After"), said)
				require.Equal(t, 201, again.Status, "the request had no effect, so the key is free: %s", again.Body)
			}
		}
	}
	require.Equal(t, each, strings.Count(fmt.Sprint(statuses(late)), "504"), "a timeout, not an outage of Meet")
	require.GreaterOrEqual(t, made.all(), 2*each)
}

func statuses(answers []*gatewaytest.Answer) (list []int) {
	for _, a := range answers {
		list = append(list, a.Status)
	}
	return list
}
