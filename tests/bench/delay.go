// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// delayed relays TCP connections and holds back what the client sends, so that each
// question takes the delay longer. It costs this process CPU and not what is
// measured.
type delayed struct {
	listener net.Listener
	to       string
	delay    time.Duration
	running  sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func startDelayed(to string, delay time.Duration) (*delayed, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &delayed{listener: l, to: to, delay: delay}
	d.running.Go(d.serve)
	return d, nil
}

func (d *delayed) address() string { return d.listener.Addr().String() }

func (d *delayed) close() {
	_ = d.listener.Close()
	d.mu.Lock()
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.mu.Unlock()
	d.running.Wait()
}

func (d *delayed) serve() {
	for {
		client, err := d.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", d.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		d.mu.Lock()
		d.conns = append(d.conns, client, server)
		d.mu.Unlock()
		d.running.Go(func() { d.hold(server, client) })
		d.running.Go(func() {
			_, _ = io.Copy(client, server)
			_ = client.Close()
		})
	}
}

// piece is something that was sent and when it is due.
type piece struct {
	bytes []byte
	due   time.Time
}

// hold passes on what it reads, each piece a delay later, and reads on meanwhile.
func (d *delayed) hold(server, client net.Conn) {
	pieces := make(chan piece, 1024)
	d.running.Go(func() {
		defer server.Close()
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			if _, err := server.Write(p.bytes); err != nil {
				_ = client.Close()
			}
		}
	})
	defer close(pieces)
	buffer := make([]byte, 32<<10)
	for {
		n, err := client.Read(buffer)
		if n > 0 {
			pieces <- piece{bytes: slices.Clone(buffer[:n]), due: time.Now().Add(d.delay)}
		}
		if err != nil {
			return
		}
	}
}

// redisDelay is how far away Redis is in the table of trips.
const redisDelay = time.Millisecond

// trips is how long one caller waits with Redis beside the gateway and with Redis a
// delay away, in milliseconds, and how many times the delay that is.
type trips struct {
	Name      string
	Near, Far float64
}

// Trips is for the report.
func (t trips) Trips() float64 {
	return (t.Far - t.Near) / (float64(redisDelay) / float64(time.Millisecond))
}

// farRedis measures, one request after the other, what a Redis that is a millisecond
// away adds to each kind of request.
func (b *bench) farRedis(ctx context.Context) error {
	if !strings.Contains("far-redis", b.s.Filter) {
		return nil
	}
	relay, err := startDelayed(b.redis.address, redisDelay)
	if err != nil {
		return err
	}
	defer relay.close()
	near, err := b.startGate(ctx, "gate-near", gateOptions{})
	if err != nil {
		return err
	}
	defer near.stop()
	far, err := b.startGate(ctx, "gate-far", gateOptions{redis: relay.address()})
	if err != nil {
		return err
	}
	defer far.stop()

	const n = 100
	known, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	// n users, each with a first token and a second one for either gateway.
	fresh, err := b.platform.issue(ctx, 4*n, b.clients[:1], n)
	if err != nil {
		return err
	}
	token := b.tokenRequest(b.clients[0], string(mail(0)))
	firsts := make([]request, 2*n)
	for i := range firsts {
		firsts[i] = b.tokenRequest(b.clients[0], fmt.Sprintf("first-%d@%s", i, strings.SplitAfter(string(mail(0)), "@")[1]))
	}
	identity := request{method: http.MethodGet, path: "/identity", authorization: known.requests[0].authorization}
	for _, kind := range []struct {
		name      string
		near, far []request
	}{
		{"a read with a known token", known.requests, known.requests},
		{"the first read of a user here, Meet's token in Redis", reads(fresh[:n]), reads(fresh[n : 2*n])},
		{"a read with a token not known here", reads(fresh[2*n : 3*n]), reads(fresh[3*n:])},
		{"`POST application/token`, exchange cached", []request{token}, []request{token}},
		{"`POST application/token` for a user that is new, exchange included", firsts[:n], firsts[n:]},
		{"`GET /identity`", []request{identity}, []request{identity}},
	} {
		t := trips{Name: kind.name}
		if t.Near, err = oneByOne(ctx, near, kind.near, n); err != nil {
			return err
		}
		if t.Far, err = oneByOne(ctx, far, kind.far, n); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%-28s %s: %.2f ms, far %.2f ms: %.1f trips\n", "far-redis", t.Name, t.Near, t.Far, t.Trips())
		b.report.Trips = append(b.report.Trips, t)
	}
	return nil
}

// oneByOne sends n requests, each when the one before is answered, and returns the
// median time of an answer in milliseconds. A first one is not counted.
func oneByOne(ctx context.Context, s *server, requests []request, n int) (float64, error) {
	var took []float64
	for i := range n {
		r := requests[i%len(requests)]
		began := time.Now()
		status, err := ask(ctx, s.address, r)
		if err != nil {
			return 0, err
		}
		if status != http.StatusOK {
			return 0, fmt.Errorf("%s %s at %s: status %d", r.method, r.path, s.name, status)
		}
		if i > 0 {
			took = append(took, float64(time.Since(began).Microseconds())/1000)
		}
	}
	if len(took) == 0 {
		return 0, errors.New("nothing was measured")
	}
	return spreadOf(took, func(v float64) float64 { return v }).Median, nil
}

// ask sends one request and reads the answer.
func ask(ctx context.Context, address string, r request) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, r.method, "http://"+address+r.path, strings.NewReader(r.body))
	if err != nil {
		return 0, err
	}
	if r.authorization != "" {
		req.Header.Set("Authorization", r.authorization)
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, errors.Join(err, res.Body.Close())
}
