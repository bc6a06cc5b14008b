// SPDX-License-Identifier: MIT

package caddymodule

import (
	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// auditEntry collects what the audit trail records about a call.
type auditEntry struct {
	mail      tokens.Mail
	userID    string
	grantType string
	tokenID   string
	scopes    string // of the issued token
	rule      string // what allowed the call
	room      audit.Room
	repeated  bool // the answer was stored under an Idempotency-Key
	recorded  bool
}

// isAudited reports whether the audit trail records calls like this.
func (c *call) isAudited() bool {
	if c.h.app.Audit == nil {
		return false
	}
	switch c.endpoint {
	case endpointToken, endpointRevoke, endpointRoomsCreate, endpointOperator:
		return true
	default:
		return false
	}
}

// record writes the call's event, once. r is nil if the call was allowed. After an
// error the call must be refused.
func (e *auditEntry) record(c *call, r *refusal) error {
	if !c.isAudited() || e.recorded {
		return nil
	}
	event := e.event(c)
	if r != nil {
		event.Decision, event.Rule, event.Status = audit.Refused, r.reason, r.status
		if r.outage || r.status >= 500 {
			event.Decision = audit.Failed
		}
	}
	event.Type = e.eventType(c.endpoint, r == nil)
	if err := c.h.app.Audit.write(event); err != nil {
		return err
	}
	e.recorded = true
	return nil
}

// recordMore writes an additional event about the call.
func (e *auditEntry) recordMore(c *call, kind, decision, rule string, change func(*audit.Event)) {
	if c.h.app.Audit == nil {
		return
	}
	event := e.event(c)
	event.Type, event.Decision, event.Rule, event.Details = kind, decision, rule, nil
	if change != nil {
		change(&event)
	}
	_ = c.h.app.Audit.write(event) // record reports failures
}

// eventType returns the type of the call's event.
func (e *auditEntry) eventType(at endpoint, allowed bool) string {
	switch {
	case at == endpointToken && !allowed:
		return audit.TokenRefused
	case at == endpointToken && e.grantType == grantRefreshToken:
		return audit.TokenRefreshed
	case at == endpointToken:
		return audit.TokenIssued
	case at == endpointRevoke:
		return audit.TokenRevoked
	case at == endpointRoomsCreate && allowed:
		return audit.RoomCreated
	case at == endpointRoomsCreate:
		return audit.RoomRefused
	case allowed:
		return audit.RouteUsed
	}
	return audit.RouteRefused
}

// event returns an event with what is known about the call.
func (e *auditEntry) event(c *call) audit.Event {
	event := audit.Event{
		Decision: audit.Allowed, Rule: e.rule, RequestID: c.requestID, TraceID: c.traceID(), Repeated: e.repeated,
		SourceIP: sourceText(c.r), User: e.userID,
	}
	if app := c.application; app != nil {
		event.Actor = &audit.Party{Type: "application", ID: app.ID}
		event.Application = &audit.Application{ID: app.ID, Name: app.Name}
	}
	mail := string(e.mail)
	if c.identity != nil && c.identity.User != nil {
		event.User, mail = c.identity.User.ID, string(c.identity.User.Mail)
	}
	c.h.app.Audit.mail(&event, mail)
	switch c.endpoint {
	case endpointToken:
		if event.User != "" {
			event.Target = &audit.Party{Type: "user", ID: event.User}
		}
	case endpointRevoke:
		event.Target = &audit.Party{Type: "token"}
	case endpointOperator:
		event.Target = &audit.Party{Type: "route", ID: c.r.Method + " " + c.match.pattern.template}
		if id := c.match.roomInPath(); id != "" {
			event.Room = &audit.Room{ID: id}
		}
	default:
	}
	if e.room != (audit.Room{}) {
		event.Room = &e.room
		event.Target = &audit.Party{Type: "room", ID: e.room.ID}
	}
	if e.tokenID != "" {
		event.Details = map[string]any{"token_id": e.tokenID, "scopes": e.scopes}
	}
	return event
}

// noteRoom notes id and slug of the room in Meet's answer.
func (e *auditEntry) noteRoom(body []byte) {
	room := backendclient.ReadRoom(body)
	if id, ok := canonicalUUID(room.ID()); ok {
		e.room.ID = id
	}
	if slug := room.Slug(); isSlug(slug) {
		e.room.Slug = slug
	}
}
