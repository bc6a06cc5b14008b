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
	soakDuration = "CLUSTER_SOAK" // duration, such as 10m; default: 20s
	soakSeed     = "CLUSTER_SEED" // a number; default: see package seed
)

// TestSoak runs three gateways on a Redis group watched by Sentinels, under load, with one random
// fault at a time.
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
		s.sleepUpTo(500 * time.Millisecond) // undisturbed
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

// sleepUpTo waits for a random time of at most d. No verdict depends on it.
func (s *soak) sleepUpTo(d time.Duration) { time.Sleep(time.Duration(s.random.Int64N(int64(d)))) }

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
		{"failover by order", nil, []excuse{storeUnavailable}, func() { s.redis.Failover(t) }},
		{"primary killed", nil, []excuse{storeUnavailable}, func() {
			primary.Kill(t)
			s.redis.AwaitFailover(t, primary)
			s.sleepUpTo(time.Second)
			primary.Start(t)
			s.redis.AwaitReplica(t)
		}},
		{"primary silent until it is replaced", nil, []excuse{storeUnavailable}, func() {
			primary.Pause(t)
			s.redis.AwaitFailover(t, primary)
			s.sleepUpTo(time.Second)
			primary.Resume(t)
			s.redis.AwaitReplica(t)
		}},
		{"primary silent for a moment", nil, []excuse{storeUnavailable}, func() {
			primary.Pause(t)
			s.sleepUpTo(time.Second) // Sentinels wait for two
			primary.Resume(t)
		}},
		{"connections to Redis closed", nil, []excuse{storeUnavailable}, func() {
			for _, kind := range []string{"normal", "pubsub"} {
				_ = primary.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes").Err() // the connection of the command may close too
			}
		}},
		{"feeds cut", nil, nil, func() { primary.CutFeeds(t) }},
		{"a sentinel killed", nil, nil, func() {
			sentinel := s.redis.Sentinels[s.random.IntN(len(s.redis.Sentinels))]
			sentinel.Kill(t)
			s.sleepUpTo(time.Second)
			sentinel.Start(t)
		}},
		{"gateway killed", g, []excuse{gatewayUnavailable}, func() {
			g.kill()
			s.sleepUpTo(time.Second)
			g.start(t)
		}},
		{"gateway asleep", g, []excuse{storeUnavailable}, func() { // its pending commands time out
			g.pause(t)
			s.sleepUpTo(2 * s.c.staleness)
			g.resume(t)
		}},
		{"gateway reloaded", g, nil, func() {
			a := g.reload(t, g.config)
			require.Equal(t, http.StatusOK, a.Status, a.Body)
		}},
		{"Meet unavailable", nil, []excuse{meetUnavailable}, func() {
			s.c.meet.fail(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			s.sleepUpTo(time.Second)
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
