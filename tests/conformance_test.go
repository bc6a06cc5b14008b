// SPDX-License-Identifier: MIT

package tests

import (
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/caddymodule/conformance"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// A client of Meet's meets at the gateway what Meet answers, but for what
// docs/compatibility.md says.
func TestConformance_Gateway(t *testing.T) {
	meet := gatewaytest.StartMeet(t, sandbox.Production(), nil)
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

	o.Gateway = false // what a Meet is expected to answer
	report, err = conformance.Run(t.Context(), o)
	require.NoError(t, err)
	require.Greater(t, len(report.Differ), 15, "as a Meet it is not one")
	o.Gateway, o.ClientSecret = true, "wrong"
	_, err = conformance.Run(t.Context(), o)
	require.ErrorIs(t, err, conformance.ErrFixtures)
}

// What a gateway may answer otherwise is a row of the table for integrators.
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
