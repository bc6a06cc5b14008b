package caddymodule

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Collectors are made once per process and shown on the registry of every
// configuration, so that numbers go on over reloads and gates. Labels come from
// closed sets: never an application, a mail or a path.
var (
	requestsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: appName, Name: "requests_total",
		Help: "Requests by endpoint and outcome (ok, or the reason of the refusal).",
	}, []string{"endpoint", "outcome"})
	exchangeSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: appName, Name: "exchange_duration_seconds",
		Help:    "Exchanges of credentials for Meet's tokens by outcome, waiting for their turn included.",
		Buckets: []float64{.01, .05, .1, .25, .5, 1, 2, 4, 8, 15},
	}, []string{"outcome"})
	feedLagSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: appName, Name: "feed_lag_seconds",
		Help:    "Time from publishing to hearing of this node's own heartbeats: how late a revocation is seen.",
		Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .5, 1, 5},
	})
	feedFresh = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "caddy", Subsystem: appName, Name: "feed_fresh",
		Help: "1 while this node trusts its caches, 0 while it asks Redis per request.",
	})
	quotaWarningsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: appName, Name: "quota_warnings_total",
		Help: "Applications that reached 80 % of their quota of new users on a day, by quota.",
	}, []string{"quota"})
	quotaExceededTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: appName, Name: "quota_exceeded_total",
		Help: "New users over a quota, by mode: enforced ones were refused, in a dry run they were not.",
	}, []string{"mode"})
	storeWentBackTotal = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: appName, Name: "store_went_back_total",
		Help: "Times that Redis lost changes this node had seen (restored, or failed over to a replica that lagged).",
	})
)

// registerMetrics shows the collectors on a configuration's registry. Each is
// the same one every time, so being there already is no error.
func registerMetrics(reg prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{requestsTotal, exchangeSeconds, feedLagSeconds, feedFresh, storeWentBackTotal, quotaWarningsTotal, quotaExceededTotal} {
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
