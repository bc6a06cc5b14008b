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
	campaignWrong   = "CLUSTER_WRONG"   // a file that receives wrong answers at once, with the matching lines of the gateways' logs
)

// fewFaults are the faults of the short run in make test. The others are left to long runs, because
// they may last for minutes and cause rare failures in unrelated work.
const fewFaults = `^(failover by order|two failovers by order|primary killed|primary silent|replica|feeds cut|connections closed|full|gateway killed|gateways reloaded)`

// campaign runs three gateways, each with its own network, on a Redis group watched by Sentinels,
// with all actions of platforms and operators and with random faults, sometimes two at a time.
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
	lastPrimary    *redistest.Server // the last known primary
}

// TestCampaign compares every answer with the earlier answers to platforms and operators. Unlike in
// TestSoak, applications, secrets and refresh tokens change during the run, and a fault excuses only
// the affected node.
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
		s.timeout = "2s" // long enough for a busy machine
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
	s.awaitService("the start", 60*time.Second)
	before := s.c.resting(t)
	t.Logf("goroutines at rest: %v, connections %d", before, s.connections())

	for end := time.Now().Add(duration); time.Now().Before(end) && !s.book.broken(); {
		s.sleepUpTo(1500 * time.Millisecond) // undisturbed
		s.injectFaults()
	}
	time.Sleep(2 * s.c.staleness) // caches from before the last fault have expired
	s.book.end()
	time.Sleep(s.c.staleness) // and those of the last requests
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

// config returns the configuration of a gateway.
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

// trouble is a fault, and its effects that the book must expect.
type trouble struct {
	name string
	// node is the only affected gateway; nil means all.
	node    *gateway
	excuses []excuse
	// moves means that a failover may happen, which may lose the last writes.
	moves bool
	// loses means that all data may be lost.
	loses bool
	// kills is the gateway that is killed and loses its memory.
	kills  *gateway
	inject func()
	repair func()
}

// injectFaults injects one fault, or two at a time, and waits for the recovery.
func (s *campaign) injectFaults() {
	n := 1
	if s.random.IntN(3) == 0 {
		n = 2
	}
	var all []*trouble
	for len(all) < n {
		f := s.drawFault()
		if len(all) > 0 && f.name == all[0].name { // the filter may permit only one
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
			s.sleepUpTo(2 * time.Second)
		}
	}
	for _, f := range all {
		if f.repair != nil {
			f.repair()
		}
	}
	if !s.awaitGroup() {
		s.repairGroup()
	}
	repaired := time.Now()
	ok := s.awaitService(strings.Join(names, " + "), 90*time.Second)
	took := time.Since(repaired)
	if slices.ContainsFunc(all, func(f *trouble) bool { return f.loses }) {
		// Gateways notice the loss at a heartbeat, replay their journals, and revoke everything if
		// these are incomplete.
		time.Sleep(s.c.staleness)
	}
	for _, over := range overs {
		over()
	}
	s.t.Logf("%s %s: recovered in %s", time.Now().Format("15:04:05.000"), strings.Join(names, " + "), took.Round(10*time.Millisecond))
	s.book.recovery(strings.Join(names, " + "), took, ok)
}

// sleepUpTo waits for a random time of at most d. No verdict depends on it.
func (s *campaign) sleepUpTo(d time.Duration) { time.Sleep(time.Duration(s.random.Int64N(int64(d)))) }

func (s *campaign) sleepBetween(low, high time.Duration) {
	time.Sleep(low + time.Duration(s.random.Int64N(int64(high-low))))
}

// until waits for done for at most d. It only logs a timeout, which is a failure of the lab and not
// of a gateway.
func (s *campaign) until(what string, d time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if done() {
			return true
		}
	}
	s.t.Logf("%s lab: no %[3]s within %[2]s", time.Now().Format("15:04:05.000"), d, what)
	return false
}

// primary returns the server that a majority of the answering Sentinels names as the primary. If no
// Sentinel answers, it returns the server with the role of a master.
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

// ask sends a command to a server and returns the answer, nil if there is none within a second.
func ask(n *redistest.Server, args ...any) any {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	v, err := n.Client().Do(ctx, args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil
	}
	return v
}

// awaitPrimary returns the primary, or the last known one if another fault stops all servers that
// could name it.
func (s *campaign) awaitPrimary() *redistest.Server {
	s.until("primary", 10*time.Second, func() bool {
		if p := s.primary(); p != nil {
			s.lastPrimary = p
			return true
		}
		return s.lastPrimary != nil && roleOf(s.lastPrimary) == ""
	})
	if s.lastPrimary == nil {
		s.t.Fatal("the lab has no primary")
	}
	return s.lastPrimary
}

func (s *campaign) replica() *redistest.Server {
	p := s.awaitPrimary()
	for _, i := range s.random.Perm(len(s.redis.Data)) {
		if s.redis.Data[i] != p {
			return s.redis.Data[i]
		}
	}
	return nil
}

// awaitFailover waits until another server is the primary.
func (s *campaign) awaitFailover(former *redistest.Server) {
	s.until("failover", 70*time.Second, func() bool { p := s.primary(); return p != nil && p != former && roleOf(p) == "master" })
}

func roleOf(n *redistest.Server) string {
	if a, ok := ask(n, "ROLE").([]any); ok && len(a) > 0 {
		return fmt.Sprint(a[0])
	}
	return ""
}

// repairGroup restores replication if the Sentinels do not.
func (s *campaign) repairGroup() {
	p := s.awaitPrimary()
	host, port, _ := net.SplitHostPort(p.Addr())
	// A server that was started as a replica restarts as one, since it has no configuration file.
	// Sentinels do not promote a replica that has had no primary for long.
	if roleOf(p) == "slave" {
		s.t.Log("lab: promoting the primary")
		ask(p, "REPLICAOF", "NO", "ONE")
		s.backWithoutFile(p)
	}
	for _, d := range s.redis.Data {
		if d != p && roleOf(d) == "master" {
			s.t.Log("lab: attaching a replica to the primary")
			ask(d, "REPLICAOF", host, port)
		}
	}
	// A Sentinel that was reset during a failover keeps the old primary.
	for _, n := range s.redis.Sentinels {
		at, _ := ask(n, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", redistest.MasterName).([]any)
		if len(at) == 2 && net.JoinHostPort(fmt.Sprint(at[0]), fmt.Sprint(at[1])) != p.Addr() {
			s.t.Log("lab: configuring the primary on a Sentinel")
			ask(n, "SENTINEL", "REMOVE", redistest.MasterName)
			ask(n, "SENTINEL", "MONITOR", redistest.MasterName, host, port, 2)
			ask(n, "SENTINEL", "SET", redistest.MasterName, "down-after-milliseconds", 2000, "failover-timeout", 3000)
		}
	}
	s.awaitGroup()
}

// backWithoutFile records that a data server restarted without its data. If it is still the
// primary, its replicas drop their data too. All data may be lost, unnoticed by the gateways
// (docs/redis.md, durability).
func (s *campaign) backWithoutFile(n *redistest.Server) {
	p := s.primary()
	if s.aof || !slices.Contains(s.redis.Data, n) || p != nil && p != n {
		return
	}
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	s.book.doubtEverything(time.Now(), "the primary restarted without its data")
}

// awaitGroup waits until there is one primary and all other servers replicate it.
func (s *campaign) awaitGroup() bool {
	return s.until("complete group", 35*time.Second, func() bool {
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

func (s *campaign) orderFailover() {
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

// awaitService waits until every gateway serves all requests.
func (s *campaign) awaitService(what string, d time.Duration) bool {
	ok := true
	for _, g := range s.c.nodes {
		if !s.until("service of "+g.name+" after "+what, d, func() bool { return s.book.serves(g) }) {
			ok = false
		}
	}
	return ok
}
