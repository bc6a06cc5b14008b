// SPDX-License-Identifier: MIT

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// The board that is shipped is the one that the code builds.
func TestBoard_IsGenerated(t *testing.T) {
	want, err := build()
	require.NoError(t, err)
	got, err := os.ReadFile("meet-gateway.json")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run go generate ./deploy/grafana")
}

// Every query of the board returns data from a gateway that has served a little.
func TestBoard_EveryQueryReturnsData(t *testing.T) {
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("there is no prometheus here; .ci/install brings it")
	}
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded\nlimit token 2/1h\naudit {\noutput file " + filepath.Join(t.TempDir(), "audit.log") + "\n}"})
	app := g.AddApplication(nil)
	token := g.Token(app, "ada@example.org")
	for range 3 {
		g.TokenRequest(app, "ada@example.org") // the last is refused by the limit
	}
	g.Do(http.MethodGet, "/external-api/v1.0/rooms", "", "Authorization", gatewaytest.Bearer(token))
	res, err := http.Post("http://"+g.Admin+"/meet-gateway/revocations", "application/json", strings.NewReader(`{"user":"ada@example.org"}`))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())

	server := startPrometheus(t, program, g.Admin)
	for _, r := range rows {
		for _, p := range r.panels {
			query := strings.NewReplacer("$__rate_interval", "1m", "$job", ".*", "$instance", ".*").Replace(p.query)
			require.Eventually(t, func() bool { return hasData(server, query) }, time.Minute, 200*time.Millisecond, "%s: %s", p.title, query)
		}
	}
}

// startPrometheus reads the metrics at an address every second. It returns its own.
func startPrometheus(t *testing.T, program, target string) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil,
		"global: {scrape_interval: 1s}\nscrape_configs: [{job_name: meet-gateway, static_configs: [{targets: ['%s']}]}]\n", target), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=error")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return address
}

func hasData(server, query string) bool {
	res, err := http.Get("http://" + server + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	return json.NewDecoder(res.Body).Decode(&answer) == nil && len(answer.Data.Result) > 0
}
