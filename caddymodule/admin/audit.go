// SPDX-License-Identifier: MIT

package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
)

// auditEntry is a change for the audit log. A call that changes nothing has none.
type auditEntry struct {
	action      string // such as "application.create"
	application string
	user        string // public id, not a mail address
	fields      []string
	details     []zap.Field
}

// change names the change that the call is about to make.
func (c *call) change(action string) { c.audit.action = action }

// recordRefusal records a change that was not made, or perhaps not.
func (c *call) recordRefusal(p *wire.Problem) {
	result := "refused"
	if p.Status >= http.StatusInternalServerError {
		result = "failed"
	}
	more := []zap.Field{zap.Int("status", p.Status)}
	// A field with another name is text of the caller.
	if name, _, _ := strings.Cut(p.Field, "."); isApplicationField(name) {
		more = append(more, zap.String("field", p.Field))
	}
	c.record(result, more...)
}

func (c *call) record(result string, more ...zap.Field) {
	if c.audit.action == "" || c.gateway == nil {
		return
	}
	c.recordEntry(c.audit, result, more...)
}

// recordEntry writes one audit line. It contains names of changed fields but no values,
// which may be secrets and mail addresses.
func (c *call) recordEntry(e auditEntry, result string, more ...zap.Field) {
	if a, ok := c.gateway.(Auditor); ok && a.Record(c.event(e, result, more)) {
		return
	}
	fields := append(c.who(), zap.String("action", e.action), zap.String("result", result))
	if e.application != "" {
		fields = append(fields, zap.String("application", e.application))
	}
	if e.user != "" {
		fields = append(fields, zap.String("user", e.user))
	}
	if len(e.fields) > 0 {
		fields = append(fields, zap.Strings("fields", e.fields))
	}
	fields = append(append(fields, e.details...), more...)
	c.gateway.Logger().Named("audit").Info("administration", fields...)
}

// Auditor is a [Gateway] that may keep an audit trail. Without a trail, changes are logged.
type Auditor interface {
	// Record writes an event. It returns false if there is no trail.
	Record(e audit.Event) bool
	// AuditReady returns an error if the trail cannot be written, so that changes have to
	// be refused.
	AuditReady() error
	// AuditState returns the state of the trail, false if there is none.
	AuditState() (audit.State, bool)
}

// decisions maps results to the words of the trail.
var decisions = map[string]string{"done": audit.Allowed, "refused": audit.Refused, "failed": audit.Failed}

// event converts an audit entry to an event of the trail.
func (c *call) event(e auditEntry, result string, more []zap.Field) audit.Event {
	facts := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(c.who(), e.details, more) {
		f.AddTo(facts)
	}
	take := func(name string) string {
		text, _ := facts.Fields[name].(string)
		delete(facts.Fields, name)
		return text
	}
	event := audit.Event{
		Type: e.action, Decision: decisions[result], Rule: "administrator", User: e.user, Fields: e.fields,
		SourceIP: take("remote_ip"), Actor: &audit.Party{Type: "administrator", ID: take("certificate_subject")},
	}
	if status, ok := facts.Fields["status"].(int64); ok {
		event.Status = int(status)
		delete(facts.Fields, "status")
	}
	switch {
	case e.application != "":
		event.Application = &audit.Application{ID: e.application}
		event.Target = &audit.Party{Type: "application", ID: e.application}
	case e.user != "":
		event.Target = &audit.Party{Type: "user", ID: e.user}
	}
	event.Details = facts.Fields
	return event
}

// requireTrail refuses changes that could not be recorded.
func (c *call) requireTrail() error {
	a, ok := c.gateway.(Auditor)
	if !ok || c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		return nil
	}
	if a.AuditReady() != nil {
		return &wire.Problem{Status: http.StatusServiceUnavailable, Detail: "The audit trail cannot be written, so nothing is changed.", RetryAfter: outageRetry}
	}
	return nil
}

// showAudit answers GET audit.
func (c *call) showAudit() error {
	a, ok := c.gateway.(Auditor)
	if ok {
		if state, kept := a.AuditState(); kept {
			return c.answer(http.StatusOK, state)
		}
	}
	return &wire.Problem{Status: http.StatusNotFound, Detail: "There is no audit trail: the meet_gateway global option has no block audit."}
}

// who identifies the caller as well as the admin endpoint can.
func (c *call) who() []zap.Field {
	who := "local"
	var fields []zap.Field
	if t := c.r.TLS; t != nil && len(t.PeerCertificates) > 0 {
		cert := t.PeerCertificates[0]
		key := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		who = "remote"
		fields = append(fields,
			zap.String("certificate_subject", cert.Subject.String()),
			zap.String("certificate_key", base64.StdEncoding.EncodeToString(key[:])))
	}
	fields = append([]zap.Field{zap.String("who", who)}, fields...)
	if ip, _, err := net.SplitHostPort(c.r.RemoteAddr); err == nil { // not for a Unix socket
		fields = append(fields, zap.String("remote_ip", ip))
	}
	if claimed := wire.Printable(c.r.Header.Get(wire.UserHeader), 64); claimed != "" {
		fields = append(fields, zap.String("claimed_user", claimed))
	}
	return fields
}
