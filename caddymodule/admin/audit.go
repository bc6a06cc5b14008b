package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
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
