// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"net/http"
)

const heartbeatPath = "/__lbheartbeat__"

// Healthy asks whether Meet's web process answers (GET /__lbheartbeat__). nil means
// that Meet is up and serves the configured host. Meet's database is not involved.
func (c *Client) Healthy(ctx context.Context) error {
	r := wireRequest{method: http.MethodGet, path: heartbeatPath}
	a, e := c.doWithTimeout(ctx, r, c.options.RequestTimeout)
	if e != nil {
		return e
	}
	if a.status == http.StatusOK {
		return nil
	}
	e = &Error{Op: r.operation(), Status: a.status}
	if a.status == http.StatusBadRequest {
		e.Kind, e.Hint = ErrMisconfigured, hintHost
		return e
	}
	judgeCommon(e, &a, r.path)
	return e
}
