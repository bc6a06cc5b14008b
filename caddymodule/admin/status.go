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

// readiness reports whether a node can serve tokens that it does not know, and the reason or a
// warning. Without Redis it cannot, although it serves known tokens from memory until the
// staleness bound. The backend does not count: all nodes share it, so taking them out of
// service would not help.
func readiness(problem string, feed tokens.FeedStatus) (ready bool, reason string) {
	switch {
	case problem != "" && feed.Fresh:
		return false, problem + "; known tokens are still served from memory"
	case problem != "":
		return false, problem
	case !feed.Fresh:
		reason = "changes by other gateways are not received; redis is asked per request"
		if feed.Error != "" {
			reason += " (" + feed.Error + ")"
		}
		return true, reason
	}
	return true, ""
}

// readyTimeout bounds a readiness check.
const readyTimeout = 2 * time.Second

// Readiness reports whether a node can serve a token that it does not know, and the reason
// or a warning. It asks Redis and takes at most two seconds.
func Readiness(ctx context.Context, authority *tokens.Authority) (ready bool, reason string) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	feed := tokens.FeedStatus{Fresh: authority.Fresh(), Error: authority.FeedProblem(ctx)}
	return readiness(tokens.StoreProblem(authority.Ready(ctx)), feed)
}

// showLive answers GET health/live.
func (c *call) showLive() error {
	return c.answer(http.StatusOK, map[string]bool{"live": true})
}

// showReady answers GET health/ready: 503 if the gateway is not ready.
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

// showRoutes answers GET routes.
func (c *call) showRoutes() error {
	return c.answer(http.StatusOK, map[string]any{"gates": c.gateway.Routes()})
}

// showDoctor answers GET doctor.
func (c *call) showDoctor() error {
	address := ""
	if server, ok := c.r.Context().Value(http.ServerContextKey).(*http.Server); ok {
		address = server.Addr
	}
	return c.answer(http.StatusOK, c.gateway.Diagnose(c.ctx, address))
}
