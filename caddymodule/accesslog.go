// SPDX-License-Identifier: MIT

package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// outcomeOK is the outcome of successful requests.
const outcomeOK = "ok"

// note records the outcome in metrics, placeholders and the access log. The latter two
// are evaluated lazily.
func (c *call) note(outcome string) {
	c.outcome = outcome
	c.traceCall(outcome)
	if outcome == outcomeOK {
		c.action.served.Inc()
	} else {
		requestsTotal.WithLabelValues(string(c.endpoint), outcome).Inc()
	}
	ctx := c.r.Context()
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(c.placeholder)
	}
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); !ok || server.Logs == nil {
		return
	}
	if fields, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		fields.Add(zap.Inline(c))
	}
}

// placeholder resolves the placeholders that [Handler] documents.
func (c *call) placeholder(key string) (any, bool) {
	switch key {
	case "http.meet_gateway.endpoint":
		return string(c.endpoint), true
	case "http.meet_gateway.outcome":
		return c.outcome, true
	case "http.meet_gateway.request_id":
		return c.requestID, true
	}
	if c.application == nil {
		return nil, false
	}
	switch key {
	case "http.auth.user.id":
		if c.identity != nil && c.identity.User != nil {
			return c.identity.User.ID, true
		}
		return c.application.ID, true
	case "http.auth.user.client_id":
		return c.application.ID, true
	case "http.auth.user.scopes":
		if c.identity != nil {
			return c.identity.Scopes.String(), true
		}
	}
	return nil, false
}

// MarshalLogObject implements zapcore.ObjectMarshaler, for the access log.
func (c *call) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("request_id", c.requestID)
	enc.AddString("endpoint", string(c.endpoint))
	enc.AddString("outcome", c.outcome)
	if id := c.knownClient(); id != "" {
		enc.AddString("client_id", id)
	}
	if id := c.traceID(); id != "" {
		enc.AddString("trace_id", id)
	}
	return nil
}

// knownClient returns the id of the calling application if it exists, even if its
// credential was refused, and otherwise "": a claimed id may be any text.
func (c *call) knownClient() string {
	if c.application != nil {
		return c.application.ID
	}
	return c.clientID
}

// Interface guards
var _ zapcore.ObjectMarshaler = (*call)(nil)
