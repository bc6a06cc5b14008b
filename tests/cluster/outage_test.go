// SPDX-License-Identifier: MIT

package cluster

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// outage is a cluster under load in which a fault is injected.
type outage struct {
	*load
	redis   *redistest.Server
	proxies []*redistest.Proxy // between each gateway and Redis
	serial  int
}

func startOutage(t *testing.T, redisOptions ...string) *outage {
	t.Helper()
	o := &outage{redis: redistest.Standalone(t, redisOptions...)}
	for range gateways {
		o.proxies = append(o.proxies, redistest.Proxied(t, o.redis))
	}
	c := startCluster(t, settings{
		// A suspended server executes pending rotations when it resumes. The long window lets
		// clients repeat them even on a busy machine.
		store: func(i int) string {
			return "store redis " + o.proxies[i].URL() + " {\ntimeout 2s\n}\nrefresh {\nwindow 1m\n}"
		},
		staleness: 3 * time.Second,
	})
	o.load = startLoad(t, c, newLedger(c.staleness), c.nodes[0].addApplication(t, ""), 4, 1)
	o.more(t, 100)
	return o
}

// probe makes the requests of the columns of the outage table on one gateway.
type probe struct {
	o       *outage
	g       *gateway
	known   *issued // cached by this gateway
	unknown *issued
	victim  *issued // token to revoke
	mail    string
}

func (o *outage) probe(t *testing.T, g *gateway) *probe {
	t.Helper()
	o.serial++
	p := &probe{o: o, g: g, mail: fmt.Sprintf("probe-%d@example.org", o.serial)}
	for _, k := range []**issued{&p.known, &p.unknown, &p.victim} {
		*k = o.l.add(&issued{app: o.app, value: o.app.mustMint(t, g, p.mail), kept: true})
	}
	require.Equal(t, 200, g.rooms(t, p.known.value))
	return p
}

// statuses are the answers in the order of the table: token request, cached token, new token,
// /identity, revocation.
type statuses [5]int

// all makes the requests concurrently and judges every answer.
func (p *probe) all(t *testing.T) statuses {
	t.Helper()
	bearer := func(k *issued) []string { return []string{"Authorization", gatewaytest.Bearer(k.value)} }
	p.victim.doubt()
	answers := atOnce(t, len(statuses{}), func(i int) (*gatewaytest.Answer, error) {
		switch i {
		case 0:
			return p.o.app.mint(p.g, p.mail)
		case 1:
			return p.g.try(http.MethodGet, roomsPath, "", bearer(p.known)...)
		case 2:
			return p.g.try(http.MethodGet, roomsPath, "", bearer(p.unknown)...)
		case 3:
			return p.g.try(http.MethodGet, identityPath, "", bearer(p.known)...)
		default:
			return p.o.app.revoke(p.g, p.victim.value)
		}
	})
	var s statuses
	for i, a := range answers {
		s[i] = a.Status
		require.Equal(t, a.Status == http.StatusServiceUnavailable, a.Header.Get("Retry-After") != "", "Retry-After is sent with 503 only: %d", a.Status)
	}
	if s[4] == http.StatusOK {
		p.victim.end()
	}
	return s
}

// createIsRefused tries to create a room twice and checks that neither request reached Meet.
func (p *probe) createIsRefused(t *testing.T) {
	t.Helper()
	p.o.serial++
	id := fmt.Sprintf("refused-%d", p.o.serial)
	for _, a := range atOnce(t, 2, func(int) (*gatewaytest.Answer, error) { return p.g.create(p.known.value, id) }) {
		require.Equal(t, http.StatusServiceUnavailable, a.Status)
	}
	require.Zero(t, p.o.c.meet.created(id))
}

// createIsServed reports whether a creation succeeds and reaches Meet once.
func (p *probe) createIsServed(t *testing.T) bool {
	t.Helper()
	p.o.serial++
	id := fmt.Sprintf("served-%d", p.o.serial)
	a, err := p.g.create(p.known.value, id)
	require.NoError(t, err)
	return a.Status == http.StatusCreated && p.o.c.meet.created(id) == 1
}

// during runs check during a fault under load, and waits for the recovery.
func (o *outage) during(t *testing.T, node *gateway, excuses []excuse, inject, check, repair func()) {
	t.Helper()
	over := o.l.begin(t.Name(), node, excuses...)
	func() {
		defer repair() // also when check ends the test
		inject()
		check()
		o.more(t, 8)
	}()
	o.recovered(t)
	over()
	o.more(t, 50)
	o.audit()
}

// TestOutage_RedisUnavailable: without Redis, cached tokens are served for the staleness bound. Then
// everything is answered 503, never 401.
func TestOutage_RedisUnavailable(t *testing.T) {
	t.Parallel()
	o := startOutage(t, "--appendonly", "yes", "--appendfsync", "always")
	refreshing := o.c.nodes[0].addApplication(t, `"refresh":true`)
	everyProxy := func(do func(*redistest.Proxy)) {
		for _, p := range o.proxies {
			do(p)
		}
	}
	for _, row := range []struct {
		name           string
		inject, repair func()
	}{
		{"stopped", func() { o.redis.Stop(t) }, func() { o.redis.Start(t) }},
		{"killed", func() { o.redis.Kill(t) }, func() { o.redis.Start(t) }},
		{"silent", func() { o.redis.Pause(t) }, func() { o.redis.Resume(t) }},
		{"cut off", func() { everyProxy(func(p *redistest.Proxy) { p.Cut(t) }) }, func() { everyProxy(func(p *redistest.Proxy) { p.Restore(t) }) }},
		{
			"slower than the timeout",
			func() { everyProxy(func(p *redistest.Proxy) { p.Latency(t, 3*time.Second) }) },
			func() { everyProxy(func(p *redistest.Proxy) { p.Restore(t) }) },
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := o.c.nodes[1]
			p := o.probe(t, g)
			a, err := refreshing.mint(g, p.mail)
			require.NoError(t, err)
			pair, _ := a.JSON(t)["refresh_token"].(string)
			served := false
			// On a busy machine the bound may pass before the first request; try again.
			for try := 0; !served && try < 5; try++ {
				o.during(t, nil, []excuse{storeUnavailable}, row.inject, func() {
					served = g.rooms(t, p.known.value) == 200 && p.createIsServed(t)
					eventually(t, "the bound to pass", func() bool { return g.rooms(t, p.known.value) == 503 })
					require.Equal(t, statuses{503, 503, 503, 503, 503}, p.all(t))
					p.createIsRefused(t)
					require.Equal(t, 503, g.ready(t))
					a, err := refreshing.refresh(g, pair)
					require.NoError(t, err)
					require.Equal(t, 503, a.Status, a.Body)
					require.NotEmpty(t, a.Header.Get("Retry-After"))
				}, row.repair)
			}
			require.Equal(t, 200, g.ready(t))
			a, err = refreshing.refresh(o.c.nodes[2], pair)
			require.NoError(t, err)
			require.Equal(t, 200, a.Status, "a refresh token is valid after an outage: %s", a.Body)
			require.True(t, served, "the gateway serves cached tokens for the bound")
		})
	}
	o.end()
	o.checkCreates(t)
	o.l.report(t)
}

// TestOutage_RedisImpaired: clients do not notice these faults, or only their writes fail.
func TestOutage_RedisImpaired(t *testing.T) {
	t.Parallel()
	o := startOutage(t)
	g := o.c.nodes[1]

	t.Run("slow", func(t *testing.T) {
		p := o.probe(t, g)
		o.during(t, nil, nil, func() {
			for _, proxy := range o.proxies {
				proxy.Latency(t, 100*time.Millisecond)
			}
		}, func() {
			require.Equal(t, statuses{200, 200, 200, 200, 200}, p.all(t))
			require.Equal(t, 200, g.ready(t))
		}, func() {
			for _, proxy := range o.proxies {
				proxy.Restore(t)
			}
		})
	})

	t.Run("feeds refused", func(t *testing.T) {
		p := o.probe(t, g)
		o.during(t, nil, nil, func() { o.redis.RefuseFeeds(t) }, func() {
			time.Sleep(o.c.staleness) // every request looks up its token now
			require.Equal(t, statuses{200, 200, 200, 200, 200}, p.all(t))
			o.app.mustRevoke(t, o.c.nodes[0], p.known.value)
			p.known.end()
			require.Equal(t, 401, g.rooms(t, p.known.value), "every request looks up its token")
			require.Equal(t, 200, g.ready(t))
		}, func() { o.redis.AllowFeeds(t) })
	})

	t.Run("feeds cut repeatedly", func(t *testing.T) {
		p := o.probe(t, g)
		o.during(t, nil, nil, func() {}, func() {
			for range 10 {
				o.redis.CutFeeds(t)
				o.more(t, 20)
			}
			require.Equal(t, statuses{200, 200, 200, 200, 200}, p.all(t))
		}, func() {})
	})

	t.Run("one feed mute", func(t *testing.T) {
		p := o.probe(t, g)
		o.during(t, nil, nil, func() { o.proxies[1].MuteFeeds(t) }, func() {
			o.app.mustRevoke(t, o.c.nodes[0], p.known.value)
			p.known.end()
			o.c.refusedEverywhere(t, p.known.value)
		}, func() { o.proxies[1].Restore(t) })
	})

	t.Run("all connections closed", func(t *testing.T) {
		over := o.l.begin(t.Name(), nil, storeUnavailable) // the gateway does not repeat every command after a lost answer
		for range 10 {
			for _, proxy := range o.proxies {
				proxy.Drop(t)
			}
			o.more(t, 20)
		}
		o.recovered(t)
		over()
		o.audit()
	})

	t.Run("one gateway partitioned", func(t *testing.T) {
		p := o.probe(t, g)
		o.during(t, g, []excuse{storeUnavailable}, func() { o.proxies[1].Cut(t) }, func() {
			for _, other := range []*gateway{o.c.nodes[0], o.c.nodes[2]} {
				require.Equal(t, 200, other.rooms(t, p.known.value))
				require.Equal(t, 200, other.ready(t))
			}
			require.Equal(t, 503, g.ready(t))
			o.app.mustRevoke(t, o.c.nodes[0], p.known.value)
			p.known.end()
			eventually(t, "the bound to pass", func() bool { return g.rooms(t, p.known.value) == 503 })
			require.Equal(t, statuses{503, 503, 503, 503, 503}, p.all(t))
		}, func() { o.proxies[1].Restore(t) })
		require.Equal(t, 401, g.rooms(t, p.known.value))
	})

	for _, row := range []struct {
		name           string
		inject, repair func()
	}{
		{"read-only", func() { o.redis.SetReadOnly(t, true) }, func() { o.redis.SetReadOnly(t, false) }},
		{"without enough replicas", func() { o.redis.RequireReplicas(t, 1) }, func() { o.redis.RequireReplicas(t, 0) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := o.probe(t, g)
			o.during(t, nil, []excuse{storeUnavailable}, row.inject, func() {
				a, err := o.app.mint(g, p.mail)
				require.NoError(t, err)
				require.Equal(t, 503, a.Status)
				eventually(t, "the bound to pass", func() bool { return g.rooms(t, p.known.value) == 503 })
				require.Equal(t, statuses{503, 503, 503, 503, 503}, p.all(t))
				require.Equal(t, 503, g.ready(t))
			}, row.repair)
		})
	}

	o.end()
	o.checkCreates(t)
	o.l.report(t)
}

// TestOutage_RedisDataLoss: revocations stay in force after the loss of data, and everything is
// refused if Redis is empty.
func TestOutage_RedisDataLoss(t *testing.T) {
	t.Parallel()
	o := startOutage(t)

	t.Run("restored from a snapshot", func(t *testing.T) {
		before := o.probe(t, o.c.nodes[1])
		snapshot := o.redis.SaveSnapshot(t)
		after := o.probe(t, o.c.nodes[1])
		o.app.mustRevoke(t, o.c.nodes[2], before.known.value)
		before.known.end()
		o.more(t, 100)
		time.Sleep(o.c.staleness) // every gateway must refuse it now
		o.during(t, nil, []excuse{storeUnavailable}, func() {
			stop := o.hammer(before.known)
			defer stop()
			o.redis.RestoreSnapshot(t, snapshot)
			o.recovered(t)
		}, func() {
			o.c.refusedEverywhere(t, before.known.value)
			for _, g := range o.c.nodes {
				require.Equal(t, 200, g.rooms(t, before.unknown.value), "the snapshot has its record")
				require.Equal(t, 200, g.rooms(t, after.unknown.value), "the gateway restores recent records")
			}
		}, func() {})
	})

	t.Run("emptied", func(t *testing.T) {
		p := o.probe(t, o.c.nodes[1])
		o.end()
		o.redis.FlushAll(t)
		for _, k := range []*issued{p.known, p.unknown} {
			o.c.refusedEverywhere(t, k.value)
		}
		eventually(t, "the application to be unknown", func() bool {
			a, err := o.app.mint(o.c.nodes[1], p.mail)
			require.NoError(t, err)
			require.Contains(t, []int{401, 503}, a.Status)
			return a.Status == 401
		})
		require.Equal(t, statuses{401, 401, 401, 401, 401}, p.all(t))
		require.Equal(t, 200, p.g.ready(t))
		// A new application works as in a new installation.
		o.app = o.c.nodes[2].addApplication(t, "")
		o.recovered(t)
		for _, g := range o.c.nodes {
			eventually(t, g.name+" to refuse the old token", func() bool { return g.rooms(t, p.known.value) == 401 })
		}
	})

	o.checkCreates(t)
	o.l.report(t)
}

// hammer uses a token on every gateway without pause until stop is called.
func (o *outage) hammer(k *issued) (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, g := range o.c.nodes {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					o.ask(request{node: g, what: "hammering"}, k, http.MethodGet, identityPath)
				}
			}
		})
	}
	return func() {
		close(done)
		all.Wait()
	}
}

// TestOutage_MeetUnavailable: requests that need Meet get 502 or 503. /identity and revocation work.
func TestOutage_MeetUnavailable(t *testing.T) {
	t.Parallel()
	o := startOutage(t)
	html := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
		}
	}
	for _, row := range []struct {
		name   string
		fail   http.HandlerFunc
		status int
	}{
		{"closes connections", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, http.StatusServiceUnavailable},
		{"answers 500", html(http.StatusInternalServerError), http.StatusBadGateway},
		{"answers 503 in HTML", html(http.StatusServiceUnavailable), http.StatusServiceUnavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := o.probe(t, o.c.nodes[1])
			o.during(t, nil, []excuse{meetUnavailable}, func() { o.c.meet.fail(row.fail) }, func() {
				a, err := o.app.mint(p.g, p.mail)
				require.NoError(t, err)
				require.Equal(t, 200, a.Status, "Meet's token is cached")
				require.Equal(t, 200, p.g.ready(t), "readiness does not depend on Meet")
				s := p.all(t)
				require.Equal(t, row.status, s[1])
				require.Equal(t, row.status, s[2])
				require.Equal(t, 200, s[3])
				require.Equal(t, 200, s[4])
				o.serial++
				a, err = o.app.mint(p.g, fmt.Sprintf("new-%d@example.org", o.serial))
				require.NoError(t, err)
				require.Equal(t, row.status, a.Status, a.Body)
			}, o.c.meet.repair)
		})
	}
	t.Run("refuses the gateway's credentials", func(t *testing.T) {
		p := o.probe(t, o.c.nodes[1])
		registered := sandbox.Application{
			ClientID: gatewaytest.MeetClientID, Secret: gatewaytest.MeetClientSecret, Active: true,
			Scopes: []string{"rooms:list", "rooms:retrieve", "rooms:create"},
		}
		wrong := registered
		wrong.Secret = "another-secret"
		o.during(t, nil, []excuse{meetUnavailable}, func() { o.c.meet.AddApplication(wrong) }, func() {
			require.Equal(t, statuses{200, 200, 200, 200, 200}, p.all(t), "cached tokens of Meet are still valid")
			o.serial++
			a, err := o.app.mint(p.g, fmt.Sprintf("new-%d@example.org", o.serial))
			require.NoError(t, err)
			require.Equal(t, 502, a.Status, a.Body)
		}, func() { o.c.meet.AddApplication(registered) })
	})
	o.end()
	o.checkCreates(t)
	o.l.report(t)
}
