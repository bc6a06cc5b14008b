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

// mayAsk counts a request for rooms, or for a token. It costs no round trip.
func (c *call) mayAsk(user string) error {
	return c.count(limit.Caller{Application: c.application.ID, User: user, Rates: c.application.Rates()})
}

func (c *call) count(who limit.Caller) error {
	limiter := c.h.app.authority.limiter
	ctx := c.ctx
	switch {
	case c.endpoint == endpointToken:
		return c.within(limiter.Token(ctx, who))
	case c.r.Method == http.MethodGet || c.r.Method == http.MethodHead:
		return c.within(limiter.Read(ctx, who))
	default:
		return c.within(limiter.Create(ctx, who))
	}
}

// login authenticates an application by its credentials. Failures slow the
// application down where they come from, and nowhere else.
func (c *call) login(clientID, secret string) (*tokens.SecretInfo, error) {
	source, err := c.source()
	if err != nil {
		return nil, err
	}
	ctx := c.ctx
	var attempt *limit.Attempt
	defer func() { // whatever happens: a place that is not given back is lost
		if attempt != nil {
			attempt.End()
		}
	}()
	app, info, err := c.h.app.Authority().AuthenticateIf(ctx, clientID, secret, func(application string, own *limit.Rates) error {
		var d limit.Decision
		if attempt, d = c.h.app.authority.limiter.Attempt(ctx, application, source, own); !d.Allowed {
			return c.within(d)
		}
		return nil
	})
	if attempt != nil && errors.Is(err, tokens.ErrInvalidClient) {
		attempt.Fail()
	}
	if err != nil {
		return nil, err
	}
	c.application = app
	return info, c.checkSource()
}
