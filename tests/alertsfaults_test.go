// SPDX-License-Identifier: MIT

package tests

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/child"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// These tests inject faults into real gateways and record their metrics. promtool then evaluates the
// rules on the recording, stretched to ten healthy minutes and ten minutes of the fault, without
// waiting in real time.

// watched is a gateway process whose metrics are read.
type watched struct {
	t          *testing.T
	dir        string
	url, admin string
	client     *http.Client
	process    *child.Process
}

// startWatched runs a gateway with the given lines in its global option and its
// directive.
func startWatched(t *testing.T, global, gate string) *watched {
	t.Helper()
	g := &watched{t: t, dir: t.TempDir(), client: &http.Client{Timeout: 20 * time.Second}}
	for _, address := range []*string{&g.url, &g.admin} {
		claim, err := child.ClaimPort()
		require.NoError(t, err)
		t.Cleanup(claim.Release)
		*address = "http://" + claim.Addr()
	}
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, "Caddyfile"), fmt.Appendf(nil, `{
	admin %s
	persist_config off
	auto_https off
	meet_gateway {
		%s
	}
}
%s {
	meet_gateway {
		%s
	}
}
`, strings.TrimPrefix(g.admin, "http://"), global, g.url, gate), 0o600))
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		g.process.Kill()
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(g.dir, "output"))
			t.Logf("%s:\n%s", g.url, text)
		}
	})
	g.start()
	return g
}

// start starts or restarts the process and waits until it serves.
func (g *watched) start() {
	g.t.Helper()
	program, err := binary()
	require.NoError(g.t, err)
	output, err := os.OpenFile(filepath.Join(g.dir, "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(g.t, err)
	defer output.Close()
	cmd := exec.Command(program, "run", "--config", filepath.Join(g.dir, "Caddyfile"), "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+g.dir, "XDG_DATA_HOME="+g.dir, "XDG_CONFIG_HOME="+g.dir)
	cmd.Stdout, cmd.Stderr = output, output
	g.process, err = child.Start(cmd)
	require.NoError(g.t, err)
	require.Eventually(g.t, func() bool {
		if !g.process.Running() {
			return false
		}
		res, err := g.client.Get(g.admin + "/meet-gateway/health/live")
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}, time.Minute, 20*time.Millisecond)
}

// do makes a request and returns its status and its body. headers come in pairs.
func (g *watched) do(method, target, body string, headers ...string) (int, string) {
	g.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = g.url + "/external-api/v1.0" + target
	}
	r, err := http.NewRequest(method, target, strings.NewReader(body))
	require.NoError(g.t, err)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := g.client.Do(r)
	require.NoError(g.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(g.t, err)
	return res.StatusCode, string(text)
}

// register registers an application and returns its id and its secret. fields are additional JSON
// fields.
func (g *watched) register(fields string) (id, secret string) {
	g.t.Helper()
	status, body := g.do(http.MethodPost, g.admin+"/meet-gateway/applications", `{"name":"Test","domains":["*"],"scopes":["rooms:list"]`+fields+`}`)
	require.Equal(g.t, http.StatusCreated, status, body)
	return jsonText(g.t, body, "client_id"), jsonText(g.t, body, "client_secret")
}

// token requests a token and returns the value of an Authorization header.
func (g *watched) token(id, secret, mail string) (status int, bearer string) {
	g.t.Helper()
	status, body := g.do(http.MethodPost, "/application/token", gatewaytest.TokenBody(id, secret, mail))
	if status == http.StatusOK {
		bearer = gatewaytest.Bearer(jsonText(g.t, body, "access_token"))
	}
	return status, bearer
}

func (g *watched) rooms(bearer string) int {
	g.t.Helper()
	status, _ := g.do(http.MethodGet, "/rooms", "", "Authorization", bearer)
	return status
}

// samples are the metrics of a gateway, by series without the prefix.
type samples map[string]string

func (g *watched) scrape() samples {
	g.t.Helper()
	_, body := g.do(http.MethodGet, g.admin+"/metrics", "")
	s := samples{}
	for line := range strings.Lines(body) {
		if line, ours := strings.CutPrefix(strings.TrimSpace(line), "caddy_meet_gateway_"); ours {
			i := strings.LastIndexByte(line, ' ')
			s[line[:i]] = line[i+1:]
		}
	}
	return s
}

// shows waits for a value of a series.
func (g *watched) shows(series, value string) {
	g.t.Helper()
	last := ""
	require.Eventually(g.t, func() bool {
		last = g.scrape()[series]
		return last == value
	}, time.Minute, 20*time.Millisecond, "%s is not %s", series, value)
}

// healthy waits until no metric shows a problem.
func (g *watched) healthy() {
	g.t.Helper()
	g.shows("ready", "1")
	g.shows("feed_fresh", "1")
}

// recording holds the metrics of gateways, first without and then with the fault.
type recording struct {
	row     string
	related []string // additional alerts that may fire
	taken   [][]samples
}

// scene is a group of gateways for the injection of one fault after the other.
type scene struct {
	gateways []*watched
	recorded *recordings
}

type recordings struct {
	mu  sync.Mutex
	all []recording
}

// fault records the fault of a row in docs/outages.md, or of an alert if there is no row. do causes
// the fault and calls take at least once during it.
func (s *scene) fault(row string, do func(take func()), related ...string) {
	r := recording{row: row, related: related}
	take := func() {
		var at []samples
		for _, g := range s.gateways {
			at = append(at, g.scrape())
		}
		r.taken = append(r.taken, at)
	}
	for _, g := range s.gateways {
		g.healthy()
	}
	take()
	do(take)
	s.recorded.mu.Lock()
	defer s.recorded.mu.Unlock()
	s.recorded.all = append(s.recorded.all, r)
}

// Both alerts may fire whenever requests get 5xx.
var burn = []string{"ErrorBudgetFast", "ErrorBudgetSlow"}

const alertsSecret = "\nsecret alerts-test-0123456789-0123456789-01234567\nstaleness 5s"

// scenes has the slowest scenes first.
var scenes = []struct {
	name string
	do   func(t *testing.T, s *scene)
}{
	{"Redis is slow or lacks information", func(t *testing.T, s *scene) {
		redis := redistest.Standalone(t)
		way := redistest.Proxied(t, redis)
		quick := strings.Replace(alertsSecret, "staleness 5s", "staleness 2s", 1)
		s.gateways = append(s.gateways, startWatched(t, "store redis "+way.URL()+quick, "backend sandbox"))
		g := s.gateways[0]
		id, secret := g.register("")
		s.fault("Redis slow", func(take func()) {
			way.Latency(t, 150*time.Millisecond)
			for range 2 {
				status, _ := g.token(id, secret, "ada@example.org")
				require.Equal(t, http.StatusOK, status)
				take()
			}
			way.Restore(t)
		})
		s.fault("Redis answers, feed", func(take func()) {
			way.MuteFeeds(t)
			g.shows("feed_fresh", "0")
			take()
			way.Restore(t)
		})
		s.fault("The Redis user lacks only", func(take func()) {
			redis.RefuseFeeds(t)
			g.shows("feed_refused", "1")
			take()
			redis.AllowFeeds(t)
		})
		s.fault("Redis full", func(take func()) {
			require.NoError(t, redis.Client().ConfigSet(t.Context(), "maxmemory", "1").Err())
			for range 2 {
				status, _ := g.token(id, secret, "ada@example.org")
				require.Equal(t, http.StatusServiceUnavailable, status)
				take()
			}
			g.shows("feed_fresh", "0")
			take()
			require.NoError(t, redis.Client().ConfigSet(t.Context(), "maxmemory", "0").Err())
		}, burn...)
	}},
	{"Redis has lost data or was replaced", func(t *testing.T, s *scene) {
		redis := redistest.Standalone(t)
		allow := func() {
			require.NoError(t, redis.Client().Do(t.Context(), "ACL", "SETUSER", "gateway", "on", ">alerts", "~*", "&*", "+@all").Err())
		}
		allow()
		global := "store redis {\naddress " + redis.Addr() + "\nusername gateway\npassword alerts\n}" + alertsSecret
		s.gateways = append(s.gateways, startWatched(t, global, "backend sandbox"))
		g := s.gateways[0]
		id, secret := g.register("")
		s.fault("Redis is a replica (READONLY)", func(take func()) {
			redis.SetReadOnly(t, true)
			g.shows(problem("replica"), "1")
			take()
			redis.SetReadOnly(t, false)
		})
		s.fault("Redis is a replica for", func(take func()) {
			redis.SetReadOnly(t, true)
			g.shows(problem("replica"), "1")
			g.shows("feed_fresh", "0")
			take()
			redis.SetReadOnly(t, false)
		})
		s.fault("Redis refuses the", func(take func()) {
			require.NoError(t, redis.Client().Do(t.Context(), "ACL", "DELUSER", "gateway").Err())
			for range 2 {
				g.token(id, secret, "ada@example.org")
				take()
			}
			allow()
		}, burn...)
		s.fault("The Redis user lacks a command", func(take func()) {
			require.NoError(t, redis.Client().Do(t.Context(), "ACL", "SETUSER", "gateway", "-setrange").Err())
			g.shows(problem("refused"), "1")
			take()
			allow()
		})
		s.fault("Redis emptied", func(take func()) {
			redis.FlushAll(t)
			g.shows("store_rollbacks_total", "1")
			take()
		})
		_, _ = g.register("") // a change that the next Redis does not have
		s.fault("Redis replaced by an empty server", func(take func()) {
			redis.Stop(t)
			redis.Start(t)
			allow()
			g.shows("store_rollbacks_total", "2")
			g.healthy()
			take()
		}, "RedisRefusesUser") // until allow
	}},
	{"Sentinels fail over", func(t *testing.T, s *scene) {
		redis := redistest.Sentinel(t)
		way := redis.Network(t)
		for _, addresses := range [][]string{way.Addrs(), redis.Addrs()} {
			s.gateways = append(s.gateways, startWatched(t,
				"store redis {\naddress "+strings.Join(addresses, " ")+"\nmaster_name "+redistest.MasterName+"\n}"+alertsSecret, "backend sandbox"))
		}
		g := s.gateways[0]
		s.fault("This gateway cut off from the Sentinels", func(take func()) {
			for _, proxy := range way.Sentinels {
				proxy.Cut(t)
			}
			g.shows("sentinels_answering", "0")
			take()
			for _, proxy := range way.Sentinels {
				proxy.Restore(t)
			}
			g.shows("sentinels_answering", strconv.Itoa(len(way.Sentinels)))
		})
		s.fault("After a failover", func(take func()) {
			redis.Failover(t)
			for _, g := range s.gateways {
				g.shows("store_replacements_total", "1")
				g.healthy()
			}
			take()
		})
		master := redis.Master(t)
		replica := redis.Data[slices.IndexFunc(redis.Data, func(n *redistest.Server) bool { return n != master })]
		s.fault("Cut off from most Sentinels", func(take func()) {
			for _, proxy := range way.Sentinels {
				proxy.Cut(t)
			}
			replica.Stop(t)
			g.shows(problem("sentinels_silent"), "1")
			take()
			for _, proxy := range way.Sentinels {
				proxy.Restore(t)
			}
			g.shows("sentinels_answering", strconv.Itoa(len(way.Sentinels)))
			replica.Start(t)
			redis.AwaitReplica(t)
		}, "CutOff")
		s.fault("Failover (Sentinel", func(take func()) {
			master.Kill(t)
			g.shows(problem("unreachable"), "1")
			take()
		})
	}},
	{"Redis is unavailable", func(t *testing.T, s *scene) {
		redis := redistest.Standalone(t)
		way := redistest.Proxied(t, redis)
		for _, url := range []string{way.URL(), redis.URL()} {
			s.gateways = append(s.gateways, startWatched(t, "store redis "+url+alertsSecret, "backend sandbox"))
		}
		g := s.gateways[0]
		s.fault("This gateway cut off from Redis", func(take func()) {
			way.Cut(t)
			g.shows("ready", "0")
			take()
			way.Restore(t)
		})
		s.fault("Redis unavailable, for less", func(take func()) {
			redis.Pause(t)
			g.shows(problem("unreachable"), "1")
			take()
		})
		redis.Resume(t)
		s.fault("Redis unavailable for longer", func(take func()) {
			redis.Pause(t)
			for _, g := range s.gateways {
				g.shows("feed_fresh", "0")
			}
			take()
		})
		redis.Resume(t)
	}},
	{"slots of a Cluster move", func(t *testing.T, s *scene) {
		redis := redistest.Cluster(t)
		global := "store redis {\naddress " + strings.Join(redis.Addrs(), " ") + "\ncluster\ntimeout 2s\n}" + alertsSecret
		s.gateways = append(s.gateways, startWatched(t, global, "backend sandbox"))
		g := s.gateways[0]
		s.fault("A Cluster slot", func(take func()) {
			const moved = `redis_errors_total{kind="moved"}`
			before := g.scrape()[moved]
			move := redis.BeginSlotMove(t, redis.Slot(t, "mg1:feed"))
			require.Equal(t, 1, move.MoveKeys(t, 1))
			require.Eventually(t, func() bool { return g.scrape()[moved] != before }, 20*time.Second, 20*time.Millisecond)
			take()
			move.Finish(t)
		})
	}},
	{"an operator's mistakes", func(t *testing.T, s *scene) {
		redis := redistest.Standalone(t)
		store := "store redis " + redis.URL()
		good := startWatched(t, store+alertsSecret, "backend sandbox")
		s.gateways = append(s.gateways, good)
		s.fault("AuditFailing", func(take func()) {
			s.gateways[0] = startWatched(t, store+alertsSecret+"\naudit {\noutput file /dev/full {\nmode 0666\nroll_disabled\n}\n}", "backend sandbox")
			s.gateways[0].healthy()
			take()
		})
		s.gateways[0] = good
		s.fault("KeysMissing", func(take func()) {
			s.gateways[0] = startWatched(t, store+strings.Replace(alertsSecret, "alerts", "others", 1), "backend sandbox")
			s.gateways[0].shows("keys_missing", "1")
			take()
		})
	}},
	{"Meet fails", func(t *testing.T, s *scene) {
		var fault atomic.Pointer[http.HandlerFunc]
		meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), func(meet http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if f := fault.Load(); f != nil {
					(*f)(w, r)
					return
				}
				meet.ServeHTTP(w, r)
			})
		})
		const own, ownSecret = "application-at-meet", "application-secret-at-meet"
		meet.AddApplication(sandbox.Application{ClientID: own, Secret: ownSecret, Active: true, Scopes: []string{"rooms:list"}})
		gate := meet.Backend() + "\nrequest_timeout 300ms"
		g := startWatched(t, "store embedded", gate)
		s.gateways = []*watched{g}
		id, secret := g.register("")
		_, bearer := g.token(id, secret, "ada@example.org")
		require.Equal(t, http.StatusOK, g.rooms(bearer))
		fails := func(row string, status int, begin, end func(), related ...string) {
			t.Helper()
			s.fault(row, func(take func()) {
				begin()
				for range 2 {
					require.Equal(t, status, g.rooms(bearer), row)
					take()
				}
				end()
			}, append(related, burn...)...)
		}
		answers := func(f http.HandlerFunc) func() { return func() { fault.Store(&f) } }
		works := func() { fault.Store(nil) }
		fails("Meet closes connections", http.StatusServiceUnavailable, answers(closeConnection), works)
		fails("Meet answers 500", http.StatusBadGateway, answers(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<h1>Server Error (500)</h1>", http.StatusInternalServerError)
		}), works)
		fails("Meet does not answer", http.StatusGatewayTimeout, answers(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}), works)
		active := func(client string, is bool) func() { return func() { meet.SetApplicationActive(client, is) } }
		fails("Meet has disabled the gateway", http.StatusBadGateway, active(gatewaytest.MeetClientID, false), active(gatewaytest.MeetClientID, true))

		shared := bearer
		ownID, secretOfOwn := g.register(`,"backend":{"client_id":"` + own + `","client_secret":"` + ownSecret + `"}`)
		_, bearer = g.token(ownID, secretOfOwn, "ada@example.org")
		require.Equal(t, http.StatusOK, g.rooms(bearer))
		fails("Meet has disabled an", http.StatusUnauthorized, active(own, false), active(own, true))
		bearer = shared
		user := func(is bool) func() { return func() { meet.SetUserActive("ada@example.org", is) } }
		fails("Meet has disabled the user", http.StatusUnauthorized, user(false), user(true))

		// Use another gateway, because this one caches that its application is inactive.
		g = startWatched(t, "store embedded", gate)
		s.gateways = []*watched{g}
		id, secret = g.register("")
		s.fault("Meet refuses", func(take func()) {
			meet.AddApplication(sandbox.Application{ClientID: gatewaytest.MeetClientID, Secret: "another", Active: true})
			for range 2 {
				status, _ := g.token(id, secret, "ada@example.org")
				require.Equal(t, http.StatusBadGateway, status)
				take()
			}
		}, burn...)
	}},
}

func closeConnection(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}

// In a real gateway, each fault in docs/outages.md fires the alert in its row, and otherwise only
// related ones. No alert fires before the fault.
func TestAlerts_FireByRealFaults(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("there is no promtool here; .ci/install brings it")
	}
	recorded := new(recordings)
	t.Run("faults", func(t *testing.T) {
		for _, c := range scenes {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.do(t, &scene{recorded: recorded})
			})
		}
	})
	if t.Failed() {
		return
	}
	rules, err := os.ReadFile(rulesFile)
	require.NoError(t, err)
	done := map[string]bool{}
	var tests []any
	for _, r := range recorded.all {
		i := slices.IndexFunc(faults, func(f fault) bool { return f.row == r.row || f.row == "" && slices.Contains(f.alerts, r.row) })
		require.GreaterOrEqual(t, i, 0, r.row)
		done[r.row] = true
		tests = append(tests, r.test(string(rules), faults[i].alerts[0], append(r.related, faults[i].alerts[1:]...)))
	}
	for _, f := range faults {
		require.True(t, f.row == "" || done[f.row], "no scene causes the fault %q", f.row)
	}
	testRules(t, tests)
}

// test converts a recording to a test for promtool: the first samples for ten minutes,
// then each once, and the last ones for ten minutes.
func (r *recording) test(rules, alert string, related []string) map[string]any {
	var input []map[string]string
	for i := range r.taken[0] {
		names := map[string]bool{}
		for _, at := range r.taken {
			for series := range at[i] {
				name, _, _ := strings.Cut(series, "{")
				forRecords := name == "request_duration_seconds_bucket" || name == "gateway_duration_seconds_bucket"
				if strings.Contains(rules, "caddy_meet_gateway_"+name) && !forRecords {
					names[series] = true
				}
			}
		}
		for _, series := range slices.Sorted(maps.Keys(names)) {
			var values strings.Builder
			for n, at := range r.taken {
				held := map[int]int{0: 40, len(r.taken) - 1: 40}[n]
				if value, ok := at[i][series]; ok {
					fmt.Fprintf(&values, "%s+0x%d ", value, held)
				} else {
					fmt.Fprintf(&values, "_x%d ", held+1)
				}
			}
			input = append(input, map[string]string{"series": seriesOf(series, fmt.Sprint("gw", i+1)), "values": values.String()})
		}
	}
	firing := func(but string) string {
		return `group by (alertname) (ALERTS{alertstate="firing",alertname!~"` + but + `"})`
	}
	return map[string]any{
		"name": r.row, "interval": "15s", "input_series": input,
		"promql_expr_test": []any{
			map[string]any{"expr": firing(""), "eval_time": "9m", "exp_samples": []any{}},
			map[string]any{"expr": firing("MeetGateway(" + strings.Join(related, "|") + ")"), "eval_time": "14m", "exp_samples": []any{
				map[string]any{"labels": `{alertname="MeetGateway` + alert + `"}`, "value": 1},
			}},
		},
	}
}
