// SPDX-License-Identifier: MIT

package cluster

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// drawFault prepares a random fault. Seeds keep their meaning only if the order of the faults and
// of the random numbers stays.
func (s *campaign) drawFault() *trouble {
	i := s.random.IntN(len(s.c.nodes))
	f := &injector{campaign: s, gateway: s.c.nodes[i], network: s.networks[i]}
	faults := slices.Concat(
		f.primaryFaults(),
		f.silentPrimaryFaults(),
		f.replicaFaults(),
		f.sentinelFaults(),
		f.serverFaults(),
		f.networkFaults(),
		f.gatewayFaults(),
	)
	faults = slices.DeleteFunc(faults, func(f *trouble) bool { return !s.only.MatchString(f.name) })
	return faults[s.random.IntN(len(faults))]
}

// injector injects one fault. The sleeps in inject are the duration of the fault.
type injector struct {
	*campaign
	gateway *gateway           // the target of faults of one gateway
	network *redistest.Network // of gateway
	target  *redistest.Server
	chosen  []*redistest.Server
}

var unavailable = []excuse{storeUnavailable}

// primaryFaults replace the primary or lose its data.
func (f *injector) primaryFaults() []*trouble {
	return []*trouble{
		{name: "failover by order", excuses: unavailable, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			f.orderFailover()
			f.awaitFailover(f.target)
		}},
		{name: "two failovers by order", excuses: unavailable, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			f.orderFailover()
			f.awaitFailover(f.target)
			f.sleepUpTo(4 * time.Second)
			f.target = f.awaitPrimary()
			f.orderFailover()
			f.awaitFailover(f.target)
		}},
		{name: "primary killed, back empty", excuses: unavailable, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			f.kill(f.target)
			f.awaitFailover(f.target)
			f.sleepUpTo(3 * time.Second)
		}, repair: func() { f.start(f.target) }},
		{name: "primary killed, back with old data", excuses: unavailable, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			if f.old = nil; !f.aof && ask(f.target, "PING") != nil {
				f.old = f.target.SaveSnapshot(f.t)
				time.Sleep(2 * time.Second) // so that the snapshot is outdated
			}
			f.kill(f.target)
			f.awaitFailover(f.target)
			f.sleepUpTo(3 * time.Second)
		}, repair: func() {
			if f.old == nil {
				f.start(f.target)
			} else {
				f.target.RestoreSnapshot(f.t, f.old)
				f.backWithoutFile(f.target)
			}
		}},
		{name: "primary restarted at once", excuses: unavailable, loses: !f.aof, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			f.kill(f.target)
			f.sleepUpTo(1500 * time.Millisecond)
			f.start(f.target)
		}},
		{name: "primary restored from a snapshot at once", excuses: unavailable, loses: true, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			if f.aof { // the append-only file would win over the snapshot
				ask(f.target, "FLUSHALL", "SYNC")
				return
			}
			if ask(f.target, "PING") == nil {
				return
			}
			old := f.target.SaveSnapshot(f.t)
			f.sleepBetween(time.Second, 4*time.Second)
			f.target.RestoreSnapshot(f.t, old)
		}},
		{name: "emptied", excuses: unavailable, loses: true, inject: func() { ask(f.awaitPrimary(), "FLUSHALL", "SYNC") }, repair: func() { time.Sleep(time.Second) }},
	}
}

// silentPrimaryFaults suspend the primary.
func (f *injector) silentPrimaryFaults() []*trouble {
	return []*trouble{
		{name: "primary silent for a moment", excuses: unavailable, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			f.pause(f.target)
			f.sleepUpTo(1500 * time.Millisecond)
		}, repair: func() { f.resume(f.target) }},
		{name: "primary silent until replaced", excuses: unavailable, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			f.pause(f.target)
			f.awaitFailover(f.target)
			f.sleepUpTo(3 * time.Second)
		}, repair: func() { f.resume(f.target) }},
		{name: "primary silent, back in the middle of the failover", excuses: unavailable, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			f.pause(f.target)
			f.sleepBetween(1800*time.Millisecond, 4*time.Second)
		}, repair: func() { f.resume(f.target) }},
		{name: "primary and sentinels silent for long", excuses: unavailable, inject: func() {
			f.target = f.awaitPrimary()
			each(f.redis.Sentinels, f.pause)
			f.pause(f.target)
			f.sleepBetween(6*time.Second, 25*time.Second)
		}, moves: true, repair: func() {
			f.resume(f.target)
			time.Sleep(200 * time.Millisecond)
			each(f.redis.Sentinels, f.resume)
		}},
	}
}

// replicaFaults stop a replica.
func (f *injector) replicaFaults() []*trouble {
	return []*trouble{
		{name: "replica killed", excuses: unavailable, inject: func() {
			f.target = f.replica()
			f.kill(f.target)
			f.sleepUpTo(6 * time.Second)
		}, repair: func() { f.start(f.target) }},
		{name: "replica silent", excuses: unavailable, inject: func() {
			f.target = f.replica()
			f.pause(f.target)
			f.sleepUpTo(6 * time.Second)
		}, repair: func() { f.resume(f.target) }},
	}
}

// sentinelFaults stop or reset Sentinels.
func (f *injector) sentinelFaults() []*trouble {
	return []*trouble{
		{name: "a sentinel killed", inject: func() {
			f.chosen = f.someSentinels(1)
			each(f.chosen, f.kill)
			f.sleepUpTo(6 * time.Second)
		}, repair: func() { each(f.chosen, f.startSentinel) }},
		{name: "two sentinels killed", inject: func() {
			f.chosen = f.someSentinels(2)
			each(f.chosen, f.kill)
			f.sleepUpTo(10 * time.Second)
		}, repair: func() { each(f.chosen, f.startSentinel) }},
		{name: "all sentinels killed", inject: func() {
			f.chosen = f.someSentinels(3)
			each(f.chosen, f.kill)
			f.sleepUpTo(10 * time.Second)
		}, repair: func() { each(f.chosen, f.startSentinel) }},
		{name: "a sentinel silent", inject: func() {
			f.chosen = f.someSentinels(1)
			each(f.chosen, f.pause)
			f.sleepUpTo(10 * time.Second)
		}, repair: func() { each(f.chosen, f.resume) }},
		{name: "two sentinels silent", excuses: unavailable, moves: true, inject: func() {
			f.chosen = f.someSentinels(2)
			each(f.chosen, f.pause)
			f.sleepUpTo(8 * time.Second)
		}, repair: func() { each(f.chosen, f.resume) }},
		{name: "all sentinels silent", excuses: unavailable, moves: true, inject: func() {
			f.chosen = f.someSentinels(3)
			each(f.chosen, f.pause)
			f.sleepUpTo(8 * time.Second)
		}, repair: func() { each(f.chosen, f.resume) }},
		{name: "two sentinels silent and the primary killed", excuses: unavailable, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			f.chosen = f.someSentinels(2)
			each(f.chosen, f.pause)
			f.kill(f.target)
			f.sleepUpTo(12 * time.Second)
			each(f.chosen, f.resume)
			f.awaitFailover(f.target)
		}, repair: func() { f.start(f.target) }},
		{name: "sentinel reset", moves: true, excuses: unavailable, inject: func() {
			for _, n := range f.someSentinels(1 + f.random.IntN(3)) {
				ask(n, "SENTINEL", "RESET", "*")
			}
			f.sleepUpTo(3 * time.Second)
		}},
		{name: "sentinel reset after a failover", moves: true, excuses: unavailable, inject: func() {
			f.target = f.awaitPrimary()
			f.orderFailover()
			f.awaitFailover(f.target)
			for _, n := range f.someSentinels(1 + f.random.IntN(3)) {
				ask(n, "SENTINEL", "RESET", "*")
			}
		}},
	}
}

// serverFaults disturb a running server.
func (f *injector) serverFaults() []*trouble {
	return []*trouble{
		{name: "full", excuses: unavailable, inject: func() {
			f.target = f.awaitPrimary()
			ask(f.target, "CONFIG", "SET", "maxmemory-policy", "noeviction")
			ask(f.target, "CONFIG", "SET", "maxmemory", "1mb")
			f.sleepBetween(time.Second, 9*time.Second)
		}, repair: func() { ask(f.target, "CONFIG", "SET", "maxmemory", "0") }},
		{name: "debug sleep", excuses: unavailable, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			asleep := 300*time.Millisecond + time.Duration(f.random.Int64N(int64(2500*time.Millisecond)))
			go ask(f.target, "DEBUG", "SLEEP", fmt.Sprintf("%.1f", asleep.Seconds()))
			time.Sleep(asleep)
		}},
		{name: "connections closed", excuses: unavailable, inject: func() {
			f.target = f.awaitPrimary()
			for range 1 + f.random.IntN(5) {
				ask(f.target, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
				ask(f.target, "CLIENT", "KILL", "TYPE", "pubsub")
				f.sleepUpTo(300 * time.Millisecond)
			}
		}},
		{name: "feeds cut", inject: func() {
			f.target = f.awaitPrimary()
			for range 1 + f.random.IntN(5) {
				ask(f.target, "CLIENT", "KILL", "TYPE", "pubsub")
				f.sleepUpTo(500 * time.Millisecond)
			}
		}},
		{name: "writes paused", excuses: unavailable, inject: func() {
			paused := 300 + f.random.IntN(7000)
			ask(f.awaitPrimary(), "CLIENT", "PAUSE", paused, "WRITE")
			time.Sleep(time.Duration(paused) * time.Millisecond)
		}},
		{name: "everything paused", excuses: unavailable, moves: true, inject: func() {
			paused := 300 + f.random.IntN(4000)
			ask(f.awaitPrimary(), "CLIENT", "PAUSE", paused, "ALL")
			time.Sleep(time.Duration(paused) * time.Millisecond)
		}},
		{name: "a replica made a master by hand", excuses: unavailable, moves: true, inject: func() {
			ask(f.replica(), "REPLICAOF", "NO", "ONE")
			f.sleepUpTo(4 * time.Second)
		}},
		{name: "primary made a replica by hand", excuses: unavailable, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			host, port, _ := net.SplitHostPort(f.replica().Addr())
			ask(f.target, "REPLICAOF", host, port)
			f.sleepUpTo(3 * time.Second)
			ask(f.target, "REPLICAOF", "NO", "ONE")
		}},
	}
}

// networkFaults disturb the network of one gateway.
func (f *injector) networkFaults() []*trouble {
	return []*trouble{
		{name: "gateway cut off from the servers", node: f.gateway, excuses: unavailable, inject: func() {
			each(f.network.Data, f.cut)
			f.sleepBetween(time.Second, 12*time.Second)
		}, repair: f.restore},
		{name: "gateway's way to the servers silent", node: f.gateway, excuses: unavailable, inject: func() {
			each(f.network.Data, f.silence)
			f.sleepBetween(time.Second, 12*time.Second)
		}, repair: f.restore},
		{name: "gateway's way to everything silent", node: f.gateway, excuses: unavailable, inject: func() {
			each(f.network.All(), f.silence)
			f.sleepBetween(time.Second, 12*time.Second)
		}, repair: f.restore},
		{name: "gateway's way slow", node: f.gateway, inject: func() {
			each(f.network.All(), f.delay(40, 80))
			f.sleepBetween(time.Second, 8*time.Second)
		}, repair: f.restore},
		{name: "gateway's way slower than the timeout", node: f.gateway, excuses: unavailable, inject: func() {
			each(f.network.Data, f.delay(800, 800))
			f.sleepBetween(time.Second, 8*time.Second)
		}, repair: f.restore},
		{name: "gateway cut off from the sentinels", node: f.gateway, inject: func() {
			each(f.network.Sentinels, f.cut)
			f.sleepBetween(time.Second, 9*time.Second)
		}, repair: f.restore},
		{name: "gateway's way to the sentinels silent", node: f.gateway, inject: func() {
			each(f.network.Sentinels, f.silence)
			f.sleepBetween(time.Second, 9*time.Second)
		}, repair: f.restore},
		{name: "gateway hears the sentinels too late for a failover", excuses: unavailable, moves: true, inject: func() {
			f.target = f.awaitPrimary()
			each(f.network.Sentinels, f.silence)
			f.orderFailover()
			f.awaitFailover(f.target)
			f.sleepUpTo(6 * time.Second)
		}, repair: f.restore},
	}
}

// gatewayFaults stop or reload gateways.
func (f *injector) gatewayFaults() []*trouble {
	return []*trouble{
		{name: "gateway killed", node: f.gateway, kills: f.gateway, excuses: []excuse{gatewayUnavailable, storeUnavailable}, inject: func() {
			f.gateway.kill()
			f.sleepUpTo(3 * time.Second)
			f.gateway.start(f.t)
		}},
		{name: "gateway asleep", node: f.gateway, excuses: []excuse{gatewayUnavailable, storeUnavailable}, inject: func() {
			f.gateway.pause(f.t)
			f.sleepUpTo(12 * time.Second)
		}, repair: func() { f.gateway.resume(f.t) }},
		{name: "gateways reloaded", inject: func() {
			for _, g := range f.c.nodes {
				c := f.config(g)
				c.global = strings.Replace(c.global, "wait_replicas", fmt.Sprintf("pool_size %d\nwait_replicas", 5+f.random.IntN(40)), 1)
				a := g.reload(f.t, c)
				require.Equal(f.t, http.StatusOK, a.Status, a.Body)
				f.sleepUpTo(time.Second)
			}
		}},
	}
}

func each[T any](list []T, do func(T)) {
	for _, x := range list {
		do(x)
	}
}

// pause, resume and kill skip a server that another fault has killed.
func (f *injector) pause(n *redistest.Server) {
	if n.Running() {
		n.Pause(f.t)
	}
}

func (f *injector) resume(n *redistest.Server) {
	if n.Running() {
		n.Resume(f.t)
	}
}

func (f *injector) kill(n *redistest.Server) {
	if n.Running() {
		n.Kill(f.t)
	}
}

func (f *injector) start(n *redistest.Server) {
	if !n.Running() {
		n.Start(f.t)
		f.backWithoutFile(n)
	}
}

func (f *injector) startSentinel(n *redistest.Server) {
	f.start(n)
	sentinelPace(n)
}

func (f *injector) cut(p *redistest.Proxy)     { p.Cut(f.t) }
func (f *injector) silence(p *redistest.Proxy) { p.Silent(f.t) }

// delay returns a function that delays a proxy by least to least+2*spread milliseconds.
func (f *injector) delay(least, spread int) func(*redistest.Proxy) {
	return func(p *redistest.Proxy) {
		p.Latency(f.t, time.Duration(least+2*f.random.IntN(spread))*time.Millisecond)
	}
}

func (f *injector) restore() {
	each(f.network.All(), func(p *redistest.Proxy) { p.Restore(f.t) })
}

// sentinelPace repeats the settings of redistest, which a restart loses.
func sentinelPace(n *redistest.Server) {
	ask(n, "SENTINEL", "DEBUG", "INFO-PERIOD", 500, "PUBLISH-PERIOD", 1000)
}
