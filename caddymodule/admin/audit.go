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

// auditEntry is what a call changes, for the audit log. Calls that change
// nothing have none.
type auditEntry struct {
	action      string // "application.create"
	application string
	user        string // public id, never a mail address
	fields      []string
	details     []zap.Field
}

// change says what the call is about to change.
func (c *call) change(action string) { c.audit.action = action }

// recordSuccess writes the audit line of a change that was made.
func (c *call) recordSuccess() { c.record("done") }

// recordRefusal writes the audit line of a change that was not made, or may not
// have been.
func (c *call) recordRefusal(p *wire.Problem) {
	result := "refused"
	if p.Status >= http.StatusInternalServerError {
		result = "failed"
	}
	more := []zap.Field{zap.Int("status", p.Status)}
	// A field that is not one of ours is a text of the caller's.
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

// recordEntry writes one audit line. Of changed fields only the names are
// written, never values: they hold secrets and mail addresses.
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

// Auditor is a [Gateway] that may keep an audit trail. Where it keeps none, changes
// are logged.
type Auditor interface {
	// Record writes an event; false if there is no trail.
	Record(e audit.Event) bool
	// AuditReady returns an error if nothing is to be changed because that could not
	// be put on record.
	AuditReady() error
	// AuditState tells where the trail is; false if there is none.
	AuditState() (audit.State, bool)
}

// decisions are the words of the trail for results.
var decisions = map[string]string{"done": audit.Allowed, "refused": audit.Refused, "failed": audit.Failed}

// event is an audit line as an event of the trail.
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

// requireTrail refuses changes that could not be put on record.
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

// showAudit tells where the audit trail is.
func (c *call) showAudit() error {
	a, ok := c.gateway.(Auditor)
	if ok {
		if state, kept := a.AuditState(); kept {
			return c.answer(http.StatusOK, state)
		}
	}
	return &wire.Problem{Status: http.StatusNotFound, Detail: "There is no audit trail: the meet_gateway global option has no block audit."}
}

// who tells the caller apart as well as the admin endpoint can.
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
	if ip, _, err := net.SplitHostPort(c.r.RemoteAddr); err == nil { // a unix socket has none
		fields = append(fields, zap.String("remote_ip", ip))
	}
	if claimed := wire.Printable(c.r.Header.Get(wire.UserHeader), 64); claimed != "" {
		fields = append(fields, zap.String("claimed_user", claimed))
	}
	return fields
}
