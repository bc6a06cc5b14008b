// SPDX-License-Identifier: MIT

package tests

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/caddymodule/conformance"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// A client of Meet gets the same answers from the gateway, except for the differences
// in docs/compatibility.md.
func TestConformance_Gateway(t *testing.T) {
	production := sandbox.Production()
	provisioning := production
	provisioning.AllowUserCreation, provisioning.MailFallback, provisioning.SubImmutable = true, true, false
	for name, settings := range map[string]sandbox.Settings{"users are known": production, "users are made": provisioning} {
		t.Run(name, func(t *testing.T) { requireConforming(t, settings) })
	}
}

func requireConforming(t *testing.T, settings sandbox.Settings) {
	t.Helper()
	meet := gatewaytest.StartMeet(t, settings, nil)
	meet.LoadFixtures()
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
	app := g.AddApplication(func(a *tokens.Application) { a.Domains = []string{"example.com"} })
	backend, err := url.Parse(g.URL)
	require.NoError(t, err)
	o := conformance.Options{
		Backend: backend, BasePath: "/external-api/v1.0", ForwardedProto: "https", ClientID: app.ID, ClientSecret: app.Secret,
		Mail: "alice@example.com", SecondMail: "bob@example.com", RefusedMail: "dora@allowed.example", DisabledMail: "inactive@example.com",
		SharedMail: "dup@example.com", UnknownMail: "nobody@example.com", Room: "5eed0000-0000-4000-8000-000000000001",
		Write: true, Gateway: true, Transport: gatewaytest.Judged,
	}
	report, err := conformance.Run(t.Context(), o)
	require.NoError(t, err)
	require.Empty(t, report.Differ)
	require.Len(t, report.Left, 1, "%v", report.Left)
	require.Greater(t, report.Same, 50)

	o.Gateway = false // expect the answers of a Meet
	report, err = conformance.Run(t.Context(), o)
	require.NoError(t, err)
	require.Greater(t, len(report.Differ), 15, "the gateway differs from a Meet")
	o.Gateway, o.ClientSecret = true, "wrong"
	_, err = conformance.Run(t.Context(), o)
	require.ErrorIs(t, err, conformance.ErrFixtures)
}

// Every allowed difference of a gateway is a row of the table for integrators.
func TestConformance_GatewayRowsAreDocumented(t *testing.T) {
	table, err := os.ReadFile("../caddymodule/conformance/contract.yaml")
	require.NoError(t, err)
	doc, err := os.ReadFile("../docs/compatibility.md")
	require.NoError(t, err)
	rows := regexp.MustCompile(`"row":"([^"]+)"`).FindAllStringSubmatch(string(table), -1)
	require.Greater(t, len(rows), 5)
	for _, row := range rows {
		require.True(t, strings.Contains(string(doc), "\n| "+row[1]+" |") || strings.Contains(string(doc), "\n| "+row[1]+" of "), row[1])
	}
}

// The command predicts the answers of a gateway in front of a changed Meet. A real gateway in
// front of that Meet gives these answers.
func TestConformance_PredictionIsRight(t *testing.T) {
	says := func(status int, body string) func(*httptest.ResponseRecorder) {
		return func(w *httptest.ResponseRecorder) { w.Code, w.Body = status, bytes.NewBufferString(body) }
	}
	replace := func(old, now string) func(*httptest.ResponseRecorder) {
		return func(w *httptest.ResponseRecorder) {
			w.Body = bytes.NewBufferString(strings.ReplaceAll(w.Body.String(), old, now))
		}
	}
	room, list := "/rooms/"+roomID(1)+"/", "/rooms/"
	for name, tc := range map[string]struct {
		at     string // the path with another answer
		change func(*httptest.ResponseRecorder)
		line   string
		user   string
		path   string // of the caller's request
	}{
		"a list without its count":   {list, replace(`"count"`, `"total"`), "list-page-1", "alice", "/rooms"},
		"another room":               {room, replace("5eed0000", "5eed0001"), "retrieve-own", "alice", room},
		"a room in HTML":             {room, func(w *httptest.ResponseRecorder) { w.Header().Set("Content-Type", "text/html") }, "retrieve-own", "alice", room},
		"a redirected room":          {room, says(302, ""), "retrieve-own", "alice", room},
		"an outage":                  {room, says(503, ""), "retrieve-own", "alice", room},
		"too many requests":          {room, says(429, `{"detail":"Slow down."}`), "retrieve-own", "alice", room},
		"another detail if disabled": {list, replace("User account is disabled.", "No."), "auth-issued-inactive-user", "inactive", "/rooms"},
		"a token in another field":   {"/application/token/", replace(`"access_token"`, `"token"`), "token-json-ok", "alice", ""},
		"another required field":     {"/application/token/", says(400, `{"audience":["This field is required."]}`), "token-json-ok", "alice", ""},
	} {
		t.Run(name, func(t *testing.T) {
			meet := gatewaytest.StartMeet(t, sandbox.Production(), func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					answer := httptest.NewRecorder()
					next.ServeHTTP(answer, r)
					if strings.TrimPrefix(r.URL.Path, "/external-api/v1.0") == tc.at {
						tc.change(answer)
					}
					maps.Copy(w.Header(), answer.Header())
					w.Header().Del("Content-Length")
					w.WriteHeader(answer.Code)
					_, _ = w.Write(answer.Body.Bytes())
				})
			})
			meet.LoadFixtures()
			report, err := conformance.Run(t.Context(), conformance.Options{
				Backend: &url.URL{Scheme: "http", Host: meet.Address}, BasePath: "/external-api/v1.0", Host: "meet.example.org", ForwardedProto: "https",
				ClientID: gatewaytest.MeetClientID, ClientSecret: gatewaytest.MeetClientSecret, Mail: "alice@example.com", DisabledMail: "inactive@example.com", Room: roomID(1),
			})
			require.NoError(t, err)
			i := slices.IndexFunc(report.Differ, func(r conformance.Result) bool { return r.Line == tc.line })
			require.GreaterOrEqual(t, i, 0, "%+v", report.Differ)
			said, _, _ := strings.Cut(report.Differ[i].Now, " ")

			g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend()})
			app := g.AddApplication(nil)
			a := g.TokenRequest(app, tc.user+"@example.com")
			if tc.path != "" {
				require.Equal(t, 200, a.Status, a.Body)
				a = g.Do("GET", "/external-api/v1.0"+tc.path, "", "Authorization", gatewaytest.Bearer(a.JSON(t)["access_token"].(string)))
			}
			require.Equal(t, said, strconv.Itoa(a.Status), a.Body)
		})
	}
}
