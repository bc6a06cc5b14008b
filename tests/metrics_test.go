// SPDX-License-Identifier: MIT

package tests

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// A reload that mends what a gauge complained of shows at once: no gauge keeps what
// the configuration before had set.
func TestMetrics_AfterAReload(t *testing.T) {
	redis := redistest.Standalone(t)
	const ours, others = "\nsecret ours-0123456789-0123456789-0123456789", "\nsecret others-0123456789-0123456789-01234567"
	store := "store redis " + redis.URL()
	g := gatewaytest.Start(t, gatewaytest.Config{Global: store + others})
	shows := func(sample, value string) {
		t.Helper()
		require.Eventually(t, func() bool { return metric(t, g, "caddy_meet_gateway_"+sample) == value }, 20*time.Second, 20*time.Millisecond, sample)
	}
	shows("feed_fresh", "1")

	g.Reload(gatewaytest.Config{Global: store + ours})
	shows("keys_missing", "1")
	g.Reload(gatewaytest.Config{Global: store + ours + others})
	shows("keys_missing", "0")

	g.Reload(gatewaytest.Config{Global: store + ours + "\naudit {\noutput file /dev/full {\nmode 0666\nroll_disabled\n}\n}"})
	shows("audit_failing", "1")
	g.Reload(gatewaytest.Config{Global: store + ours + "\naudit {\noutput file " + filepath.Join(t.TempDir(), "audit.log") + "\n}"})
	shows("audit_failing", "0")

	const series = `application_requests_total{application="`
	g.Reload(gatewaytest.Config{Global: "store embedded\nmetrics_per_application 1"})
	app := g.AddApplication(nil)
	g.Do(http.MethodGet, "/external-api/v1.0/rooms", "", "Authorization", gatewaytest.Bearer(g.Token(app, "ada@example.org")))
	shows(series+app.ID+`",status="2xx"}`, "2")
	g.Reload(gatewaytest.Config{Global: "store embedded"})
	shows(series+app.ID+`",status="2xx"}`, "")

	redis.Stop(t)
	g.Reload(gatewaytest.Config{Global: store + others + ours})
	require.Equal(t, "0", metric(t, g, "caddy_meet_gateway_feed_fresh"))
}
