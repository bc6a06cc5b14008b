// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/caddymodule/strictjson"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// judgeNoMail disables the checks of mail addresses on a route.
const judgeNoMail = "none"

const fieldAccessLevel = "access_level"

// maxNamedUsers is the maximum number of users in one request. Each costs a check of
// the quota.
const maxNamedUsers = 100

// judgesMail reports whether mail addresses in the body are checked.
func (r *Route) judgesMail() bool { return !slices.Equal(r.Mail, []string{judgeNoMail}) }

// policy describes the checks of the route's requests, or returns "" for nil.
func (r *Route) policy() string {
	if r == nil {
		return ""
	}
	words := []string{"every mail in the body under the application's domains"}
	switch {
	case !r.judgesMail():
		words[0] = "mail none: no mail is judged"
	case len(r.Mail) > 0:
		words[0] = "mail in " + strings.Join(r.Mail, ", ") + " alone, under the application's domains and the quota"
	}
	words = append(words, "access_level by room_access_levels")
	if r.Idempotent {
		words = append(words, "idempotent")
	}
	if r.Sensitive {
		words = append(words, "sensitive")
	}
	return strings.Join(words, "; ")
}

// changes reports whether requests have a body to check.
func (r *Route) changes() bool { return r.Method != http.MethodGet && r.Method != http.MethodDelete }

// routesWithoutMail lists the routes that do not configure `mail`.
func routesWithoutMail(routes []Route) []string {
	var lines []string
	for _, r := range routes {
		if r.changes() && len(r.Mail) == 0 {
			lines = append(lines, r.Method+" "+r.Path)
		}
	}
	return lines
}

// routeJudge checks the body of a request to an opened route. An accepted body is
// forwarded unchanged, byte for byte.
type routeJudge struct {
	route  *Route
	rooms  roomPolicy
	mayAct func(tokens.Mail) error // nil if no application is known, whose domains could decide

	mails []tokens.Mail // from the fields that hold users
}

// judge checks the body and returns what to forward: the body, or nothing. Errors are
// *parse.RequestError, parse.FieldErrors, tokens.ErrDomainNotAllowed and
// errPublicRooms.
func (j *routeJudge) judge(body []byte) ([]byte, error) {
	if strictjson.HoldsNUL(body) {
		return nil, parse.ErrJSON
	}
	object, err := parse.JSONObject(body)
	if err != nil || object == nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if err := j.member("", name, object[name]); err != nil {
			return nil, err
		}
	}
	return body, nil
}

// member checks a member of an object. field is the top-level field that contains it,
// for errors.
func (j *routeJudge) member(field, name string, value json.RawMessage) error {
	if field == "" {
		field = fieldLabel(name)
	}
	if err := j.name(field, name); err != nil {
		return err
	}
	switch {
	case name == fieldAccessLevel:
		if _, err := j.rooms.level(value); err != nil {
			return err
		}
	case j.route.judgesMail() && slices.Contains(j.route.Mail, name):
		return j.user(field, value)
	}
	return j.value(field, value)
}

// fieldLabel returns the name of a field for errors, unless it may contain a mail
// address.
func fieldLabel(name string) string {
	if mayHoldMail(name) {
		return "non_field_errors"
	}
	return cutText(name)
}

// name refuses names that contain mail addresses and names that a lenient reader may
// confuse with a checked one.
func (j *routeJudge) name(field, name string) error {
	judged := append([]string{fieldAccessLevel}, j.route.Mail...)
	if i := slices.IndexFunc(judged, func(other string) bool { return sameName(name, other) }); i >= 0 && !slices.Contains(judged, name) {
		return parse.FieldErrors{field: {fmt.Sprintf("The name of this field is %q.", judged[i])}}
	}
	if j.route.judgesMail() && mayHoldMail(name) {
		return parse.FieldErrors{field: {"The name of a field must not hold an email address."}}
	}
	return nil
}

// sameName reports whether two names differ only in case and punctuation, as
// accessLevel and access_level.
func sameName(name, other string) bool {
	words := func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) || unicode.IsDigit(r) {
				return r
			}
			return -1
		}, s)
	}
	return strings.EqualFold(words(name), words(other))
}

// value checks a value that is not a user field.
func (j *routeJudge) value(field string, value json.RawMessage) error {
	switch value[0] {
	case '{':
		object, err := strictjson.Object(value)
		if err != nil {
			return parse.ErrJSON
		}
		for _, name := range slices.Sorted(maps.Keys(object)) {
			if err := j.member(field, name, object[name]); err != nil {
				return err
			}
		}
	case '[':
		return j.each(value, func(element json.RawMessage) error { return j.value(field, element) })
	case '"':
		text, err := stringOf(value)
		if err != nil || !j.route.judgesMail() || !mayHoldMail(text) {
			return err
		}
		if len(j.route.Mail) > 0 {
			return parse.FieldErrors{field: {"An email address is not expected here."}}
		}
		_, err = j.mail(field, text)
		return err
	}
	return nil
}

// user checks a field that holds one user or a list of users.
func (j *routeJudge) user(field string, value json.RawMessage) error {
	switch {
	case value[0] == '[':
		return j.each(value, func(element json.RawMessage) error { return j.user(field, element) })
	case string(value) == "null": // left to Meet
		return nil
	case value[0] != '"':
		return parse.FieldErrors{field: {"Not a valid string."}}
	}
	text, err := stringOf(value)
	if err != nil {
		return err
	}
	mail, err := j.mail(field, text)
	if err != nil || slices.Contains(j.mails, mail) {
		return err
	}
	if len(j.mails) == maxNamedUsers {
		return parse.FieldErrors{field: {fmt.Sprintf("No more than %d users at once.", maxNamedUsers)}}
	}
	j.mails = append(j.mails, mail)
	return nil
}

// mail checks one address, which must be in its canonical form except for case, so that
// Meet reads the same address.
func (j *routeJudge) mail(field, text string) (tokens.Mail, error) {
	mail, err := tokens.ParseMail(text)
	if err != nil || !strings.EqualFold(string(mail), text) || len(mail) != len(text) {
		return "", parse.FieldErrors{field: {"Enter a valid email address."}}
	}
	if j.mayAct == nil {
		return mail, nil
	}
	return mail, j.mayAct(mail)
}

func (*routeJudge) each(array json.RawMessage, judge func(json.RawMessage) error) error {
	var elements []json.RawMessage
	if err := json.Unmarshal(array, &elements); err != nil {
		return parse.ErrJSON
	}
	for _, element := range elements {
		if err := judge(element); err != nil {
			return err
		}
	}
	return nil
}

func stringOf(value json.RawMessage) (string, error) {
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return "", parse.ErrJSON
	}
	return text, nil
}

// mayHoldMail reports whether a text contains an @ or an encoding of one that a reader
// might decode: Unicode's full-width and small forms, percent-encoding, HTML references
// and string escapes, also nested.
func mayHoldMail(text string) bool {
	for range 4 {
		if strings.ContainsAny(text, "@\uff20\ufe6b") || strings.Contains(text, overlongAt) || escapedAt.MatchString(text) {
			return true
		}
		decoded := html.UnescapeString(percentDecoded(text))
		if decoded == text {
			return false
		}
		text = decoded
	}
	return true // no honest text is encoded that often
}

// overlongAt is @ in overlong UTF-8, which lenient readers accept.
const overlongAt = "\xc1\x80"

// escapedAt matches @ in escapes of JSON, JavaScript and Python.
var escapedAt = regexp.MustCompile(`(?i)[\\%]u(?:00(?:00)?40|ff20|fe6b|0000ff20|0000fe6b|\{0*(?:40|ff20|fe6b)\})|\\x(?:40|\{0*40\})|\\100`)

// percentDecoded decodes valid percent-encoding and keeps the rest.
func percentDecoded(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if decoded, err := url.PathUnescape(text[i : i+3]); err == nil {
				b.WriteString(decoded)
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
