// SPDX-License-Identifier: MIT

package caddymodule

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// allMetrics makes each collector return a value.
type allMetrics struct{}

func (allMetrics) Describe(ch chan<- *prometheus.Desc) { gauges{}.Describe(ch) }

func (allMetrics) Collect(ch chan<- prometheus.Metric) {
	scrape{ch}.health(tokens.Health{Mode: "sentinel", Sentinels: 3})
	scrape{ch}.exchanges(nil)
	ch <- prometheus.MustNewConstMetric(auditFailingDesc, prometheus.GaugeValue, 0)
	ch <- prometheus.MustNewConstMetric(auditLostDesc, prometheus.CounterValue, 0)
}

// Names, units and help texts follow Prometheus' conventions.
func TestMetrics_Lint(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	for _, c := range collectors {
		if _, ok := c.(gauges); ok {
			c = allMetrics{}
		}
		require.NoError(t, reg.Register(c))
		switch c := c.(type) {
		case *prometheus.CounterVec:
			labels := make([]string, labelsOf(c))
			for i := range labels {
				labels[i] = "ok"
			}
			c.WithLabelValues(labels...)
		default:
		}
	}
	activeApplications.count("app", "2xx", 1)
	redisSeconds.WithLabelValues("get").Observe(1)
	meetSeconds.WithLabelValues("rooms", "2xx").Observe(1)
	buildInfo.WithLabelValues("v1", "c1", "d1", "c2", "go1").Set(1)
	newObservers(endpointToken)
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// labelsOf returns the number of labels of a counter.
func labelsOf(c *prometheus.CounterVec) int {
	for n := range 4 {
		if _, err := c.GetMetricWithLabelValues(make([]string, n)...); err == nil {
			c.DeleteLabelValues(make([]string, n)...)
			return n
		}
	}
	return 0
}

// The number of applications with their own series is limited, no series decreases, and an
// application that becomes active gets a series.
func TestActivity_BoundsSeries(t *testing.T) {
	now := time.Unix(0, 0)
	a := &activity{now: func() time.Time { return now }}
	for i := range 50 {
		for range 50 - i {
			a.count(fmt.Sprintf("app%02d", i), "2xx", 3)
		}
	}
	require.LessOrEqual(t, len(a.series), 4)
	total := func() (n uint64) {
		for _, byStatus := range a.series {
			n += byStatus["2xx"]
		}
		return n
	}
	require.Equal(t, uint64(50*51/2), total())
	before := a.series[otherApps]["2xx"]
	for range 1000 {
		a.count("newcomer", "2xx", 3)
	}
	now = now.Add(rankingPeriod)
	a.count("newcomer", "2xx", 3)
	require.Equal(t, uint64(1), a.series["newcomer"]["2xx"], "it starts from 0")
	require.GreaterOrEqual(t, a.series[otherApps]["2xx"], before+1000)
	require.LessOrEqual(t, len(a.series), 4)
}

func BenchmarkCall_Measure(b *testing.B) {
	table, err := newRouteTable(nil)
	require.NoError(b, err)
	m, _ := table.lookup("/rooms")
	c := &call{h: &Handler{app: new(App)}, action: &m.pattern.actions[0], endpoint: endpointRoomsList, began: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		c.measure(200)
	}
}
