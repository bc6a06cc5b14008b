// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/meet-gateway/meet-gateway/backendclient"
)

// outagePeriod is the minimum time between two log lines about the same outage.
const outagePeriod = 10 * time.Second

// throttle allows one line per kind and period and counts the others.
type throttle struct {
	mu   sync.Mutex
	seen map[string]*throttled
}

type throttled struct {
	last       time.Time
	suppressed int
}

// recent returns the distinct hints of recent outages whose reason starts with prefix.
// Kinds are a reason and a hint.
func (t *throttle) recent(prefix string, now time.Time, while time.Duration) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var hints []string
	for kind, s := range t.seen {
		reason, hint, _ := strings.Cut(kind, " ")
		if strings.HasPrefix(reason, prefix) && hint != "" && now.Sub(s.last) < while && !slices.Contains(hints, hint) {
			hints = append(hints, hint)
		}
	}
	slices.Sort(hints)
	return hints
}

// allow reports whether a line may be written now, and how many were suppressed since
// the last one. Kinds come from a closed set.
func (t *throttle) allow(kind string, now time.Time) (suppressed int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, known := t.seen[kind]
	if !known {
		if t.seen == nil {
			t.seen = make(map[string]*throttled)
		}
		s = &throttled{}
		t.seen[kind] = s
	} else if now.Sub(s.last) < outagePeriod {
		s.suppressed++
		return 0, false
	}
	suppressed = s.suppressed
	s.last, s.suppressed = now, 0
	return suppressed, true
}

// logRefusal writes the one log line about a refused request. It contains neither
// credentials nor mail addresses.
func (c *call) logRefusal(r *refusal) {
	if r.outage {
		c.logOutage(r)
		return
	}
	level := zapcore.InfoLevel
	switch {
	case r.status == http.StatusNotFound, r.status == http.StatusMethodNotAllowed, r.reason == "canceled", r.reason == "no_credentials":
		level = zapcore.DebugLevel // usual for scanners and closed browsers
	}
	if entry := c.h.logger.Check(level, "request refused"); entry != nil {
		entry.Write(c.logFields(r)...)
	}
}

func (c *call) logOutage(r *refusal) {
	hint := ""
	if be, ok := errors.AsType[*backendclient.Error](r.cause); ok {
		hint = be.Hint
	}
	// Outages with different hints need different actions.
	suppressed, ok := c.h.app.outages.allow(r.reason+" "+hint, time.Now())
	if !ok {
		return
	}
	entry := c.h.logger.Check(zapcore.ErrorLevel, "request failed")
	if entry == nil {
		return
	}
	fields := append(c.logFields(r), zap.Error(r.cause))
	if hint != "" {
		fields = append(fields, zap.String("hint", hint))
	}
	if suppressed > 0 {
		fields = append(fields, zap.Int("suppressed", suppressed))
	}
	entry.Write(fields...)
}

func (c *call) logFields(r *refusal) []zap.Field {
	fields := []zap.Field{
		zap.String("reason", r.reason),
		zap.Int("status", r.status),
		zap.String("endpoint", string(c.endpoint)),
		zap.String("request_id", c.requestID),
	}
	if id := c.knownClient(); id != "" {
		fields = append(fields, zap.String("client_id", id))
	}
	if id := c.traceID(); id != "" {
		fields = append(fields, zap.String("trace_id", id))
	}
	if r.reason == "insufficient_scope" && c.application != nil && c.application.Scopes.Has(c.scope) {
		fields = append(fields, zap.String("hint", hintScopeAtMeet))
	}
	return fields
}

// hintScopeAtMeet explains a token with fewer scopes than its application.
const hintScopeAtMeet = "the application has this scope, but its token does not: grant the scope in Meet's admin to the application that is presented to Meet; " +
	"new tokens then have it"

// errorFields returns the log fields for an error that the answer does not show.
func errorFields(c *call, err error) []zap.Field {
	return []zap.Field{zap.Error(err), zap.String("endpoint", string(c.endpoint)), zap.String("request_id", c.requestID)}
}
