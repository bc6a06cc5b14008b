package caddymodule

import (
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"strings"

	"go.uber.org/zap"
)

// claimedUserHeader is who the caller of the admin API says to be. The CLI puts
// the name of the operating system's user there. Nobody has checked it: what can
// be relied on is the address, or the certificate of remote administration.
const claimedUserHeader = "Meet-Gateway-User"

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
func (c *adminCall) change(action string) { c.audit.action = action }

// recordSuccess writes the audit line of a change that was made.
func (c *adminCall) recordSuccess() { c.record("done") }

// recordRefusal writes the audit line of a change that was not made, or may not
// have been.
func (c *adminCall) recordRefusal(p *problem) {
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

func (c *adminCall) record(result string, more ...zap.Field) {
	if c.audit.action == "" || c.app == nil {
		return
	}
	c.recordEntry(c.audit, result, more...)
}

// recordEntry writes one audit line. Of changed fields only the names are
// written, never values: they hold secrets and mail addresses.
func (c *adminCall) recordEntry(e auditEntry, result string, more ...zap.Field) {
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
	c.app.logger.Named("audit").Info("administration", fields...)
}

// who tells the caller apart as well as the admin endpoint can.
func (c *adminCall) who() []zap.Field {
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
	if claimed := printable(c.r.Header.Get(claimedUserHeader), 64); claimed != "" {
		fields = append(fields, zap.String("claimed_user", claimed))
	}
	return fields
}

// printable drops what does not print in ASCII and what is too much.
func printable(s string, longest int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), longest)]
}
