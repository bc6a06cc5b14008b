// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"net/http"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

type limits struct {
	rates *limit.Rates
	quota tokens.QuotaOptions
}

// parseLimits parses the options limit and quota_dry_run.
func parseLimits(rates map[string]string, dryRun bool) (limits, error) {
	r, err := limit.ParseRates(rates)
	if err != nil {
		return limits{}, err
	}
	l := limits{rates: r, quota: tokens.QuotaOptions{DryRun: dryRun}}
	if users, ok := r.Get(limit.Users); ok {
		l.quota.Users = users.Count
	}
	if users, ok := r.Get(limit.UsersDomain); ok {
		l.quota.UsersDomain = users.Count
	}
	return l, nil
}

var errRateLimited = errors.New("too many requests")

// applyDecision sets the RateLimit headers and returns a 429 for a request over the
// limit.
func (c *call) applyDecision(d limit.Decision) error {
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
	limitRefusalsTotal.WithLabelValues(d.Policy.String()).Inc()
	return &refusal{
		status: http.StatusTooManyRequests, detail: "Too many requests.", code: codeRateLimited,
		reason: "limit_" + d.Policy.String(), retryAfter: d.RetryAfter, cause: errRateLimited,
	}
}

// checkRateLimit counts a request of the application, and of the user if there is one.
func (c *call) checkRateLimit(user string) error {
	return c.charge(limit.Caller{Application: c.application.ID, User: user, Rates: c.application.Rates()})
}

func (c *call) charge(who limit.Caller) error {
	limiter := c.h.app.authority.limiter
	ctx := c.ctx
	switch {
	case c.endpoint.authenticatesClients():
		return c.applyDecision(limiter.Token(ctx, who))
	case c.r.Method == http.MethodGet || c.r.Method == http.MethodHead:
		return c.applyDecision(limiter.Read(ctx, who))
	default:
		return c.applyDecision(limiter.Create(ctx, who))
	}
}
