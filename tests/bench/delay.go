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

// startDelayed relays connections and delays what the client sends, so that each round trip takes
// that much longer. The relay uses CPU of this process, not of the measured one.
func startDelayed(to string, delay time.Duration) (*toxiproxy.Proxy, error) {
	relay := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "delayed", "127.0.0.1:0", to)
	if err := relay.Start(); err != nil {
		return nil, err
	}
	latency := fmt.Sprintf(`{"type":"latency","stream":"upstream","attributes":{"latency":%d}}`, delay.Milliseconds())
	_, err := relay.Toxics.AddToxicJson(strings.NewReader(latency))
	return relay, err
}

// redisDelay is the added round-trip time to Redis in the table of trips.
const redisDelay = time.Millisecond

// trips holds the time that one caller waits with a local Redis and with a delayed one, in
// milliseconds.
type trips struct {
	Name      string
	Near, Far float64
	Budget    float64 // largest permitted number of round trips, 0 for none
}

// Trips returns the number of round trips that the caller waits for.
func (t trips) Trips() float64 {
	return (t.Far - t.Near) / (float64(redisDelay) / float64(time.Millisecond))
}

// farRedis measures what a delay of Redis by one millisecond adds to each kind of request. It
// sends one request at a time.
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
	// Each of n users has two tokens for each gateway.
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
		{"the first read of a user on a node, with Meet's token in Redis", 0, reads(fresh[:n]), reads(fresh[n : 2*n])},
		{"a read with a new token", 0, reads(fresh[2*n : 3*n]), reads(fresh[3*n:])},
		{"`POST application/token`, exchange cached", 2, []request{token}, []request{token}},
		{"`POST application/token` for a new user, exchange included", 0, firsts[:n], firsts[n:]},
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

// oneByOne sends n requests sequentially and returns the median response time in milliseconds,
// without the first.
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

// caller keeps a connection for each concurrent request.
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
