// SPDX-License-Identifier: MIT

package tests

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// A reload that fixes a problem resets its gauge: no gauge keeps the value of the
// previous configuration.
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

// seriesIn returns all series of a scrape.
func seriesIn(metrics string) map[string]bool {
	found := map[string]bool{}
	for line := range strings.Lines(metrics) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && !strings.HasPrefix(line, "#") {
			found[line[:i]] = true
		}
	}
	return found
}

// Input of callers or Meet creates no series, because labels come from closed sets. No metric
// contains applications, users or credentials.
func TestMetrics_LabelsAreClosed(t *testing.T) {
	var status atomic.Int64
	meet := gatewaytest.StartMeet(t, sandbox.Quickstart(), func(meet http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s := status.Load(); s != 0 && strings.HasSuffix(r.URL.Path, "/rooms/") {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(int(s))
				_, _ = w.Write([]byte(`{"detail":"canary-detail"}`))
				return
			}
			meet.ServeHTTP(w, r)
		})
	})
	g := gatewaytest.Start(t, gatewaytest.Config{
		Global: "store redis " + redistest.Standalone(t).URL() + "\nsecret metrics-test-0123456789-0123456789\nlimit failed off\nlimit failed_source off",
		Gate:   meet.Backend() + "\nroute PATCH /rooms/{id} rooms:update",
	})
	app := g.AddApplication(nil)
	const mail = "canary.user@canary-domain.example"
	token := g.Token(app, mail)
	other := g.Token(app, "other."+mail)
	address := strings.TrimPrefix(g.URL, "http://")

	// hostile sends requests with the number in every value that a caller chooses.
	hostile := func(n int) {
		name := fmt.Sprintf("canary%d", n)
		for _, authorization := range []string{"Bearer " + token, "Bearer " + name, "Basic " + name, name, ""} {
			for _, method := range []string{"GET", "POST", "PATCH", "DELETE", "CANARY" + strconv.Itoa(n), "PROPFIND"} {
				for _, path := range []string{
					"/external-api/v1.0/rooms", "/external-api/v1.0/rooms/" + name, "/external-api/v1.0/" + name, "/" + name,
					"/external-api/v1.0/rooms/" + roomID(n), "/external-api/v1.0/rooms?slug=" + name + "&page=" + strconv.Itoa(n), "/%63anary/" + name + "%0a",
				} {
					raw := method + " " + path + " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: " + name + "\r\nX-Request-Id: " + name + "\r\nConnection: close\r\n"
					if authorization != "" {
						raw += "Authorization: " + authorization + "\r\n"
					}
					require.Contains(t, g.Raw(raw+"\r\n"), "HTTP/1.1 ")
				}
			}
		}
		for _, body := range []string{
			gatewaytest.TokenBody(name, "canary-secret", mail), gatewaytest.TokenBody(app.ID, name, mail), gatewaytest.TokenBody(app.ID, app.Secret, name),
			`{"grant_type":"` + name + `"}`, `{"grant_type":"refresh_token","refresh_token":"` + name + `","client_id":"` + app.ID + `","client_secret":"` + app.Secret + `"}`,
		} {
			g.Do(http.MethodPost, "/external-api/v1.0/application/token", body, "Content-Type", "application/json")
		}
		g.Do(http.MethodGet, "/external-api/v1.0/rooms", "", "Host", name+".example.org", "Authorization", gatewaytest.Bearer(token))
	}
	// statuses are Meet's, two of each class.
	statuses := func(all ...int) {
		for _, s := range all {
			status.Store(int64(s))
			unjudged(t, g, http.MethodGet, "/external-api/v1.0/rooms", "", "Authorization", gatewaytest.Bearer(other))
		}
		status.Store(0)
	}
	hostile(1)
	statuses(201, 302, 404, 410, 500)
	before := g.Metrics()
	hostile(2)
	hostile(3)
	statuses(299, 399, 418, 451, 599)
	after := g.Metrics()

	known := seriesIn(before)
	for series := range seriesIn(after) {
		if strings.HasPrefix(series, "caddy_meet_gateway_") {
			require.True(t, known[series], "%s is new", series)
		}
	}
	for _, canary := range []string{"canary", "CANARY", "PROPFIND", token, app.Secret, app.ID, gatewaytest.MeetClientSecret, "%0a", roomID(1)} {
		require.NotContains(t, after, canary)
	}
}

// The configured number of applications have their own series; all others share one.
func TestMetrics_PerApplication(t *testing.T) {
	const most = 3
	g := gatewaytest.Start(t, gatewaytest.Config{Global: fmt.Sprintf("store embedded\nmetrics_per_application %d\nlimit failed off\nlimit failed_source off", most)})
	requests := 0
	for range 2 * most {
		token := g.Token(g.AddApplication(nil), "ada@example.org")
		for range 2 {
			require.Equal(t, http.StatusOK, g.Do(http.MethodGet, "/external-api/v1.0/rooms", "", "Authorization", gatewaytest.Bearer(token)).Status)
		}
		requests += 3
	}
	for n := range 20 { // unknown applications
		g.TokenRequest(&gatewaytest.Client{Application: &tokens.Application{ID: fmt.Sprint("canary", n)}, Secret: "wrong"}, "ada@example.org")
	}
	applications, counted := map[string]bool{}, 0
	for _, m := range regexp.MustCompile(`application_requests_total\{application="([^"]+)",status="2xx"\} (\d+)`).FindAllStringSubmatch(g.Metrics(), -1) {
		applications[m[1]] = true
		n, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		counted += n
	}
	require.Len(t, applications, most+1)
	require.True(t, applications["other"])
	require.Equal(t, requests, counted)
	require.NotContains(t, g.Metrics(), "canary")
}
