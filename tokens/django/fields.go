// SPDX-License-Identifier: MIT

package django

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Maximum lengths, in characters where Meet's columns count those.
const (
	maxKey      = 64
	maxClientID = 100
	maxName     = 255
	maxScope    = 64
	maxDomain   = 253
)

// fields are the fields of a serialized object. Names are case-sensitive, as in Django.
type fields map[string]json.RawMessage

// text returns a string; false for null and a missing field.
func (f fields) text(name string) (string, bool) { return readString(f[name]) }

func (f fields) clientID() (string, bool) {
	s, ok := f.text("client_id")
	return s, ok && isVisible(s, maxClientID)
}

func (f fields) name(report func(field, reason string)) string {
	s, ok := f.text("name")
	if !ok || utf8.RuneCountInString(s) > maxName {
		report("name", "is missing or longer than 255 characters")
		return ""
	}
	printable := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	if utf8.RuneCountInString(printable) != utf8.RuneCountInString(s) {
		report("name", "had characters that do not print")
	}
	return strings.TrimSpace(printable)
}

// secretHash returns a hash for Verify, or "".
func (f fields) secretHash(report func(field, reason string)) string {
	s, ok := f.text("client_secret")
	if !ok || s == "" {
		report("client_secret", "is missing")
		return ""
	}
	switch _, err := Identify(s); {
	case err == nil:
		return s
	case strings.HasPrefix(s, "!"):
		report("client_secret", "is an unusable password")
	case errors.Is(err, ErrNotHash):
		report("client_secret", "is not a hash; a secret in clear is known to everyone who has read this file")
	default:
		report("client_secret", err.Error())
	}
	return ""
}

// active reads is_active, which was called active before Meet's migration 0018.
func (f fields) active(report func(field, reason string)) bool {
	name := "is_active"
	if _, ok := f[name]; !ok && f["active"] != nil {
		name = "active"
	}
	switch string(f[name]) {
	case "true":
		return true
	case "false":
		return false
	default:
		report(name, "is missing or neither true nor false; taken as false")
		return false
	}
}

// scopes reads a list, or the JSON text of a list, as Django writes a PostgreSQL array.
func (f fields) scopes(report func(field, reason string)) []string {
	raw := f["scopes"]
	names, ok := readList(raw)
	if s, isText := readString(raw); isText {
		names, ok = readList(json.RawMessage(s))
	}
	if !ok {
		report("scopes", "is missing or not a list of texts; taken as none")
		return nil
	}
	var scopes []string
	for _, n := range names {
		n = strings.ToLower(n) // as Meet reads them
		switch {
		case !isScope(n):
			report("scopes", "holds something that is not a scope; left out")
		case !slices.Contains(scopes, n):
			scopes = append(scopes, n)
		}
	}
	return scopes
}

// instant reads a date and time. One without a zone (USE_TZ off) is taken as UTC.
func (f fields) instant(name string, report func(field, reason string)) time.Time {
	raw := f[name]
	if raw == nil || string(raw) == "null" {
		return time.Time{}
	}
	s, _ := f.text(name)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	report(name, "is not a date and time")
	return time.Time{}
}

// domain reads a domain and folds it as Meet does. Only a plain name is accepted, since
// wildcards mean nothing at Meet.
func (f fields) domain() (string, bool) {
	s, ok := f.text("domain")
	s = strings.TrimSpace(s)
	if !ok || !isVisible(s, maxDomain) { // ASCII, so folding is safe
		return "", false
	}
	s = strings.ToLower(s)
	labels := strings.Split(s, ".")
	top := labels[len(labels)-1]
	if len(labels) < 2 || strings.Trim(top, "0123456789") == "" { // an IP address
		return "", false
	}
	if slices.ContainsFunc(labels, func(l string) bool { return !isDomainLabel(l) }) {
		return "", false
	}
	return s, true
}

// isDomainLabel reports whether s is letters, digits and inner hyphens (RFC 1123 §2.1).
func isDomainLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// readKey reads a primary key, a text or a number. It is safe to show.
func readKey(raw json.RawMessage) (string, bool) {
	s, ok := readString(raw)
	var number json.Number
	if !ok && json.Unmarshal(raw, &number) == nil {
		s = number.String()
	}
	if !isVisible(s, maxKey) {
		return "", false
	}
	return s, true
}

// foldKey makes the spellings of a UUID equal.
func foldKey(key string) string { return strings.ToLower(strings.ReplaceAll(key, "-", "")) }

// readString reads a JSON string; false for null.
func readString(raw json.RawMessage) (string, bool) {
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

// readList reads a JSON list of strings; false for null, and for a null in it.
func readList(raw json.RawMessage) ([]string, bool) {
	var list []*string
	if json.Unmarshal(raw, &list) != nil || list == nil {
		return nil, false
	}
	names := make([]string, 0, len(list))
	for _, s := range list {
		if s == nil {
			return nil, false
		}
		names = append(names, *s)
	}
	return names, true
}

// isVisible reports whether s has 1 to longest visible ASCII characters.
func isVisible(s string, longest int) bool {
	if s == "" || len(s) > longest {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// isScope reports whether s is a scope-token (RFC 6749 §3.3) of Meet's length.
func isScope(s string) bool { return isVisible(s, maxScope) && !strings.ContainsAny(s, `"\`) }

// isLabel reports whether s is app.model.
func isLabel(s string) bool {
	app, model, found := strings.Cut(s, ".")
	if !found || len(s) > 200 {
		return false
	}
	return isIdentifier(app) && isIdentifier(model)
}

func isIdentifier(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != ""
}
