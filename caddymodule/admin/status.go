// SPDX-License-Identifier: MIT

package admin

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// showStatus answers GET status.
func (c *call) showStatus() error {
	s := wire.Status{Version: c.gateway.Version(), Status: c.authority.Status(c.ctx), Backends: c.gateway.Backends()}
	s.Ready, s.Reason = readiness(cmp.Or(s.Status.Store.Error, s.KeysError), s.Status.Feed)
	return c.answer(http.StatusOK, s)
}

// readiness tells whether a node answers what it has not seen before, and what is
// not as it should be. Without Redis new tokens and tokens that are new to this
// node get 503, so it is not ready, although it serves what it knows from memory
// until the staleness bound. The backend does not count: it is the same for all
// nodes, and taking all of them out would only replace their answers.
func readiness(problem string, feed tokens.FeedStatus) (ready bool, reason string) {
	switch {
	case problem != "" && feed.Fresh:
		return false, problem + "; what is known is still served from memory"
	case problem != "":
		return false, problem
	case !feed.Fresh:
		reason = "what other gateways change is not heard of; redis is asked per request"
		if feed.Error != "" {
			reason += " (" + feed.Error + ")"
		}
		return true, reason
	}
	return true, ""
}

// readyTimeout bounds a readiness check.
const readyTimeout = 2 * time.Second

// Readiness tells whether a node serves a request that is new to it, and what is not as
// it should be. It asks Redis, and takes at most two seconds.
func Readiness(ctx context.Context, authority *tokens.Authority) (ready bool, reason string) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	feed := tokens.FeedStatus{Fresh: authority.Fresh(), Error: authority.FeedProblem(ctx)}
	return readiness(tokens.StoreProblem(authority.Ready(ctx)), feed)
}

// showLive answers GET health/live: this process runs a gateway.
func (c *call) showLive() error {
	return c.answer(http.StatusOK, map[string]bool{"live": true})
}

// showReady answers GET health/ready: 503 when requests would be answered with it.
func (c *call) showReady() error {
	ready, reason := Readiness(c.ctx, c.authority)
	if !ready {
		return &wire.Problem{Status: http.StatusServiceUnavailable, Detail: sentence(reason), RetryAfter: outageRetry}
	}
	answer := struct {
		Ready  bool   `json:"ready"`
		Reason string `json:"reason,omitempty"`
	}{true, reason}
	return c.answer(http.StatusOK, answer)
}

// showRoutes answers GET routes: what is open, and which scope it needs.
func (c *call) showRoutes() error {
	return c.answer(http.StatusOK, map[string]any{"gates": c.gateway.Routes()})
}

// showDoctor answers GET doctor: what is wrong, and how to fix it.
func (c *call) showDoctor() error {
	address := ""
	if server, ok := c.r.Context().Value(http.ServerContextKey).(*http.Server); ok {
		address = server.Addr
	}
	return c.answer(http.StatusOK, c.gateway.Diagnose(c.ctx, address))
}
