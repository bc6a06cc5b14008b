// SPDX-License-Identifier: MIT

package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tests/seed"
)

// Environment variables of TestCampaign, beside those of TestSoak.
const (
	campaignFaults  = "CLUSTER_FAULTS"  // a regular expression: only these faults
	campaignTimeout = "CLUSTER_TIMEOUT" // timeout of the store; default 2s
	campaignVariant = "CLUSTER_VARIANT" // such as "replicas=2 wait=1 aof=1"; default: drawn
	campaignWrong   = "CLUSTER_WRONG"   // a file for wrong answers as they come, with what the gateways' logs say
)

// fewFaults are the faults of the short run in make test. The others are for long runs: one may
// last for minutes, and rare failures would show up in unrelated work.
const fewFaults = `^(failover by order|two failovers by order|primary killed|primary silent|replica|feeds cut|connections closed|full|gateway killed|gateways reloaded)`

// campaign is a group watched by Sentinels, three gateways with a network each, all actions of
// platforms and operators, and random faults, sometimes two at a time.
type campaign struct {
	t        *testing.T
	c        *cluster
	redis    *redistest.SentinelServers
	networks []*redistest.Network
	book     *book
	random   *rand.Rand

	only *regexp.Regexp // faults

	replicas, wait int
	aof            bool
	timeout        string
	old            redistest.Snapshot
	was            *redistest.Server // the primary when one was last needed
}

// TestCampaign judges every answer by what platforms and operators were told. Unlike in
// TestSoak, applications, secrets and refresh tokens change all the time, and a fault excuses
// only the node that it concerns.
func TestCampaign(t *testing.T) {
	t.Parallel()
	duration, from := 20*time.Second, seed.Of(t, soakSeed)
	var err error
	if text := os.Getenv(soakDuration); text != "" {
		duration, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	s := &campaign{t: t, random: rand.New(rand.NewPCG(from, 1)), timeout: os.Getenv(campaignTimeout)}
	only := os.Getenv(campaignFaults)
	if only == "" && os.Getenv(soakDuration) == "" {
		only = fewFaults
	}
	s.only = regexp.MustCompile(only)
	if s.timeout == "" {
		s.timeout = "2s" // a busy machine is no fault
	}
	s.replicas = 1 + s.random.IntN(2)
	s.wait = s.random.IntN(2) * s.replicas
	s.aof = s.random.IntN(2) == 0
	if v := os.Getenv(campaignVariant); v != "" {
		var aof int
		_, err := fmt.Sscanf(v, "replicas=%d wait=%d aof=%d", &s.replicas, &s.wait, &aof)
		require.NoError(t, err)
		s.aof = aof == 1
	}
	t.Logf("%s=%s %s=\"replicas=%d wait=%d aof=%v\"", soakDuration, duration, campaignVariant, s.replicas, s.wait, s.aof)

	options := []string{"--enable-debug-command", "yes"}
	if s.aof {
		options = append(options, "--appendonly", "yes", "--appendfsync", "always")
	}
	s.redis = redistest.SentinelGroup(t, s.replicas, options...)
	for range gateways {
		s.networks = append(s.networks, s.redis.Network(t))
	}
	s.c = startCluster(t, settings{staleness: 5 * time.Second, store: s.store})
	for _, g := range s.c.nodes {
		g.config = s.config(g)
		a := g.reload(t, g.config)
		require.Equal(t, http.StatusOK, a.Status, a.Body)
	}
	s.book = newBook(s, from)
	s.book.start(t)
	s.settle("the start", 60*time.Second)
	before := s.c.resting(t)
	t.Logf("goroutines at rest: %v, connections %d", before, s.connections())

	for end := time.Now().Add(duration); time.Now().Before(end) && !s.book.broken(); {
		s.last(1500 * time.Millisecond) // undisturbed
		s.disturb()
	}
	time.Sleep(2 * s.c.staleness) // what was known before the last fault counts no more
	s.book.end()
	time.Sleep(s.c.staleness) // nor what the last requests found
	after := s.c.resting(t)
	t.Logf("goroutines at rest: %v, connections %d", after, s.connections())
	for i := range after {
		if after[i] > before[i]+40 {
			t.Errorf("gateway %d: %d goroutines, %d before", i+1, after[i], before[i])
		}
	}
	s.book.audit()
	s.book.report(t)
	s.checkOutputs()
}

func (s *campaign) connections() int {
	n := 0
	for _, d := range s.redis.Data {
		if list, err := d.Client().Do(context.Background(), "CLIENT", "LIST").Text(); err == nil {
			n += strings.Count(list, "\n")
		}
	}
	return n
}

func (s *campaign) store(i int) string {
	return fmt.Sprintf("store redis {\naddress %s\nmaster_name %s\ntimeout %s\nwait_replicas %d\n}",
		strings.Join(s.networks[i].Addrs(), " "), redistest.MasterName, s.timeout, s.wait)
}

// config is the configuration of a gateway, with what a reload may change.
func (s *campaign) config(g *gateway) config {
	i := slices.Index(s.c.nodes, g)
	c := s.c.config(s.store(i))
	c.global += "\nlimit failed off\nlimit failed_source off\nlimit token off\nlimit token_user off\nlimit read off\nlimit read_user off\nlimit create off\nlimit create_user off"
	c.level = "INFO"
	return c
}

// checkOutputs looks for forbidden lines in the logs.
func (s *campaign) checkOutputs() {
	for _, g := range s.c.nodes {
		output := g.output(s.t)
		if name := os.Getenv(campaignWrong); name != "" {
			_ = os.WriteFile(name+"."+strings.ReplaceAll(g.name, " ", ""), []byte(output), 0o600)
		}
		for _, sign := range []*regexp.Regexp{
			regexp.MustCompile(`[a-z0-9-]+@example\.org`), regexp.MustCompile(`mg[sr]_[A-Za-z0-9]{8}`), regexp.MustCompile(`eyJ[A-Za-z0-9_-]{10}`),
		} {
			if m := sign.FindStringIndex(output); m != nil {
				s.t.Errorf("%s: a secret in the log: %s", g.name, output[max(0, m[0]-400):min(len(output), m[1]+50)])
			}
		}
	}
}

// trouble is a fault that lasts.
type trouble struct {
	name string
	// node is the only gateway concerned; nil: all.
	node    *gateway
	excuses []excuse
	// moves means that another server may become the primary, which may lose the last writes.
	moves bool
	// loses means that everything may be lost.
	loses bool
	// kills is the gateway that loses its memory.
	kills  *gateway
	inject func()
	mend   func()
}

// disturb injects one fault, or two at a time.
func (s *campaign) disturb() {
	n := 1
	if s.random.IntN(3) == 0 {
		n = 2
	}
	var all []*trouble
	for len(all) < n {
		f := s.draw()
		if len(all) > 0 && f.name == all[0].name { // there may be no other
			n = 1
			break
		}
		if !slices.ContainsFunc(all, func(o *trouble) bool { return o.name == f.name }) {
			all = append(all, f)
		}
	}
	var overs []func()
	var names []string
	for _, f := range all {
		names = append(names, f.name)
		overs = append(overs, s.book.trouble(f))
		s.t.Logf("%s %s", time.Now().Format("15:04:05.000"), f.name)
		f.inject()
		if n == 2 {
			s.last(2 * time.Second)
		}
	}
	for _, f := range all {
		if f.mend != nil {
			f.mend()
		}
	}
	if !s.whole() {
		s.follow()
	}
	mended := time.Now()
	ok := s.settle(strings.Join(names, " + "), 90*time.Second)
	took := time.Since(mended)
	if slices.ContainsFunc(all, func(f *trouble) bool { return f.loses }) {
		// Gateways find it by a heartbeat, replay their journals, and revoke everything if these are
		// incomplete.
		time.Sleep(s.c.staleness)
	}
	for _, over := range overs {
		over()
	}
	s.t.Logf("%s %s: recovered in %s", time.Now().Format("15:04:05.000"), strings.Join(names, " + "), took.Round(10*time.Millisecond))
	s.book.recovery(strings.Join(names, " + "), took, ok)
}

// last lets a fault, or a pause, last for at most d. No verdict depends on it.
func (s *campaign) last(d time.Duration) { time.Sleep(time.Duration(s.random.Int64N(int64(d)))) }

func (s *campaign) between(low, high time.Duration) {
	time.Sleep(low + time.Duration(s.random.Int64N(int64(high-low))))
}

// until waits until done, with a bound: a lab that does not recover is not a finding.
func (s *campaign) until(what string, d time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if done() {
			return true
		}
	}
	s.t.Logf("%s lab: waited %s in vain for %s", time.Now().Format("15:04:05.000"), d, what)
	return false
}

// primary is the server that most answering Sentinels name as the primary. Without Sentinels it
// is the one that calls itself so.
func (s *campaign) primary() *redistest.Server {
	votes, answers := map[string]int{}, 0
	for _, n := range s.redis.Sentinels {
		if a := ask(n, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", redistest.MasterName); a != nil {
			if at, ok := a.([]any); ok && len(at) == 2 {
				votes[net.JoinHostPort(fmt.Sprint(at[0]), fmt.Sprint(at[1]))]++
				answers++
			}
		}
	}
	for _, d := range s.redis.Data {
		if 2*votes[d.Addr()] > answers {
			return d
		}
	}
	if answers > 0 {
		return nil
	}
	for _, d := range s.redis.Data {
		if roleOf(d) == "master" {
			return d
		}
	}
	return nil
}

// ask sends a command to a server; nil if it does not answer within a second.
func ask(n *redistest.Server, args ...any) any {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	v, err := n.Client().Do(ctx, args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil
	}
	return v
}

// master is the primary, or the last known one: another fault may have silenced everyone who
// knows.
func (s *campaign) master() *redistest.Server {
	s.until("a primary", 10*time.Second, func() bool {
		if p := s.primary(); p != nil {
			s.was = p
			return true
		}
		return s.was != nil && roleOf(s.was) == ""
	})
	if s.was == nil {
		s.t.Fatal("the lab has no primary")
	}
	return s.was
}

func (s *campaign) replica() *redistest.Server {
	p := s.master()
	for _, i := range s.random.Perm(len(s.redis.Data)) {
		if s.redis.Data[i] != p {
			return s.redis.Data[i]
		}
	}
	return nil
}

// replaced waits until another server is the primary.
func (s *campaign) replaced(former *redistest.Server) {
	s.until("a failover", 70*time.Second, func() bool { p := s.primary(); return p != nil && p != former && roleOf(p) == "master" })
}

func roleOf(n *redistest.Server) string {
	if a, ok := ask(n, "ROLE").([]any); ok && len(a) > 0 {
		return fmt.Sprint(a[0])
	}
	return ""
}

// follow makes data servers follow the primary that Sentinels have forgotten.
func (s *campaign) follow() {
	p := s.master()
	host, port, _ := net.SplitHostPort(p.Addr())
	// A server that began as a replica restarts as one, since it has no file. Nobody replaces it
	// then: Sentinels do not promote a replica that has had no primary for so long.
	if roleOf(p) == "slave" {
		s.t.Log("lab: the primary is made one by hand")
		ask(p, "REPLICAOF", "NO", "ONE")
		s.backWithoutFile(p)
	}
	for _, d := range s.redis.Data {
		if d != p && roleOf(d) == "master" {
			s.t.Log("lab: a server is made to follow by hand")
			ask(d, "REPLICAOF", host, port)
		}
	}
	// A server that was reset during a failover stays with the old primary.
	for _, n := range s.redis.Sentinels {
		at, _ := ask(n, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", redistest.MasterName).([]any)
		if len(at) == 2 && net.JoinHostPort(fmt.Sprint(at[0]), fmt.Sprint(at[1])) != p.Addr() {
			s.t.Log("lab: a sentinel is told the primary by hand")
			ask(n, "SENTINEL", "REMOVE", redistest.MasterName)
			ask(n, "SENTINEL", "MONITOR", redistest.MasterName, host, port, 2)
			ask(n, "SENTINEL", "SET", redistest.MasterName, "down-after-milliseconds", 2000, "failover-timeout", 3000)
		}
	}
	s.whole()
}

// backWithoutFile records that a data server restarted without its data. If it is still the
// primary, its replicas drop theirs: everything may be lost, and no gateway can know
// (docs/redis.md, durability).
func (s *campaign) backWithoutFile(n *redistest.Server) {
	p := s.primary()
	if s.aof || !slices.Contains(s.redis.Data, n) || p != nil && p != n {
		return
	}
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	s.book.doubtEverything(time.Now(), "the primary came back without a file")
}

// whole waits until there is one primary and the others follow it.
func (s *campaign) whole() bool {
	return s.until("the group to be whole", 35*time.Second, func() bool {
		p := s.primary()
		if p == nil {
			return false
		}
		a, ok := ask(p, "ROLE").([]any)
		if !ok || fmt.Sprint(a[0]) != "master" {
			return false
		}
		followers, _ := a[2].([]any)
		if len(followers) != s.replicas {
			return false
		}
		for _, n := range s.redis.Sentinels {
			if !n.Running() {
				return false
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			replicas := redis.NewMapStringStringSliceCmd(ctx, "SENTINEL", "REPLICAS", redistest.MasterName)
			err := n.Client().Process(ctx, replicas)
			cancel()
			if err != nil || len(replicas.Val()) != s.replicas {
				return false
			}
			for _, r := range replicas.Val() {
				if r["flags"] != "slave" || r["master-link-status"] != "ok" {
					return false
				}
			}
		}
		return true
	})
}

func (s *campaign) order() {
	for range 50 {
		if ask(s.redis.Sentinels[s.random.IntN(3)], "SENTINEL", "FAILOVER", redistest.MasterName) != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *campaign) someSentinels(n int) []*redistest.Server {
	var out []*redistest.Server
	for _, i := range s.random.Perm(3)[:n] {
		out = append(out, s.redis.Sentinels[i])
	}
	return out
}

// draw prepares a fault. Its sleeps are how long the fault lasts.
func (s *campaign) draw() *trouble {
	t := s.t
	i := s.random.IntN(len(s.c.nodes))
	g, network := s.c.nodes[i], s.networks[i]
	away := []excuse{storeAway}
	each := func(servers []*redistest.Server, f func(*redistest.Server)) {
		for _, n := range servers {
			f(n)
		}
	}
	// Two faults at a time may concern the same server.
	running := func(f func(*redistest.Server)) func(*redistest.Server) {
		return func(n *redistest.Server) {
			if n.Running() {
				f(n)
			}
		}
	}
	pause := running(func(n *redistest.Server) { n.Pause(t) })
	resume := running(func(n *redistest.Server) { n.Resume(t) })
	kill := running(func(n *redistest.Server) { n.Kill(t) })
	start := func(n *redistest.Server) {
		if !n.Running() {
			n.Start(t)
			s.backWithoutFile(n)
		}
	}
	startSentinel := func(n *redistest.Server) { start(n); sentinelPace(n) }
	proxies := func(list []*redistest.Proxy, f func(*redistest.Proxy)) {
		for _, p := range list {
			f(p)
		}
	}
	cut := func(p *redistest.Proxy) { p.Cut(t) }
	silence := func(p *redistest.Proxy) { p.Silent(t) }
	delay := func(least, spread int) func(*redistest.Proxy) { // in milliseconds
		return func(p *redistest.Proxy) { p.Latency(t, time.Duration(least+2*s.random.IntN(spread))*time.Millisecond) }
	}
	restore := func() { proxies(network.All(), func(p *redistest.Proxy) { p.Restore(t) }) }
	var p *redistest.Server
	var some []*redistest.Server
	faults := []*trouble{
		{name: "failover by order", excuses: away, moves: true, inject: func() {
			p = s.master()
			s.order()
			s.replaced(p)
		}},
		{name: "two failovers by order", excuses: away, moves: true, inject: func() {
			p = s.master()
			s.order()
			s.replaced(p)
			s.last(4 * time.Second)
			p = s.master()
			s.order()
			s.replaced(p)
		}},
		{name: "primary killed, back empty", excuses: away, moves: true, inject: func() {
			p = s.master()
			kill(p)
			s.replaced(p)
			s.last(3 * time.Second)
		}, mend: func() { start(p) }},
		{name: "primary killed, back with old data", excuses: away, moves: true, inject: func() {
			p = s.master()
			if s.old = nil; !s.aof && ask(p, "PING") != nil {
				s.old = p.SaveSnapshot(t)
				time.Sleep(2 * time.Second) // the data becomes that old
			}
			kill(p)
			s.replaced(p)
			s.last(3 * time.Second)
		}, mend: func() {
			if s.old == nil {
				start(p)
			} else {
				p.RestoreSnapshot(t, s.old)
				s.backWithoutFile(p)
			}
		}},
		{name: "primary restarted at once", excuses: away, loses: !s.aof, moves: true, inject: func() {
			p = s.master()
			kill(p)
			s.last(1500 * time.Millisecond)
			start(p)
		}},
		{name: "primary restored from a snapshot at once", excuses: away, loses: true, moves: true, inject: func() {
			p = s.master()
			if s.aof { // the file would win
				ask(p, "FLUSHALL", "SYNC")
				return
			}
			if ask(p, "PING") == nil {
				return
			}
			old := p.SaveSnapshot(t)
			s.between(time.Second, 4*time.Second)
			p.RestoreSnapshot(t, old)
		}},
		{name: "emptied", excuses: away, loses: true, inject: func() { ask(s.master(), "FLUSHALL", "SYNC") }, mend: func() { time.Sleep(time.Second) }},
		{name: "primary silent for a moment", excuses: away, moves: true, inject: func() {
			p = s.master()
			pause(p)
			s.last(1500 * time.Millisecond)
		}, mend: func() { resume(p) }},
		{name: "primary silent until replaced", excuses: away, moves: true, inject: func() {
			p = s.master()
			pause(p)
			s.replaced(p)
			s.last(3 * time.Second)
		}, mend: func() { resume(p) }},
		{name: "primary silent, back in the middle of the failover", excuses: away, moves: true, inject: func() {
			p = s.master()
			pause(p)
			s.between(1800*time.Millisecond, 4*time.Second)
		}, mend: func() { resume(p) }},
		{name: "primary and sentinels silent for long", excuses: away, inject: func() {
			p = s.master()
			each(s.redis.Sentinels, pause)
			pause(p)
			s.between(6*time.Second, 25*time.Second)
		}, mend: func() {
			resume(p)
			time.Sleep(200 * time.Millisecond)
			each(s.redis.Sentinels, resume)
		}, moves: true},
		{name: "replica killed", excuses: away, inject: func() {
			p = s.replica()
			kill(p)
			s.last(6 * time.Second)
		}, mend: func() { start(p) }},
		{name: "replica silent", excuses: away, inject: func() {
			p = s.replica()
			pause(p)
			s.last(6 * time.Second)
		}, mend: func() { resume(p) }},
		{name: "a sentinel killed", inject: func() {
			some = s.someSentinels(1)
			each(some, kill)
			s.last(6 * time.Second)
		}, mend: func() { each(some, startSentinel) }},
		{name: "two sentinels killed", inject: func() {
			some = s.someSentinels(2)
			each(some, kill)
			s.last(10 * time.Second)
		}, mend: func() { each(some, startSentinel) }},
		{name: "all sentinels killed", inject: func() {
			some = s.someSentinels(3)
			each(some, kill)
			s.last(10 * time.Second)
		}, mend: func() { each(some, startSentinel) }},
		{name: "a sentinel silent", inject: func() {
			some = s.someSentinels(1)
			each(some, pause)
			s.last(10 * time.Second)
		}, mend: func() { each(some, resume) }},
		{name: "two sentinels silent", excuses: away, moves: true, inject: func() {
			some = s.someSentinels(2)
			each(some, pause)
			s.last(8 * time.Second)
		}, mend: func() { each(some, resume) }},
		{name: "all sentinels silent", excuses: away, moves: true, inject: func() {
			some = s.someSentinels(3)
			each(some, pause)
			s.last(8 * time.Second)
		}, mend: func() { each(some, resume) }},
		{name: "two sentinels silent and the primary killed", excuses: away, moves: true, inject: func() {
			p = s.master()
			some = s.someSentinels(2)
			each(some, pause)
			kill(p)
			s.last(12 * time.Second)
			each(some, resume)
			s.replaced(p)
		}, mend: func() { start(p) }},
		{name: "sentinel reset", moves: true, excuses: away, inject: func() {
			for _, n := range s.someSentinels(1 + s.random.IntN(3)) {
				ask(n, "SENTINEL", "RESET", "*")
			}
			s.last(3 * time.Second)
		}},
		{name: "sentinel reset after a failover", moves: true, excuses: away, inject: func() {
			p = s.master()
			s.order()
			s.replaced(p)
			for _, n := range s.someSentinels(1 + s.random.IntN(3)) {
				ask(n, "SENTINEL", "RESET", "*")
			}
		}},
		{name: "full", excuses: away, inject: func() {
			p = s.master()
			ask(p, "CONFIG", "SET", "maxmemory-policy", "noeviction")
			ask(p, "CONFIG", "SET", "maxmemory", "1mb")
			s.between(time.Second, 9*time.Second)
		}, mend: func() { ask(p, "CONFIG", "SET", "maxmemory", "0") }},
		{name: "debug sleep", excuses: away, moves: true, inject: func() {
			p = s.master()
			asleep := 300*time.Millisecond + time.Duration(s.random.Int64N(int64(2500*time.Millisecond)))
			go ask(p, "DEBUG", "SLEEP", fmt.Sprintf("%.1f", asleep.Seconds()))
			time.Sleep(asleep)
		}},
		{name: "connections closed", excuses: away, inject: func() {
			p = s.master()
			for range 1 + s.random.IntN(5) {
				ask(p, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
				ask(p, "CLIENT", "KILL", "TYPE", "pubsub")
				s.last(300 * time.Millisecond)
			}
		}},
		{name: "feeds cut", inject: func() {
			p = s.master()
			for range 1 + s.random.IntN(5) {
				ask(p, "CLIENT", "KILL", "TYPE", "pubsub")
				s.last(500 * time.Millisecond)
			}
		}},
		{name: "writes paused", excuses: away, inject: func() {
			paused := 300 + s.random.IntN(7000)
			ask(s.master(), "CLIENT", "PAUSE", paused, "WRITE")
			time.Sleep(time.Duration(paused) * time.Millisecond)
		}},
		{name: "everything paused", excuses: away, moves: true, inject: func() {
			paused := 300 + s.random.IntN(4000)
			ask(s.master(), "CLIENT", "PAUSE", paused, "ALL")
			time.Sleep(time.Duration(paused) * time.Millisecond)
		}},
		{name: "a replica made a master by hand", excuses: away, moves: true, inject: func() {
			ask(s.replica(), "REPLICAOF", "NO", "ONE")
			s.last(4 * time.Second)
		}},
		{name: "primary made a replica by hand", excuses: away, moves: true, inject: func() {
			p = s.master()
			host, port, _ := net.SplitHostPort(s.replica().Addr())
			ask(p, "REPLICAOF", host, port)
			s.last(3 * time.Second)
			ask(p, "REPLICAOF", "NO", "ONE")
		}},
		{name: "gateway cut off from the servers", node: g, excuses: away, inject: func() {
			proxies(network.Data, cut)
			s.between(time.Second, 12*time.Second)
		}, mend: restore},
		{name: "gateway's way to the servers silent", node: g, excuses: away, inject: func() {
			proxies(network.Data, silence)
			s.between(time.Second, 12*time.Second)
		}, mend: restore},
		{name: "gateway's way to everything silent", node: g, excuses: away, inject: func() {
			proxies(network.All(), silence)
			s.between(time.Second, 12*time.Second)
		}, mend: restore},
		{name: "gateway's way slow", node: g, excuses: nil, inject: func() {
			proxies(network.All(), delay(40, 80))
			s.between(time.Second, 8*time.Second)
		}, mend: restore},
		{name: "gateway's way slower than the timeout", node: g, excuses: away, inject: func() {
			proxies(network.Data, delay(800, 800))
			s.between(time.Second, 8*time.Second)
		}, mend: restore},
		{name: "gateway cut off from the sentinels", node: g, inject: func() {
			proxies(network.Sentinels, cut)
			s.between(time.Second, 9*time.Second)
		}, mend: restore},
		{name: "gateway's way to the sentinels silent", node: g, inject: func() {
			proxies(network.Sentinels, silence)
			s.between(time.Second, 9*time.Second)
		}, mend: restore},
		{name: "gateway hears the sentinels too late for a failover", excuses: away, moves: true, inject: func() {
			p = s.master()
			proxies(network.Sentinels, silence)
			s.order()
			s.replaced(p)
			s.last(6 * time.Second)
		}, mend: func() { restore() }},
		{name: "gateway killed", node: g, kills: g, excuses: []excuse{gatewayAway, storeAway}, inject: func() {
			g.kill()
			s.last(3 * time.Second)
			g.start(t)
		}},
		{name: "gateway asleep", node: g, excuses: []excuse{gatewayAway, storeAway}, inject: func() {
			g.pause(t)
			s.last(12 * time.Second)
		}, mend: func() { g.resume(t) }},
		{name: "gateways reloaded", inject: func() {
			for _, g := range s.c.nodes {
				c := s.config(g)
				c.global = strings.Replace(c.global, "wait_replicas", fmt.Sprintf("pool_size %d\nwait_replicas", 5+s.random.IntN(40)), 1)
				a := g.reload(t, c)
				require.Equal(t, http.StatusOK, a.Status, a.Body)
				s.last(time.Second)
			}
		}},
	}
	faults = slices.DeleteFunc(faults, func(f *trouble) bool { return !s.only.MatchString(f.name) })
	return faults[s.random.IntN(len(faults))]
}

// sentinelPace sets what redistest set at the start, after a restart.
func sentinelPace(n *redistest.Server) {
	ask(n, "SENTINEL", "DEBUG", "INFO-PERIOD", 500, "PUBLISH-PERIOD", 1000)
}

// settle waits until every gateway serves everything.
func (s *campaign) settle(what string, d time.Duration) bool {
	ok := true
	for _, g := range s.c.nodes {
		if !s.until(g.name+" to serve after "+what, d, func() bool { return s.book.serves(g) }) {
			ok = false
		}
	}
	return ok
}
