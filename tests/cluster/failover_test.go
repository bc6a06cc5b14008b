// SPDX-License-Identifier: MIT

package cluster

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// sentinelStore returns the store option for a group watched by Sentinels.
func sentinelStore(s *redistest.SentinelServers) func(int) string {
	return func(int) string {
		return fmt.Sprintf("store redis {\naddress %s\nmaster_name %s\ntimeout 2s\n}", strings.Join(s.Addrs(), " "), redistest.MasterName)
	}
}

// TestFailover replaces the primary under load: on command, after a crash, and after a hang.
func TestFailover(t *testing.T) {
	t.Parallel()
	redis := redistest.Sentinel(t)
	c := startCluster(t, settings{store: sentinelStore(redis)})
	l := newLedger(c.staleness)
	o := startLoad(t, c, l, c.nodes[0].addApplication(t, ""), 4, 2)
	o.more(t, 100)

	for _, row := range []struct {
		name string
		// fault returns when there is a new primary; repair restores the old server.
		fault  func(primary *redistest.Server)
		repair func(primary *redistest.Server)
	}{
		{"ordered", func(*redistest.Server) { redis.Failover(t) }, func(*redistest.Server) {}},
		{
			"primary killed",
			func(primary *redistest.Server) {
				primary.Kill(t)
				redis.AwaitFailover(t, primary)
			},
			func(primary *redistest.Server) { primary.Start(t) },
		},
		{
			"primary silent",
			func(primary *redistest.Server) {
				primary.Pause(t)
				redis.AwaitFailover(t, primary)
			},
			func(primary *redistest.Server) { primary.Resume(t) },
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			primary := redis.Master(t)
			over := l.begin(t.Name(), nil, storeUnavailable)
			row.fault(primary)
			o.recovered(t)
			row.repair(primary)
			redis.AwaitReplica(t)
			o.recovered(t)
			over()
			o.more(t, 100)
			o.audit()
		})
	}
	o.end()
	o.checkCreates(t)
	l.report(t)
}

// proxiedSentinels returns the store option for Sentinels behind proxies.
func proxiedSentinels(proxies []*redistest.Proxy) string {
	addrs := make([]string, len(proxies))
	for i, p := range proxies {
		addrs[i] = p.Addr()
	}
	return fmt.Sprintf("store redis {\naddress %s\nmaster_name %s\ntimeout 2s\n}", strings.Join(addrs, " "), redistest.MasterName)
}

// startBehindSentinels starts gateways. Only the second one reaches the Sentinels through proxies.
func startBehindSentinels(t *testing.T, redis *redistest.SentinelServers, staleness time.Duration) (*cluster, []*redistest.Proxy) {
	t.Helper()
	var proxies []*redistest.Proxy
	for _, s := range redis.Sentinels {
		proxies = append(proxies, redistest.Proxied(t, s))
	}
	direct := sentinelStore(redis)
	return startCluster(t, settings{staleness: staleness, store: func(i int) string {
		if i == 1 {
			return proxiedSentinels(proxies)
		}
		return direct(i)
	}}), proxies
}

// TestFailover_SplitView: a deposed primary still accepts writes, and one gateway does not hear of
// the failover. It must not use the old primary for longer than the bound.
func TestFailover_SplitView(t *testing.T) {
	t.Parallel()
	redis := redistest.Sentinel(t)
	c, proxies := startBehindSentinels(t, redis, 2*time.Second)
	l := newLedger(c.staleness)
	// No load in the background, since it would open new connections.
	o := &load{c: c, l: l, app: c.nodes[0].addApplication(t, "")}
	ahead, behind := c.nodes[0], c.nodes[1]
	issue := func() *issued {
		return l.add(&issued{app: o.app, value: o.app.mustMint(t, ahead, "split@example.org"), kept: true})
	}
	use := func(k *issued) { o.ask(request{node: behind, what: "rooms"}, k, http.MethodGet, roomsPath) }
	o.recovered(t)
	kept, revoked := issue(), issue()
	use(kept)
	use(revoked)

	for _, p := range proxies {
		p.Silent(t) // announcements of the Sentinels are lost
	}
	over := l.begin(t.Name(), nil, storeUnavailable)
	former, master, demote := redis.Depose(t)
	eventually(t, ahead.name+" to use the new primary", func() bool {
		before := master.Client().DBSize(t.Context()).Val()
		_ = o.app.mustMint(t, ahead, "split@example.org")
		return master.Client().DBSize(t.Context()).Val() > before
	})
	for _, p := range proxies {
		p.Restore(t)
	}
	fresh := issue() // recorded only on the new primary
	use(fresh)
	eventually(t, "the revocation", func() bool {
		o.revoke(ahead, revoked)
		_, ended := revoked.state()
		return !ended.IsZero()
	})
	// Cached answers expire after the bound.
	for end := time.Now().Add(2 * c.staleness); time.Now().Before(end); time.Sleep(pause) {
		for _, k := range []*issued{kept, fresh, revoked} {
			use(k)
		}
	}
	require.Equal(t, 200, behind.rooms(t, kept.value))
	require.Equal(t, 200, behind.rooms(t, fresh.value))
	require.Equal(t, 401, behind.rooms(t, revoked.value))
	require.Equal(t, "master", former.Client().Do(t.Context(), "ROLE").Val().([]any)[0], "the old server still acts as a primary")
	demote()
	o.recovered(t)
	over()
	o.audit()
	l.report(t)
}

// TestFailover_CutOffFromSentinels: a gateway that reaches no Sentinel during a failover knows only
// the old primary, which is now a replica. It answers 503 until it finds the new primary.
func TestFailover_CutOffFromSentinels(t *testing.T) {
	t.Parallel()
	redis := redistest.Sentinel(t)
	c, proxies := startBehindSentinels(t, redis, 2*time.Second)
	l := newLedger(c.staleness)
	o := &load{c: c, l: l, app: c.nodes[0].addApplication(t, "")}
	ahead, behind := c.nodes[0], c.nodes[1]
	issue := func() *issued {
		return l.add(&issued{app: o.app, value: o.app.mustMint(t, ahead, "cut-off@example.org"), kept: true})
	}
	use := func(k *issued) { o.ask(request{node: behind, what: "rooms"}, k, http.MethodGet, roomsPath) }
	o.recovered(t)
	kept, revoked := issue(), issue()
	use(kept)
	use(revoked)

	over := l.begin(t.Name(), nil, storeUnavailable)
	for _, p := range proxies {
		p.Cut(t)
	}
	redis.Failover(t)
	eventually(t, ahead.name+" to serve again", func() bool {
		a, err := o.app.mint(ahead, "cut-off@example.org")
		return err == nil && a.Status == http.StatusOK
	})
	fresh := issue()
	o.revoke(ahead, revoked)
	// Cached answers expire after the bound.
	for end := time.Now().Add(2 * c.staleness); time.Now().Before(end); time.Sleep(pause) {
		for _, k := range []*issued{kept, fresh, revoked} {
			use(k)
		}
	}
	require.Equal(t, 503, behind.rooms(t, kept.value))
	require.Equal(t, 503, behind.ready(t))
	for _, p := range proxies {
		p.Restore(t)
	}
	o.recovered(t)
	over()
	o.audit()
	l.report(t)
}

// TestFailover_SentinelsUnavailable: a gateway that reaches no Sentinel keeps using the known primary.
func TestFailover_SentinelsUnavailable(t *testing.T) {
	t.Parallel()
	redis := redistest.Sentinel(t)
	c, proxies := startBehindSentinels(t, redis, 5*time.Second)
	app := c.nodes[0].addApplication(t, "")
	g := c.nodes[1]
	known := app.mustMint(t, g, "sentinels@example.org")
	require.Equal(t, 200, g.rooms(t, known))
	for _, row := range []struct {
		name string
		cut  func(*redistest.Proxy)
	}{
		{"cut off", func(p *redistest.Proxy) { p.Cut(t) }},
		{"silent", func(p *redistest.Proxy) { p.Silent(t) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, p := range proxies {
				row.cut(p)
			}
			time.Sleep(c.staleness) // cached answers have expired
			for end := time.Now().Add(c.staleness / 2); time.Now().Before(end); time.Sleep(pause) {
				require.Equal(t, 200, g.rooms(t, known))
				require.Equal(t, 200, g.rooms(t, app.mustMint(t, c.nodes[0], "sentinels@example.org")))
			}
			redis.Master(t).CutFeeds(t) // forces new connections while no Sentinel is reachable
			eventually(t, "the gateway to serve again", func() bool { return g.rooms(t, app.mustMint(t, c.nodes[0], "sentinels@example.org")) == 200 })
			_ = app.mustMint(t, g, "sentinels@example.org")
			for _, p := range proxies {
				p.Restore(t)
			}
		})
	}
}

// TestSentinels_TLSAndUsers: servers and Sentinels require TLS and different users, which the
// Caddyfile sets.
func TestSentinels_TLSAndUsers(t *testing.T) {
	t.Parallel()
	redis := redistest.SentinelSecure(t)
	for _, d := range redis.Data {
		require.NoError(t, d.Client().Do(t.Context(), "ACL", "SETUSER", "gate", "on", ">gate-secret", "~mg1:*", "&mg1:*", "+@all").Err())
	}
	for _, s := range redis.Sentinels {
		require.NoError(t, s.Client().Do(t.Context(), "ACL", "SETUSER", "watcher", "on", ">watcher-secret", "&*", "+@all").Err())
	}
	c := startCluster(t, settings{store: func(int) string {
		return fmt.Sprintf(`store redis {
address %s
master_name %s
username gate
password gate-secret
sentinel_username watcher
sentinel_password watcher-secret
tls {
ca %s
}
timeout 2s
}`, strings.Join(redis.Addrs(), " "), redistest.MasterName, redis.Data[0].CertificateFile())
	}})
	app := c.nodes[0].addApplication(t, "")
	before := app.mustMint(t, c.nodes[0], "secure@example.org")
	require.Equal(t, 200, c.nodes[1].rooms(t, before))
	redis.Failover(t)
	eventually(t, "tokens to be issued again", func() bool {
		a, err := app.mint(c.nodes[1], "secure@example.org")
		return err == nil && a.Status == http.StatusOK
	})
	for _, g := range c.nodes {
		eventually(t, g.name+" to serve again", func() bool { return g.ready(t) == 200 && g.rooms(t, before) == 200 })
	}
}

// TestRedisCluster_SlotMoves moves slots of a Redis Cluster under load.
func TestRedisCluster_SlotMoves(t *testing.T) {
	t.Parallel()
	redis := redistest.Cluster(t)
	c := startCluster(t, settings{store: func(int) string {
		return fmt.Sprintf("store redis {\naddress %s\ncluster\ntimeout 2s\n}", strings.Join(redis.Addrs(), " "))
	}})
	l := newLedger(c.staleness)
	app := c.nodes[0].addApplication(t, "")
	o := startLoad(t, c, l, app, 4, 3)
	o.more(t, 100)

	over := l.begin(t.Name(), nil, storeUnavailable)
	// The slots of the application and of the feed are constantly in use.
	for _, key := range []string{"mg1:a:" + app.ID, "mg1:feed", "mg1:inst"} {
		slot := redis.Slot(t, key)
		move := redis.BeginSlotMove(t, slot)
		o.more(t, 50)
		move.MoveKeys(t, 1)
		o.more(t, 50)
		move.Finish(t)
		o.more(t, 50)
	}
	// The slots of tokens and users.
	moved := 0
	for _, node := range redis.Nodes {
		for _, key := range node.Client().Keys(t.Context(), "mg1:[tu]:*").Val() {
			if moved++; moved > 10 {
				break
			}
			redis.MoveSlot(t, redis.Slot(t, key))
		}
	}
	require.Positive(t, moved)
	o.recovered(t)
	over()
	o.more(t, 100)
	o.audit()
	o.end()
	o.checkCreates(t)
	l.report(t)
	require.Zero(t, l.counts["refused with 503 in a fault"], "the gateway follows redirections")
}
