// SPDX-License-Identifier: MIT

package caddymodule

import (
	"fmt"
	"net/http"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// parseLimits parses the options limit and quota_dry_run.
func (a *App) parseLimits() (*limit.Rates, tokens.QuotaOptions, error) {
	quota := tokens.QuotaOptions{DryRun: a.QuotaDryRun}
	rates, err := limit.ParseRates(a.Limits)
	if err != nil {
		return nil, quota, fmt.Errorf("limit: %w", err)
	}
	if users, ok := rates.Get(limit.Users); ok {
		quota.Users = users.Count
	}
	if users, ok := rates.Get(limit.UsersDomain); ok {
		quota.UsersDomain = users.Count
	}
	return rates, quota, nil
}

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
		reason: "limit_" + d.Policy.String(), retryAfter: d.RetryAfter,
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
