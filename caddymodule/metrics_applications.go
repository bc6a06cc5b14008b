// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// rankingPeriod is the time between two rankings.
	rankingPeriod = time.Minute
	// maxRanked limits the applications in one ranking.
	maxRanked = 10_000
	otherApps = "other"
)

// activity counts requests by application for metrics_per_application. Only the most
// active applications have their own series. A new series starts at 0; the
// application's earlier requests stay in `other`, so that no series decreases.
type activity struct {
	mu     sync.Mutex
	series map[string]map[string]uint64 // by application (or otherApps) and status class
	recent map[string]uint64            // requests since the last ranking
	ranked time.Time
	now    func() time.Time
}

var activeApplications = &activity{now: time.Now}

var applicationDesc = newDesc("application_requests_total",
	"Requests by application, for the most active ones (metrics_per_application), and by status class.", "application", "status")

// count counts a request. most is the number of applications with their own series.
func (a *activity) count(application, status string, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.series == nil {
		a.series, a.recent = map[string]map[string]uint64{}, map[string]uint64{}
	}
	if _, known := a.recent[application]; known || len(a.recent) < maxRanked {
		a.recent[application]++
	}
	_, own := a.series[application]
	if now := a.now(); now.Sub(a.ranked) >= rankingPeriod || !own && len(a.recent) <= most {
		a.rank(now, most)
		_, own = a.series[application]
	}
	if !own {
		application = otherApps
	}
	a.add(application, status)
}

func (a *activity) add(application, status string) {
	if a.series[application] == nil {
		a.series[application] = map[string]uint64{}
	}
	a.series[application][status]++
}

// rank selects the applications with their own series.
func (a *activity) rank(now time.Time, most int) {
	names := make([]string, 0, len(a.recent))
	for name := range a.recent {
		names = append(names, name)
	}
	slices.SortFunc(names, func(x, y string) int { return cmp.Or(cmp.Compare(a.recent[y], a.recent[x]), cmp.Compare(x, y)) })
	names = names[:min(most, len(names))]
	for name := range a.series {
		// An inactive application keeps its series while there is room.
		if name != otherApps && !slices.Contains(names, name) {
			if len(names) < most {
				names = append(names, name)
			} else {
				delete(a.series, name)
			}
		}
	}
	for _, name := range names {
		if a.series[name] == nil {
			a.series[name] = map[string]uint64{}
		}
	}
	if now.Sub(a.ranked) >= rankingPeriod {
		a.ranked = now
		clear(a.recent)
	}
}

// restrict removes series that a new configuration has no room for.
func (a *activity) restrict(most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if most == 0 {
		a.series, a.recent = nil, nil
		return
	}
	a.rank(a.now(), most)
}

// Describe implements prometheus.Collector.
func (*activity) Describe(ch chan<- *prometheus.Desc) { ch <- applicationDesc }

// Collect implements prometheus.Collector.
func (a *activity) Collect(ch chan<- prometheus.Metric) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for application, byStatus := range a.series {
		for status, n := range byStatus {
			ch <- prometheus.MustNewConstMetric(applicationDesc, prometheus.CounterValue, float64(n), application, status)
		}
	}
}

// Interface guards
var _ prometheus.Collector = (*activity)(nil)
