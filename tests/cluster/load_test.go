// SPDX-License-Identifier: MIT

package cluster

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// pause is the time between two requests of a worker, for a steady and light load.
const pause = 10 * time.Millisecond

// liveTokens is the number of live tokens that a load uses.
const liveTokens = 48

// load runs clients that use, request and revoke tokens and report every wrong answer.
type load struct {
	c   *cluster
	l   *ledger
	app application

	stop    chan struct{}
	workers sync.WaitGroup

	mu      sync.Mutex
	creates map[string]int // status by request id; 0: no answer
}

// startLoad runs n clients until end is called. Their actions are drawn from seed.
func startLoad(t testing.TB, c *cluster, l *ledger, app application, n int, seed uint64) *load {
	t.Helper()
	o := &load{c: c, l: l, app: app, stop: make(chan struct{}), creates: map[string]int{}}
	for i := range n {
		o.workers.Go(func() { o.work(rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	t.Cleanup(o.end)
	return o
}

// end returns when all clients have stopped.
func (o *load) end() {
	select {
	case <-o.stop:
	default:
		close(o.stop)
	}
	o.workers.Wait()
}

// more waits for n more requests.
func (o *load) more(t testing.TB, n int) {
	t.Helper()
	want := o.l.total() + n
	eventually(t, "more requests", func() bool { return o.l.total() >= want })
}

func (o *load) work(random *rand.Rand) {
	for round := 0; ; round++ {
		select {
		case <-o.stop:
			return
		case <-time.After(pause):
		}
		g := o.c.nodes[random.IntN(len(o.c.nodes))]
		k, live := o.pick(random)
		switch n := random.IntN(100); {
		case k == nil || n < 12 && live < liveTokens:
			o.mint(g, fmt.Sprintf("user-%d@example.org", random.IntN(40)))
		case n < 22 && !k.kept:
			o.revoke(g, k)
		case n < 30:
			o.ask(request{node: g, what: "identity"}, k, http.MethodGet, identityPath)
		case n < 38:
			o.create(g, k, fmt.Sprintf("create-%d-%x", round, random.Uint64()))
		default:
			o.ask(request{node: g, what: "rooms"}, k, http.MethodGet, roomsPath)
		}
	}
}

// pick returns a token, mostly a live one, and the number of live ones.
func (o *load) pick(random *rand.Rand) (k *issued, live int) {
	all := o.l.all()
	var usable, ended []*issued
	for _, k := range all {
		if doubtful, _ := k.state(); doubtful.IsZero() {
			usable = append(usable, k)
		} else {
			ended = append(ended, k)
		}
	}
	pool := usable
	if len(ended) > 0 && (len(usable) == 0 || random.IntN(4) == 0) {
		pool = ended
	}
	if len(pool) == 0 {
		return nil, 0
	}
	return pool[random.IntN(len(pool))], len(usable)
}

// send makes a request, and repeats it after a broken connection: a reload of Caddy closes the old
// listening socket, and the kernel resets connections that were not accepted. All requests here
// may be repeated.
func (o *load) send(r *request, do func() (*gatewaytest.Answer, error)) {
	r.began = time.Now()
	r.answer, r.err = do()
	for try := 0; r.err != nil && try < 3; try++ {
		o.l.count("connections broken")
		r.began = time.Now()
		r.answer, r.err = do()
	}
	r.ended = time.Now()
}

func (o *load) ask(r request, k *issued, method, path string) {
	o.send(&r, func() (*gatewaytest.Answer, error) {
		return r.node.try(method, path, "", "Authorization", gatewaytest.Bearer(k.value))
	})
	o.l.judge(r, k)
}

func (o *load) mint(g *gateway, mail string) {
	r := request{node: g, what: "token request"}
	o.send(&r, func() (*gatewaytest.Answer, error) { return o.app.mint(g, mail) })
	if o.l.judge(r, nil) {
		o.l.add(&issued{app: o.app, value: between(r.answer.Body, `"access_token":"`, `"`)})
	}
}

func (o *load) revoke(g *gateway, k *issued) {
	r := request{node: g, what: "revocation"}
	k.doubt()
	o.send(&r, func() (*gatewaytest.Answer, error) { return k.app.revoke(g, k.value) })
	if o.l.judge(r, nil) {
		k.end()
	}
}

// create creates a room, with an Idempotency-Key so that the request may be repeated.
func (o *load) create(g *gateway, k *issued, id string) {
	r := request{node: g, what: "creation"}
	o.send(&r, func() (*gatewaytest.Answer, error) { return g.create(k.value, id, "Idempotency-Key", id) })
	status := 0
	if r.answer != nil {
		status = r.answer.Status
	}
	o.mu.Lock()
	o.creates[id] = status
	o.mu.Unlock()
	if status == http.StatusConflict && o.l.excused(g, gatewayUnavailable, r.began.Add(-pause), r.ended) {
		o.l.count("the outcome of a creation is unknown to an unavailable gateway")
		return
	}
	o.l.judge(r, k)
}

// checkCreates compares the answers to creations with the requests that reached Meet. A creation
// answered 201 reached it once, a refused one never, and none twice.
func (o *load) checkCreates(t testing.TB) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, status := range o.creates {
		arrived := o.c.meet.created(id)
		switch {
		case status == http.StatusCreated && arrived != 1,
			status == http.StatusUnauthorized && arrived != 0,
			arrived > 1:
			t.Errorf("a creation answered with %d arrived %d times", status, arrived)
		}
	}
}

// between returns the text between two others, or "".
func between(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}
