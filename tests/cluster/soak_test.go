// SPDX-License-Identifier: MIT

package cluster

import (
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tests/seed"
)

// Environment variables of TestSoak.
const (
	soakDuration = "CLUSTER_SOAK" // how long, such as 10m; default 20s
	soakSeed     = "CLUSTER_SEED" // a number; default: see package seed
)

// TestSoak: three gateways, a Redis watched by Sentinels, load, and random faults, one at a time.
func TestSoak(t *testing.T) {
	t.Parallel()
	duration := 20 * time.Second
	if text := os.Getenv(soakDuration); text != "" {
		var err error
		duration, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	from := seed.Of(t, soakSeed)
	t.Logf("%s=%s", soakDuration, duration)

	redis := redistest.Sentinel(t)
	c := startCluster(t, settings{store: sentinelStore(redis)})
	l := newLedger(c.staleness)
	s := &soak{
		load:  startLoad(t, c, l, c.nodes[0].addApplication(t, ""), 6, from),
		redis: redis, random: rand.New(rand.NewPCG(from, from)),
	}
	for end := time.Now().Add(duration); time.Now().Before(end); {
		s.last(500 * time.Millisecond) // undisturbed
		s.fault(t)
	}
	s.more(t, 100)
	s.audit()
	s.end()
	s.checkCreates(t)
	l.report(t)
}

type soak struct {
	*load
	redis  *redistest.SentinelServers
	random *rand.Rand
}

// last lets a fault, or a pause, last for at most d. No verdict depends on it.
func (s *soak) last(d time.Duration) { time.Sleep(time.Duration(s.random.Int64N(int64(d)))) }

// fault injects one fault, waits for its effects, and ends it.
func (s *soak) fault(t *testing.T) {
	t.Helper()
	g := s.c.nodes[s.random.IntN(len(s.c.nodes))]
	primary := s.redis.Master(t)
	faults := []struct {
		name    string
		node    *gateway
		excuses []excuse
		do      func()
	}{
		{"failover by order", nil, []excuse{storeAway}, func() { s.redis.Failover(t) }},
		{"primary killed", nil, []excuse{storeAway}, func() {
			primary.Kill(t)
			s.redis.AwaitFailover(t, primary)
			s.last(time.Second)
			primary.Start(t)
			s.redis.AwaitReplica(t)
		}},
		{"primary silent until it is replaced", nil, []excuse{storeAway}, func() {
			primary.Pause(t)
			s.redis.AwaitFailover(t, primary)
			s.last(time.Second)
			primary.Resume(t)
			s.redis.AwaitReplica(t)
		}},
		{"primary silent for a moment", nil, []excuse{storeAway}, func() {
			primary.Pause(t)
			s.last(time.Second) // Sentinels wait for two
			primary.Resume(t)
		}},
		{"connections to Redis closed", nil, []excuse{storeAway}, func() {
			for _, kind := range []string{"normal", "pubsub"} {
				_ = primary.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes").Err() // its own answer may get lost
			}
		}},
		{"feeds cut", nil, nil, func() { primary.CutFeeds(t) }},
		{"a sentinel killed", nil, nil, func() {
			sentinel := s.redis.Sentinels[s.random.IntN(len(s.redis.Sentinels))]
			sentinel.Kill(t)
			s.last(time.Second)
			sentinel.Start(t)
		}},
		{"gateway killed", g, []excuse{gatewayAway}, func() {
			g.kill()
			s.last(time.Second)
			g.start(t)
		}},
		{"gateway asleep", g, []excuse{storeAway}, func() { // its own calls run into their timeouts
			g.pause(t)
			s.last(2 * s.c.staleness)
			g.resume(t)
		}},
		{"gateway reloaded", g, nil, func() {
			a := g.reload(t, g.config)
			require.Equal(t, http.StatusOK, a.Status, a.Body)
		}},
		{"Meet away", nil, []excuse{meetAway}, func() {
			s.c.meet.fail(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			s.last(time.Second)
			s.c.meet.repair()
		}},
	}
	f := faults[s.random.IntN(len(faults))]
	t.Log(f.name)
	over := s.l.begin(f.name, f.node, f.excuses...)
	f.do()
	s.recovered(t)
	over()
}
