// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// startDelayed relays connections and holds back what a client sends, so that each
// question takes the delay longer. It costs this process CPU, not the one measured.
func startDelayed(to string, delay time.Duration) (*toxiproxy.Proxy, error) {
	relay := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "delayed", "127.0.0.1:0", to)
	if err := relay.Start(); err != nil {
		return nil, err
	}
	latency := fmt.Sprintf(`{"type":"latency","stream":"upstream","attributes":{"latency":%d}}`, delay.Milliseconds())
	_, err := relay.Toxics.AddToxicJson(strings.NewReader(latency))
	return relay, err
}

// redisDelay is how far away Redis is in the table of trips.
const redisDelay = time.Millisecond

// trips is how long one caller waits with Redis beside the gateway and with Redis a
// delay away, in milliseconds, and how many times the delay that is.
type trips struct {
	Name      string
	Near, Far float64
	Budget    float64 // of trips, 0 for none
}

// Trips is for the report.
func (t trips) Trips() float64 {
	return (t.Far - t.Near) / (float64(redisDelay) / float64(time.Millisecond))
}

// farRedis measures, one request after the other, what a Redis that is a millisecond
// away adds to each kind of request.
func (b *bench) farRedis(ctx context.Context) error {
	if err := b.report.Speeds.note("trips"); err != nil {
		return err
	}
	relay, err := startDelayed(b.redis.address, redisDelay)
	if err != nil {
		return err
	}
	defer relay.Stop()
	near, err := b.startGate(ctx, "gate-near", gateOptions{})
	if err != nil {
		return err
	}
	defer near.stop()
	far, err := b.startGate(ctx, "gate-far", gateOptions{redis: relay.Listen})
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
		budget    float64
		near, far []request
	}{
		{"a read with a known token", 0, known.requests, known.requests},
		{"the first read of a user here, Meet's token in Redis", 0, reads(fresh[:n]), reads(fresh[n : 2*n])},
		{"a read with a token not known here", 0, reads(fresh[2*n : 3*n]), reads(fresh[3*n:])},
		{"`POST application/token`, exchange cached", 2, []request{token}, []request{token}},
		{"`POST application/token` for a user that is new, exchange included", 0, firsts[:n], firsts[n:]},
		{"`GET /identity`", 2, []request{identity}, []request{identity}},
	} {
		t := trips{Name: kind.name, Budget: kind.budget}
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
	return spreadOf(took, itself).Median, nil
}

// caller keeps a connection for each of its requests under way.
var caller = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}

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
	res, err := caller.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, errors.Join(err, res.Body.Close())
}
