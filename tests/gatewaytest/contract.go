// SPDX-License-Identifier: MIT

package gatewaytest

import (
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/contract"
)

// running is the only gateway of this process.
var running atomic.Pointer[judged]

type judged struct {
	gateway *Gateway
	judge   *contract.Judge
}

// Judged is a transport for test clients. It compares every exchange with the running
// gateway to the API descriptions, and fails the test on a difference.
var Judged http.RoundTripper = &contract.Transport{
	Next: http.DefaultTransport,
	Judge: func(r *http.Request) *contract.Judge {
		j := running.Load()
		if j == nil || "http://"+r.URL.Host != j.gateway.URL {
			return nil
		}
		return j.judge
	},
	Report: func(violation error) {
		if j := running.Load(); j != nil {
			j.gateway.t.Errorf("not as described: %v", violation)
		}
	},
}

// judgeBy configures the comparison for the sites of a Caddyfile.
func (g *Gateway) judgeBy(caddyfile string) {
	g.t.Helper()
	var bases []string
	var routes []contract.Route
	gates := -1 // the global option has the same name
	for line := range strings.Lines(caddyfile) {
		switch words := strings.Fields(line); {
		case len(words) > 0 && words[0] == "meet_gateway":
			gates++
		case len(words) > 1 && words[0] == "base_path":
			bases = append(bases, words[1:]...)
			gates--
		case len(words) >= 4 && words[0] == "route": // a block may follow
			routes = append(routes, contract.Route{Method: words[1], Path: words[2]})
		}
	}
	if gates > 0 { // some sites have the default base path
		bases = append(bases, "/external-api/v1.0")
	}
	judge, err := contract.New(bases, routes)
	require.NoError(g.t, err)
	running.Store(&judged{g, judge})
}
