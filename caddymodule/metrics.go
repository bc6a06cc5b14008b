// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// Collectors are created once per process and registered with each configuration, so
// that counters survive reloads. Labels come from closed sets: never a mail address or
// a path, and applications only in the metric of metrics_per_application.
var (
	requestsTotal = newCounterVec("requests_total", "Requests by endpoint and outcome (ok, or the reason of the refusal).", "endpoint", "outcome")

	requestSeconds = newHistogramVec("request_duration_seconds",
		"Time from reading a request to the end of its answer, by endpoint and status class.", durationBuckets, "endpoint", "status")
	ownSeconds = newHistogramVec("gateway_duration_seconds",
		"The part of request_duration_seconds that was not spent waiting for Meet, by endpoint.", durationBuckets, "endpoint")
	meetSeconds = newHistogramVec("backend_request_duration_seconds",
		"Requests to Meet by operation (exchange, rooms) and status class; error if there was no answer.", durationBuckets, "operation", "status")
	exchangeSeconds = newHistogramVec("exchange_duration_seconds",
		"Exchanges of credentials for Meet's tokens by outcome, waiting for their turn included.", []float64{.01, .05, .1, .25, .5, 1, 2, 4, 8, 15}, "outcome")

	redisSeconds = newHistogramVec("redis_command_duration_seconds",
		"Commands to Redis by name, waiting for a connection included; pipeline is several in one.", redisBuckets, "command")
	redisErrorsTotal = newCounterVec("redis_errors_total", "Commands to Redis that failed, by kind of failure.", "kind")

	feedLagSeconds = newHistogramVec("feed_lag_seconds",
		"Time from publishing to hearing of this gateway's own heartbeats: how late a revocation is seen.",
		[]float64{.0005, .001, .002, .005, .01, .02, .05, .1, .5, 1, 5})

	limitRefusalsTotal = newCounterVec("limit_refusals_total", "Requests that a limit refused, by limit.", "limit")
	quotaWarningsTotal = newCounterVec("quota_warnings_total",
		"Applications that reached 80 % of their quota of new users on a day, by quota.", "quota")
	quotaExceededTotal = newCounterVec("quota_exceeded_total",
		"New users over a quota, by mode: enforced ones were refused, in a dry run they were not.", "mode")
	revocationsTotal = newCounterVec("revocations_total", "Revocations that this gateway published, by what was revoked.", "kind")

	storeRollbacksTotal = prometheus.NewCounter(counterOpts("store_rollbacks_total",
		"Times that Redis lost changes this gateway had seen (emptied, restored, or failed over to a replica that lagged)."))
	// storeWentBackTotal is the former name of storeRollbacksTotal, for one release.
	storeWentBackTotal = prometheus.NewCounter(counterOpts("store_went_back_total", "Former name of store_rollbacks_total."))

	buildInfo = prometheus.NewGaugeVec(gaugeOpts("build_info", "1; its labels tell what this binary was built from."),
		[]string{"version", "commit", "date", "caddy", "goversion"})
)

var (
	durationBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	redisBuckets    = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}
)

func counterOpts(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Namespace: "caddy", Subsystem: appName, Name: name, Help: help}
}

func gaugeOpts(name, help string) prometheus.GaugeOpts {
	return prometheus.GaugeOpts{Namespace: "caddy", Subsystem: appName, Name: name, Help: help}
}

func newCounterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(counterOpts(name, help), labels)
}

// newHistogramVec returns a histogram with classic and native buckets.
func newHistogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: appName, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}, labels)
}

// collectors are all collectors of the gateway.
var collectors = []prometheus.Collector{
	requestsTotal, requestSeconds, ownSeconds, meetSeconds, exchangeSeconds, redisSeconds, redisErrorsTotal, feedLagSeconds,
	limitRefusalsTotal, quotaWarningsTotal, quotaExceededTotal, revocationsTotal, storeRollbacksTotal, storeWentBackTotal,
	buildInfo, activeApplications,
	gauges{},
}

// registerMetrics registers the collectors with a configuration. They are the same each
// time, so AlreadyRegisteredError is fine.
func registerMetrics(reg prometheus.Registerer) error {
	b := BuildInfo()
	buildInfo.WithLabelValues(b.Version, b.Commit, b.Date, b.Caddy, b.Go).Set(1)
	for _, kind := range tokens.CommandProblems { // rate() needs the zero before the first failure
		redisErrorsTotal.WithLabelValues(kind)
	}
	for _, c := range collectors {
		var dup prometheus.AlreadyRegisteredError
		if err := reg.Register(c); err != nil && !errors.As(err, &dup) {
			return err
		}
	}
	return nil
}

func observeExchange(outcome string, took time.Duration) {
	exchangeSeconds.WithLabelValues(outcome).Observe(took.Seconds())
}

// countRevocation counts a revocation by an administrator.
func countRevocation(e *audit.Event) {
	kinds := []string{"token", "application", "user", "grant", "key", "before", "all"}
	if kind, ok := strings.CutPrefix(e.Type, "revoke."); ok && e.Decision == audit.Allowed && slices.Contains(kinds, kind) {
		revocationsTotal.WithLabelValues(kind).Inc()
	}
}

// statusClass returns the label for an HTTP status.
func statusClass(status int) string {
	classes := [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}
	if i := status/100 - 1; i >= 0 && i < len(classes) {
		return classes[i]
	}
	return "error"
}

// observers are the histograms of an action, looked up in advance.
type observers struct {
	ok, own prometheus.Observer
}

func newObservers(at endpoint) observers {
	return observers{ok: requestSeconds.WithLabelValues(string(at), "2xx"), own: ownSeconds.WithLabelValues(string(at))}
}

// measure records the duration of the call.
func (c *call) measure(status int) {
	took := time.Since(c.began)
	own := max(0, took-c.meetTime)
	if c.action != nil && status/100 == 2 {
		c.action.seconds.ok.Observe(took.Seconds())
		c.action.seconds.own.Observe(own.Seconds())
	} else {
		requestSeconds.WithLabelValues(string(c.endpoint), statusClass(status)).Observe(took.Seconds())
		ownSeconds.WithLabelValues(string(c.endpoint)).Observe(own.Seconds())
	}
	if c.application != nil && c.h.app.MetricsPerApplication > 0 {
		activeApplications.count(c.application.ID, statusClass(status), c.h.app.MetricsPerApplication)
	}
}

// addMeetTime adds the time since began to the time spent waiting for Meet.
func (c *call) addMeetTime(began time.Time) { c.meetTime += time.Since(began) }

// observeCommand records a Redis command.
func observeCommand(ctx context.Context, cmd tokens.Command) {
	redisSeconds.WithLabelValues(cmd.Name).Observe(cmd.Took.Seconds())
	if cmd.Problem != "" {
		redisErrorsTotal.WithLabelValues(cmd.Problem).Inc()
	}
	traceCommand(ctx, cmd)
}

// gauges collects values of the running configuration when they are scraped. A gauge
// that is set would keep the value of an earlier one.
type gauges struct{}

var (
	readyDesc        = newDesc("ready", "1 if a request that is new to this gateway would be decided.")
	storeProblemDesc = newDesc("store_problem", "1 for the reason why Redis cannot be believed, 0 for the others.", "problem")
	storeInfoDesc    = newDesc("store_info", "1, with how Redis is reached.", "mode")
	replacedDesc     = newDesc("store_replacements_total", "Times that Redis was found to be another server than before: restarted, or after a failover.")
	feedFreshDesc    = newDesc("feed_fresh", "1 while this gateway trusts its caches, 0 while it asks Redis per request.")
	feedRefusedDesc  = newDesc("feed_refused", "1 while Redis does not let its user subscribe to what changes.")
	sentinelsDesc    = newDesc("sentinels", "Sentinels that are configured.")
	answeringDesc    = newDesc("sentinels_answering", "Sentinels that answered when they were last asked.")
	keysDesc         = newDesc("keys", "Keys that verify here.")
	keysMissingDesc  = newDesc("keys_missing", "Keys that other gateways use and this one was not given.")
	cacheEntriesDesc = newDesc("cache_entries", "Entries in memory, by what they are.", "cache")
	cacheLookupsDesc = newDesc("cache_lookups_total", "Tokens looked up in memory, by result.", "result")
	queuedDesc       = newDesc("exchanges_queued", "Exchanges at Meet that wait for their turn.")
	runningDesc      = newDesc("exchanges_running", "Exchanges at Meet under way.")
	savedDesc        = newDesc("exchanges_saved_total", "Times that one of Meet's tokens was needed and no exchange was: by where it came from.", "source")
	renewalsDesc     = newDesc("renewals_total", "Tokens of Meet that were due to be renewed ahead of time, by outcome.", "outcome")
	auditFailingDesc = newDesc("audit_failing", "1 while the audit trail cannot be written.")
	auditLostDesc    = newDesc("audit_events_lost_total", "Events that could not be written into the audit trail.")
)

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("caddy", appName, name), help, labels, nil)
}

// Describe implements prometheus.Collector.
func (gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		readyDesc, storeProblemDesc, storeInfoDesc, replacedDesc, feedFreshDesc, feedRefusedDesc, sentinelsDesc, answeringDesc,
		keysDesc, keysMissingDesc, cacheEntriesDesc, cacheLookupsDesc, queuedDesc, runningDesc, savedDesc, renewalsDesc,
		auditFailingDesc, auditLostDesc,
	} {
		ch <- d
	}
}

// scrapeTimeout is the timeout of a scrape's Redis commands.
const scrapeTimeout = time.Second

// Collect implements prometheus.Collector. It collects nothing if no configuration is
// running.
func (gauges) Collect(ch chan<- prometheus.Metric) {
	app, err := ActiveApp()
	if err != nil || app.authority == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s := scrape{ch}
	s.health(app.Authority().Health(ctx))
	s.exchanges(app.handlers)
	state, audited := app.AuditState()
	s.gauge(auditFailingDesc, oneIf(state.Failing))
	if audited {
		s.counter(auditLostDesc, state.Lost)
	}
}

type scrape struct{ ch chan<- prometheus.Metric }

func (s scrape) gauge(d *prometheus.Desc, value int, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
}

func (s scrape) counter(d *prometheus.Desc, value uint64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func (s scrape) health(h tokens.Health) {
	s.gauge(readyDesc, oneIf(h.Problem == ""))
	for _, problem := range tokens.StoreProblems {
		s.gauge(storeProblemDesc, oneIf(h.Problem == problem), problem)
	}
	s.gauge(storeInfoDesc, 1, h.Mode)
	s.counter(replacedDesc, h.Replacements)
	s.gauge(feedFreshDesc, oneIf(h.Fresh))
	s.gauge(feedRefusedDesc, oneIf(h.FeedRefused))
	if h.Sentinels > 0 {
		s.gauge(sentinelsDesc, h.Sentinels)
		s.gauge(answeringDesc, h.SentinelsAnswering)
	}
	s.gauge(keysDesc, h.Keys)
	s.gauge(keysMissingDesc, h.KeysMissing)
	s.gauge(cacheEntriesDesc, h.Cache.Tokens, "tokens")
	s.gauge(cacheEntriesDesc, h.Cache.Applications, "applications")
	s.gauge(cacheEntriesDesc, h.Cache.Users, "users")
	s.counter(cacheLookupsDesc, h.Cache.Hits, "hit")
	s.counter(cacheLookupsDesc, h.Cache.Misses, "miss")
}

// exchanges collects the sums over all handlers.
func (s scrape) exchanges(handlers []*Handler) {
	var sum backendclient.Stats
	for _, h := range handlers {
		one := h.client.Stats()
		sum.Queued, sum.Running, sum.Tokens = sum.Queued+one.Queued, sum.Running+one.Running, sum.Tokens+one.Tokens
		sum.FromMemory, sum.FromStore, sum.Shared = sum.FromMemory+one.FromMemory, sum.FromStore+one.FromStore, sum.Shared+one.Shared
		sum.Renewals.Exchanged += one.Renewals.Exchanged
		sum.Renewals.Found += one.Renewals.Found
		sum.Renewals.Refused += one.Renewals.Refused
		sum.Renewals.Failed += one.Renewals.Failed
	}
	s.gauge(queuedDesc, sum.Queued)
	s.gauge(runningDesc, sum.Running)
	s.gauge(cacheEntriesDesc, sum.Tokens, "meet_tokens")
	s.counter(savedDesc, sum.FromMemory, "memory")
	s.counter(savedDesc, sum.FromStore, "store")
	s.counter(savedDesc, sum.Shared, "shared")
	s.counter(renewalsDesc, sum.Renewals.Exchanged, "ok")
	s.counter(renewalsDesc, sum.Renewals.Found, "found")
	s.counter(renewalsDesc, sum.Renewals.Refused, "refused")
	s.counter(renewalsDesc, sum.Renewals.Failed, "failed")
}

func oneIf(is bool) int {
	if is {
		return 1
	}
	return 0
}

// Interface guards
var _ prometheus.Collector = gauges{}
