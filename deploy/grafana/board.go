// SPDX-License-Identifier: MIT

// Command grafana writes the Grafana dashboard, meet-gateway.json, into the current folder.
// A test runs every query of the dashboard.
//
//go:generate go run .
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// panel is one graph. In queries, metric(…) inserts the gateway's prefix and the selection
// of the variables.
type panel struct {
	title, what, unit, query, legend string
}

type row struct {
	title  string
	panels []panel
}

const selection = `job=~"$job",instance=~"$instance"`

func metric(name string, matchers ...string) string {
	return "caddy_meet_gateway_" + name + "{" + strings.Join(append(matchers, selection), ",") + "}"
}

func rate(by, name string, matchers ...string) string {
	return fmt.Sprintf("sum by (%s) (rate(%s[$__rate_interval]))", by, metric(name, matchers...))
}

func p99(by, name string) string {
	return fmt.Sprintf("histogram_quantile(0.99, sum by (%s, le) (rate(%s[$__rate_interval])))", by, metric(name+"_bucket"))
}

var rows = []row{
	{"Requests", []panel{
		{"Ready", "1 if a request that is new to the gateway would be decided.", "short", metric("ready"), "{{instance}}"},
		{"Requests by outcome", "ok, or the reason of the refusal.", "reqps", rate("outcome", "requests_total"), "{{outcome}}"},
		{"Request duration, p99", "By endpoint.", "s", p99("endpoint", "request_duration_seconds"), "{{endpoint}}"},
		{"Duration in the gateway, p99", "Without waiting for Meet.", "s", p99("endpoint", "gateway_duration_seconds"), "{{endpoint}}"},
	}},
	{"Meet", []panel{
		{"Requests to Meet", "By operation and status class.", "reqps", rate("operation, status", "backend_request_duration_seconds_count"), "{{operation}} {{status}}"},
		{"Duration at Meet, p99", "By operation.", "s", p99("operation", "backend_request_duration_seconds"), "{{operation}}"},
		{"Waiting exchanges", "Each costs Meet a second of CPU.", "short", metric("exchanges_queued"), "{{instance}}"},
		{"Exchanges saved", "By source of Meet's token.", "ops", rate("source", "exchanges_saved_total"), "{{source}}"},
	}},
	{"Redis", []panel{
		{"Command duration, p99", "By command.", "s", p99("command", "redis_command_duration_seconds"), "{{command}}"},
		{"Failures", "By kind.", "ops", rate("kind", "redis_errors_total"), "{{kind}}"},
		{"Problem with Redis", "1 for the current problem.", "short", metric("store_problem"), "{{instance}} {{problem}}"},
		{"Replacements and rollbacks", "A rollback has lost changes.", "short", metric("store_rollbacks_total") + " or " + metric("store_replacements_total"), "{{__name__}} {{instance}}"},
	}},
	{"Memory, limits and audit trail", []panel{
		{"Feed", "1 while the gateway decides from memory.", "short", metric("feed_fresh"), "{{instance}}"},
		{"Subscription refused", "1 while Redis refuses the subscription of the gateway's user.", "short", metric("feed_refused"), "{{instance}}"},
		{"Lag of the feed, p99", "How late a revocation arrives.", "s", p99("instance", "feed_lag_seconds"), "{{instance}}"},
		{"Token look-ups in memory", "", "ops", rate("result", "cache_lookups_total"), "{{result}}"},
		{"Entries in memory", "", "short", "sum by (cache) (" + metric("cache_entries") + ")", "{{cache}}"},
		{"Refused by limits", "By limit.", "reqps", rate("limit", "limit_refusals_total"), "{{limit}}"},
		{"Revocations", "By kind.", "ops", rate("kind", "revocations_total"), "{{kind}}"},
		{"Keys missing", "Keys that other gateways use and this one lacks.", "short", metric("keys_missing"), "{{instance}}"},
		{"Audit trail failing", "1 while it cannot be written.", "short", metric("audit_failing"), "{{instance}}"},
	}},
}

func main() {
	if err := write("meet-gateway.json"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(path string) error {
	board, err := build()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, board, 0o644); err != nil { //nolint:gosec // everybody may read it
		return fmt.Errorf("writing the board: %w", err)
	}
	return nil
}

// build returns the board as JSON.
func build() ([]byte, error) {
	source := common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}
	//lint:ignore SA1019 the second form of dashboards is read by the newest Grafana only
	b := dashboard.NewDashboardBuilder("Meet gateway") //nolint:staticcheck // as above
	b = b.Uid("meet-gateway").Tags([]string{"meet-gateway"}).
		Refresh("30s").Time("now-3h", "now").Timezone("browser").Readonly().
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Prometheus").Type("prometheus"))
	for _, name := range []string{"job", "instance"} {
		b = b.WithVariable(dashboard.NewQueryVariableBuilder(name).Datasource(source).Multi(true).IncludeAll(true).AllValue(".*").
			Query(dashboard.StringOrMap{String: new("label_values(caddy_meet_gateway_ready, " + name + ")")}))
	}
	for _, r := range rows {
		b = b.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			b = b.WithPanel(timeseries.NewPanelBuilder().Title(p.title).Description(p.what).Unit(p.unit).Datasource(source).Span(6).Height(7).
				WithTarget(prometheus.NewDataqueryBuilder().Expr(p.query).LegendFormat(p.legend).RefId("A")))
		}
	}
	board, err := b.Build()
	if err != nil {
		return nil, fmt.Errorf("building the board: %w", err)
	}
	text, err := json.MarshalIndent(board, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the board: %w", err)
	}
	return append(text, '\n'), nil
}
