// SPDX-License-Identifier: MIT

package tests

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const rulesFile = "../deploy/prometheus/rules.yaml"

// fault lists the metrics of gateway gw1 during a fault, which starts after ten minutes.
type fault struct {
	// row is the beginning of the row in the tables of docs/outages.md, "" if there is none.
	row string
	// series has the changed values in promtool's notation, by name and labels. every means that gw2
	// is affected too.
	series map[string]string
	every  bool
	// alerts must fire, without the prefix MeetGateway. The first is the alert of the row.
	alerts []string
}

const (
	// Values of ten healthy minutes, one every 15 s, and ten minutes of the fault.
	falls   = "1+0x40 0+0x40"
	rises   = "0+0x40 1+0x40"
	growing = "0+0x40 1+1x40"
	once    = "0+0x60 1+0x20" // in the last five minutes
)

func problem(name string) string { return `store_problem{problem="` + name + `"}` }

func outcome(name string) map[string]string {
	return map[string]string{`requests_total{endpoint="rooms_list",outcome="` + name + `"}`: growing}
}

var faults = []fault{
	{row: "Redis unavailable, for less", series: map[string]string{"ready": falls, problem("unreachable"): rises}, every: true, alerts: []string{"RedisUnavailable"}},
	{row: "Redis unavailable for longer", series: map[string]string{"ready": falls, problem("unreachable"): rises, "feed_fresh": falls}, every: true, alerts: []string{"RedisUnavailablePastBound", "RedisUnavailable"}},
	{row: "Redis slow", series: map[string]string{`redis_command_duration_seconds_bucket{command="get",le="0.1"}`: "0+10x40 400+0x40"}, every: true, alerts: []string{"RedisSlow"}},
	{row: "Redis answers, feed", series: map[string]string{"feed_fresh": falls}, alerts: []string{"FeedSilent"}},
	{row: "Redis is a replica (READONLY)", series: map[string]string{"ready": falls, problem("replica"): rises}, every: true, alerts: []string{"RedisReplica"}},
	{row: "Redis is a replica for", series: map[string]string{"ready": falls, problem("replica"): rises, "feed_fresh": falls}, every: true, alerts: []string{"RedisReplicaPastBound", "RedisReplica"}},
	{row: "Redis refuses the", series: map[string]string{"ready": falls, problem("refused"): rises, `redis_errors_total{kind="noauth"}`: growing}, every: true, alerts: []string{"RedisRefusesUser"}},
	{row: "The Redis user lacks a command", series: map[string]string{"ready": falls, problem("refused"): rises}, every: true, alerts: []string{"RedisRefusesUser"}},
	{row: "The Redis user lacks only", series: map[string]string{"feed_fresh": falls, "feed_refused": rises}, every: true, alerts: []string{"FeedRefused"}},
	{row: "Redis full", series: map[string]string{`redis_errors_total{kind="oom"}`: growing, "feed_fresh": falls}, every: true, alerts: []string{"RedisRefusesWrites"}},
	{row: "A Cluster slot", series: map[string]string{`redis_errors_total{kind="moved"}`: growing}, every: true, alerts: []string{"ClusterMoved"}},
	{
		row: "Failover (Sentinel", every: true, alerts: []string{"FailoverRunning", "RedisUnavailable"},
		series: map[string]string{"ready": falls, problem("unreachable"): rises, `store_info{mode="sentinel"}`: "1+0x80"},
	},
	{row: "After a failover", series: map[string]string{"store_replacements_total": once}, every: true, alerts: []string{"RedisReplaced"}},
	{row: "This gateway cut off from Redis", series: map[string]string{"ready": falls, problem("unreachable"): rises}, alerts: []string{"CutOff", "RedisUnavailable"}},
	{row: "This gateway cut off from the Sentinels", series: map[string]string{"sentinels": "3+0x80", "sentinels_answering": "3+0x40 0+0x40"}, alerts: []string{"SentinelsSilent"}},
	{
		row: "Cut off from most Sentinels", every: true, alerts: []string{"SentinelsUnproven"},
		series: map[string]string{"sentinels": "3+0x80", "sentinels_answering": "3+0x40 1+0x40", "ready": falls, problem("sentinels_silent"): rises},
	},
	{row: "Redis emptied", series: map[string]string{"store_rollbacks_total": once}, every: true, alerts: []string{"RedisEmptied"}},
	{row: "Redis replaced by an empty server", series: map[string]string{"store_rollbacks_total": once, "store_replacements_total": once}, every: true, alerts: []string{"RedisRestored"}},
	{row: "Meet closes connections", series: outcome("backend_unavailable"), alerts: []string{"MeetUnavailable"}},
	{row: "Meet answers 500", series: outcome("backend_bad_answer"), alerts: []string{"MeetBadAnswers"}},
	{row: "Meet does not answer", series: outcome("backend_timeout"), alerts: []string{"MeetTimeout"}},
	{row: "Meet refuses", series: outcome("backend_credentials"), alerts: []string{"MeetCredentials"}},
	{row: "Meet has disabled the gateway", series: outcome("backend_shared_application_inactive"), alerts: []string{"MeetSharedApplicationInactive"}},
	{row: "Meet has disabled an", series: outcome("backend_application_inactive"), alerts: []string{"MeetApplicationInactive"}},
	{row: "Meet has disabled the user", series: outcome("user_disabled"), alerts: []string{"MeetUsersDisabled"}},

	{series: map[string]string{"keys_missing": rises}, alerts: []string{"KeysMissing"}},
	{series: map[string]string{"audit_failing": rises}, alerts: []string{"AuditFailing"}},
	{series: map[string]string{"exchanges_queued": "0+0x40 50+0x40"}, alerts: []string{"ExchangesQueue"}},
	{
		series: map[string]string{`request_duration_seconds_count{endpoint="token",status="5xx"}`: "0+0x40 20+20x40"},
		every:  true, alerts: []string{"ErrorBudgetFast", "ErrorBudgetSlow"},
	},
	{alerts: nil}, // no fault
}

// healthy returns the metrics of a healthy gateway.
func healthy() map[string]string {
	series := map[string]string{
		"ready": "1+0x80", "feed_fresh": "1+0x80", "feed_refused": "0+0x80", "keys_missing": "0+0x80", "audit_failing": "0+0x80", "exchanges_queued": "0+0x80",
		`store_info{mode="standalone"}`: "1+0x80", "store_replacements_total": "0+0x80", "store_rollbacks_total": "0+0x80",
		`requests_total{endpoint="rooms_list",outcome="ok"}`:                 "0+100x80",
		`request_duration_seconds_count{endpoint="rooms_list",status="2xx"}`: "0+100x80",
		`redis_command_duration_seconds_bucket{command="get",le="0.1"}`:      "0+10x80",
		`redis_command_duration_seconds_bucket{command="get",le="0.5"}`:      "0+10x80",
		`redis_command_duration_seconds_bucket{command="get",le="+Inf"}`:     "0+10x80",
	}
	for _, p := range []string{"unreachable", "refused", "replica", "sentinels_disagree", "sentinels_silent", "unproven", "keys_missing"} {
		series[problem(p)] = "0+0x80"
	}
	for _, kind := range []string{"oom", "misconf", "moved", "noperm", "noauth", "timeout"} {
		series[`redis_errors_total{kind="`+kind+`"}`] = "0+0x80"
	}
	return series
}

// promtool runs promtool, from Debian's package prometheus.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool here; .ci/install brings it")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	require.NoError(t, err, string(out))
}

// Each fault fires the alert in its row, and otherwise only related ones.
func TestAlerts_FireByFault(t *testing.T) {
	var tests []any
	for _, f := range faults {
		var input []map[string]string
		for i, instance := range []string{"gw1", "gw2"} {
			series := healthy()
			if i == 0 || f.every {
				if _, sentinel := f.series[`store_info{mode="sentinel"}`]; sentinel {
					delete(series, `store_info{mode="standalone"}`)
				}
				maps.Copy(series, f.series)
			}
			for name, values := range series {
				input = append(input, map[string]string{"series": seriesOf(name, instance), "values": values})
			}
		}
		samples := []map[string]any{}
		for _, a := range slices.Sorted(slices.Values(f.alerts)) {
			samples = append(samples, map[string]any{"labels": `{alertname="MeetGateway` + a + `"}`, "value": 1})
		}
		tests = append(tests, map[string]any{
			"name": f.row, "interval": "15s", "input_series": input,
			"promql_expr_test": []any{map[string]any{
				"expr": `group by (alertname) (ALERTS{alertstate="firing"})`, "eval_time": "19m", "exp_samples": samples,
			}},
		})
	}
	testRules(t, tests)
}

// testRules runs tests of the rules with promtool.
func testRules(t *testing.T, tests []any) {
	t.Helper()
	rules, err := filepath.Abs(rulesFile)
	require.NoError(t, err)
	file, err := yaml.Marshal(map[string]any{"rule_files": []string{rules}, "evaluation_interval": "1m", "tests": tests})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "rules_test.yaml")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	promtool(t, "check", "rules", rules)
	promtool(t, "test", "rules", path)
}

// seriesOf returns the name of a series with its labels and those of the target.
func seriesOf(name, instance string) string {
	name, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	if labels != "" {
		labels += ","
	}
	return fmt.Sprintf(`caddy_meet_gateway_%s{%sjob="meet-gateway",instance="%s"}`, name, labels, instance)
}

// Every row in docs/outages.md has an alert that a test fires, every alert has a section, and every
// metric in the rules exists.
func TestAlerts_AreDocumented(t *testing.T) {
	doc, metrics := page(t, "../docs/outages.md"), page(t, "../docs/monitoring.md")
	b, err := os.ReadFile(rulesFile)
	require.NoError(t, err)
	rules := string(b)
	var rows []string
	for _, table := range strings.Split(doc, "| event | token request")[1:] {
		table, _, _ = strings.Cut(table, "\n\n")
		rows = append(rows, strings.Split(table, "\n")[2:]...)
	}
	require.Greater(t, len(rows), 20)
	for _, row := range rows {
		i := slices.IndexFunc(faults, func(f fault) bool { return f.row != "" && strings.HasPrefix(row, "| "+f.row) })
		require.GreaterOrEqual(t, i, 0, "no fault for the row %s", row)
		require.Contains(t, row, "[MeetGateway"+faults[i].alerts[0]+"](")
	}
	for _, m := range regexp.MustCompile(`alert: (MeetGateway\w+)`).FindAllStringSubmatch(rules, -1) {
		require.Contains(t, doc, "### "+m[1]+"\n")
		require.Contains(t, rules, "outages.md#"+strings.ToLower(m[1])+"\n")
		require.True(t, slices.ContainsFunc(faults, func(f fault) bool { return slices.Contains(f.alerts, strings.TrimPrefix(m[1], "MeetGateway")) }), m[1])
	}
	for _, m := range regexp.MustCompile(`caddy_meet_gateway_([a-z_]+?)(?:_bucket|_count)?[\[{()} ]`).FindAllStringSubmatch(rules, -1) {
		require.Contains(t, metrics, "`"+m[1]+"`")
	}
}
