// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"net/http"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// limits are the rates of an installation, as configured.
type limits struct {
	rates *limit.Rates
	fence tokens.FenceOptions
}

// parseLimits reads the options `limit` and `fence_dry_run`.
func parseLimits(rates map[string]string, dryRun bool) (limits, error) {
	r, err := limit.ParseRates(rates)
	if err != nil {
		return limits{}, err
	}
	l := limits{rates: r, fence: tokens.FenceOptions{DryRun: dryRun}}
	if users, ok := r.Get(limit.Users); ok {
		l.fence.Users = users.Count
	}
	if users, ok := r.Get(limit.UsersDomain); ok {
		l.fence.UsersDomain = users.Count
	}
	return l, nil
}

// errRateLimited is the answer to whoever asks too much.
var errRateLimited = errors.New("too many requests")

// within tells the caller how much is left of a limit, and refuses what is over it.
func (c *call) within(d limit.Decision) error {
	if d.Limit.IsOff() {
		return nil
	}
	h := c.w.Header()
	policy, standing := d.Headers()
	c.values.set(h, "Ratelimit-Policy", 1, policy)
	c.values.set(h, "Ratelimit", 2, standing)
	if d.Allowed {
		return nil
	}
	countLimit(d.Policy)
	return &refusal{
		status: http.StatusTooManyRequests, detail: "Too many requests.", code: codeRateLimited,
		reason: "limit_" + d.Policy.String(), retryAfter: d.RetryAfter, cause: errRateLimited,
	}
}

// mayAsk counts a request for rooms, for a token, or about one. It costs no round trip.
func (c *call) mayAsk(user string) error {
	return c.count(limit.Caller{Application: c.application.ID, User: user, Rates: c.application.Rates()})
}

func (c *call) count(who limit.Caller) error {
	limiter := c.h.app.authority.limiter
	ctx := c.ctx
	switch {
	case c.endpoint.authenticatesClients():
		return c.within(limiter.Token(ctx, who))
	case c.r.Method == http.MethodGet || c.r.Method == http.MethodHead:
		return c.within(limiter.Read(ctx, who))
	default:
		return c.within(limiter.Create(ctx, who))
	}
}
