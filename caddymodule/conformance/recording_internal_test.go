// SPDX-License-Identifier: MIT

package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write contract.yaml from the recording")

// chosen is a line of the recording that can be replayed at another Meet without harm. It
// needs nothing that only the recorded Meet has, and changes nothing unless write is set.
type chosen struct {
	line, about string
	or          []string // lines recorded with other settings
	write       bool
	room        string // replaces the room in the request; default {room}
	token       string // replaces its token; default {token}
	moreThan    int
	takes       map[string]string
	isNew       bool
	either      string
	atGateway   *atGateway
	replace     [2]string // applied to the request last
}

// chosenLines are in the order of their requests. They cost Meet few exchanges.
var chosenLines = []chosen{
	{line: "token-object-empty", about: "tokens"},
	{line: "token-json-ok", about: "tokens", takes: map[string]string{"token": "access_token"}},
	{line: "token-upper-case-mail-ok", about: "tokens", write: true},
	{line: "token-bad-secret", about: "tokens"},
	{line: "token-unknown-client", about: "tokens"},
	{line: "token-scope-not-a-mail", about: "tokens"},
	{line: "token-grant-password", about: "tokens"},
	{line: "token-missing-client-secret", about: "tokens"},
	{line: "token-array-body", about: "tokens"},
	{line: "token-bad-json", about: "tokens"},
	{line: "token-415-text-plain", about: "tokens"},
	{line: "token-405-get", about: "tokens"},
	{line: "application-root", about: "tokens"},
	{line: "token-domain-refused", about: "tokens"},
	{line: "token-duplicate-mail", about: "tokens", atGateway: &atGateway{Row: "two users with one mail", Status: 409}},
	{line: "token-inactive-user-ok", about: "tokens"},
	{line: "token-unknown-user", about: "tokens", or: []string{"provision-new"}, write: true, atGateway: &atGateway{Row: "unknown user", Status: 400}},

	{line: "auth-none", about: "access"},
	{line: "auth-basic", about: "access"},
	{line: "auth-bearer-alone", about: "access"},
	{line: "auth-garbage", about: "access", or: []string{"rs-inactive-garbage", "rs-unreachable-garbage"}},
	{line: "auth-bad-signature", about: "access", or: []string{"rs-inactive-bad-signature", "rs-unreachable-bad-signature"}, token: "{tampered_token}"},
	{line: "auth-issued-inactive-user", about: "access", token: "{disabled_token}"},

	{line: "list-page-1", about: "lists", takes: map[string]string{"count": "count", "room": "results.0.id"}},
	{line: "list-page-1-explicit", about: "lists"},
	{line: "list-page-2", about: "lists", moreThan: 20},
	{line: "list-page-last", about: "lists"},
	{line: "list-page-4", about: "lists", replace: [2]string{"page=4", "page={past_end}"}},
	{line: "list-page-0", about: "lists"},
	{line: "list-page-abc", about: "lists"},
	{line: "list-page-size-5", about: "lists", either: "the gateway notices a Meet that honours page_size", atGateway: &atGateway{Row: "`page_size`", Size: 5}},
	{line: "list-unknown-parameter", about: "lists", moreThan: 20},
	{line: "collection-head", about: "lists"},

	{line: "retrieve-own", about: "rooms", takes: map[string]string{"slug": "slug"}},
	{line: "retrieve-upper-case", about: "rooms", room: "{ROOM}"},
	{line: "room-head", about: "rooms"},
	{line: "retrieve-unknown", about: "rooms", room: "-"},
	{line: "retrieve-not-uuid", about: "rooms"},
	{line: "retrieve-other", about: "rooms", token: "{second_token}"},
	{line: "list-slug-filter-ignored", about: "lists", either: "a Meet that filters by slug is asked once, any other is searched", atGateway: &atGateway{Row: "`GET /rooms?slug=`", Rooms: new(1)}},

	{line: "room-patch-unknown", about: "paths", room: "-", isNew: true},
	{line: "room-put", about: "paths", room: noRoom, isNew: true},
	{line: "room-delete", about: "paths", room: noRoom, isNew: true},
	{line: "room-grant-access", about: "paths", room: noRoom, isNew: true},
	{line: "collection-options", about: "paths", atGateway: &atGateway{Row: "`OPTIONS`", Status: 405}},
	{line: "version-2", about: "paths", isNew: true},
	{line: "rooms-no-slash-get", about: "paths", either: "the gateway always asks with the slash", atGateway: &atGateway{Row: "slash at the end of a path", Status: 200}},
	{line: "lbheartbeat", about: "paths", atGateway: &atGateway{Skip: true}},

	{line: "create-no-body", about: "creations", write: true},
	{line: "create-access-trusted", about: "creations", write: true},
	{line: "create-access-restricted", about: "creations", write: true, takes: map[string]string{"created": "id"}},
	{line: "create-then-retrieve", about: "creations", write: true, room: "{created}"},
	{line: "create-access-public", about: "creations", or: []string{"public-access-allowed-create-public"}, write: true},
	{line: "create-access-unknown", about: "creations", write: true},
	{line: "create-access-null", about: "creations", write: true},
	{line: "create-config-mute-true", about: "creations", write: true},
	{line: "create-config-unknown-key", about: "creations", write: true},
	{line: "create-extra-fields", about: "creations", write: true, room: noRoom},
	{line: "create-array", about: "creations", write: true},
	{line: "create-bad-json", about: "creations", write: true},
	{line: "create-form", about: "creations", write: true},
}

// noRoom is an id without a room. Requests that a later Meet may support must find nothing.
const noRoom = "00000000-0000-4000-8000-000000000404"

// recordedLine is the part of a line of the recording that this test needs.
type recordedLine struct {
	ID        string `json:"id"`
	Situation string `json:"situation"`
	Request   struct {
		Method  string         `json:"method"`
		Path    string         `json:"path"`
		Headers map[string]any `json:"headers"`
		Body    *string        `json:"body"`
	} `json:"request"`
	Response struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    any               `json:"body"`
	} `json:"response"`
}

func recording(t *testing.T) map[string]recordedLine {
	t.Helper()
	b, err := os.ReadFile("../../backendclient/sandbox/testdata/meet-backend.jsonl")
	require.NoError(t, err)
	lines := map[string]recordedLine{}
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, len(b))
	for s.Scan() {
		var l recordedLine
		require.NoError(t, json.Unmarshal(s.Bytes(), &l))
		lines[l.ID] = l
	}
	require.NoError(t, s.Err())
	return lines
}

const basePath = "/external-api/v1.0"

// contract.yaml is generated from the recording.
func TestContract_MatchesRecording(t *testing.T) {
	lines := recording(t)
	var b strings.Builder
	b.WriteString(preface)
	for _, c := range chosenLines {
		require.Contains(t, lines, c.line)
		write(t, &b, c, lines)
	}
	if *update {
		require.NoError(t, os.WriteFile("contract.yaml", []byte(b.String()), 0o600))
	}
	require.Equal(t, b.String(), string(contractYAML), "go test ./caddymodule/conformance -run TestContract_MatchesRecording -update")
}

const preface = `# The requests that are sent to a Meet, and the recorded answers. The test
# TestContract_MatchesRecording generates this file from backendclient/sandbox/testdata;
# edit the test.
#
# line        the name of the exchange in the recording
# asks        method, and path below the base path ({root}: of the host). {mail} and similar
#             names stand for the values of flags, {token} for a value from an earlier line
# write       sent with --write only: it may create a room or a user
# more_than   sent only if the user has more rooms than that
# takes       values of the answer that later lines use
# answers     Meet's answers with different settings, one of which must match. "gateway" is the
#             status that the gateway's caller gets, and the reason if Meet refuses the
#             request or cannot be used
# either      why the gateway supports any of the answers
# new         a feature that a later Meet may have
# at_gateway  the gateway's own answer, and its row in docs/compatibility.md
#
# In an answer, <uuid> and similar texts stand for a form, and a name with a question mark is
# optional. Headers that are not named do not matter.
shapes:
  list: {"count": "<number>", "next": "<link or null>", "previous": "<link or null>", "results": ["<room>"]}
  room: {"id": "<uuid>", "name": "<text>", "slug": "<text>", "access_level": "<level>", "configuration": "<object>", "url?": "<url>", "telephony?": "<telephony>"}
  telephony: {"enabled": "<bool>", "phone_number": "<text or null>", "pin_code": "<text or null>", "default_country": "<text>"}
lines:
`

func compact(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	require.NoError(t, enc.Encode(v))
	return strings.TrimSpace(b.String())
}

func write(t *testing.T, b *strings.Builder, c chosen, lines map[string]recordedLine) {
	t.Helper()
	l := lines[c.line]
	fill := filler(c)
	path := fill(strings.TrimPrefix(l.Request.Path, basePath))
	switch {
	case path == "/__lbheartbeat__", strings.HasPrefix(path, "/external-api/"):
		path = "{root}" + path
	}
	fmt.Fprintf(b, "- line: %s\n  about: %s\n  situation: %s\n  asks: %s\n", c.line, c.about, compact(t, situation(c, l)), compact(t, l.Request.Method+" "+path))
	headers := map[string]string{}
	for name, value := range l.Request.Headers {
		if name == "Host" || name == "X-Forwarded-Proto" {
			continue
		}
		headers[name] = fill(value.(string))
	}
	if len(headers) > 0 {
		fmt.Fprintf(b, "  headers: %s\n", compact(t, headers))
	}
	if l.Request.Body != nil {
		fmt.Fprintf(b, "  body: '%s'\n", strings.ReplaceAll(fill(*l.Request.Body), "'", "''"))
	}
	if c.write {
		b.WriteString("  write: true\n")
	}
	if c.moreThan > 0 {
		fmt.Fprintf(b, "  more_than: %d\n", c.moreThan)
	}
	if page := pageOf(l); page != "" {
		fmt.Fprintf(b, "  page: %s\n", page)
	}
	if len(c.takes) > 0 {
		fmt.Fprintf(b, "  takes: %s\n", compact(t, c.takes))
	}
	if c.isNew {
		b.WriteString("  new: true\n")
	}
	if c.either != "" {
		fmt.Fprintf(b, "  either: %s\n", compact(t, c.either))
	}
	writeAtGateway(t, b, c.atGateway)
	b.WriteString("  answers:\n")
	for _, id := range append([]string{c.line}, c.or...) {
		require.Contains(t, lines, id)
		writeAnswer(t, b, c, l, lines[id])
	}
}

func writeAtGateway(t *testing.T, b *strings.Builder, a *atGateway) {
	t.Helper()
	if a == nil {
		return
	}
	fields := map[string]any{}
	if a.Row != "" {
		fields["row"] = a.Row
	}
	if a.Status != 0 {
		fields["status"] = a.Status
	}
	if a.Size != 0 {
		fields["size"] = a.Size
	}
	if a.Rooms != nil {
		fields["rooms"] = *a.Rooms
	}
	if a.Skip {
		fields["skip"] = true
	}
	fmt.Fprintf(b, "  at_gateway: %s\n", compact(t, fields))
}

// situation returns the recorded situation, without the numbers of the fixtures.
func situation(c chosen, l recordedLine) string {
	switch c.line {
	case "list-page-1":
		return "First page."
	case "list-page-4":
		return "A page past the end."
	case "room-put", "room-delete", "room-grant-access":
		return strings.TrimSuffix(l.Situation, ".") + " (of a room that does not exist)."
	}
	return l.Situation
}

func pageOf(l recordedLine) string {
	object, ok := l.Response.Body.(map[string]any)
	if !ok || object["results"] == nil {
		return ""
	}
	if m := regexp.MustCompile(`[?&]page=(\w+)`).FindStringSubmatch(l.Request.Path); m != nil {
		return m[1]
	}
	return "1"
}

// filler returns a function that replaces fixtures with variables.
func filler(c chosen) func(string) string {
	room := c.room
	if room == "" {
		room = "{room}"
	}
	token := c.token
	if token == "" {
		token = "{token}"
	}
	fixtures := regexp.MustCompile(`(?i)5eed0000-0000-4000-8000-[0-9a-f]{12}`)
	mails := strings.NewReplacer(
		"alice@example.com", "{mail}", "ALICE@EXAMPLE.COM", "{MAIL}", "Alice@Example.COM", "{MAIL}", "inactive@example.com", "{disabled_mail}",
		"dup@example.com", "{shared_mail}", "nobody@example.com", "{unknown_mail}",
		"test-secret-full-0001", "{client_secret}", "test-secret-domain-0007", "{client_secret}", "app-full", "{client_id}", "app-domain", "{client_id}",
		"alice-room-07", "{slug}",
	)
	return func(s string) string {
		s = regexp.MustCompile(`<token:[^/>]+/[^>]*>`).ReplaceAllString(s, token)
		s = strings.ReplaceAll(s, "<token:garbage>", "garbage")
		if room != "-" {
			s = fixtures.ReplaceAllString(s, room)
		}
		s = strings.ReplaceAll(s, "<uuid>", room)
		if c.line == "token-domain-refused" {
			s = regexp.MustCompile(`[\w.]+@[\w.]+`).ReplaceAllString(s, "{refused_mail}")
		}
		s = mails.Replace(s)
		if c.replace[0] != "" {
			s = strings.ReplaceAll(s, c.replace[0], c.replace[1])
		}
		return s
	}
}

func writeAnswer(t *testing.T, b *strings.Builder, c chosen, l, recorded recordedLine) {
	t.Helper()
	r := recorded.Response
	fmt.Fprintf(b, "  - recorded: %s\n    status: %d\n", recorded.ID, r.Status)
	headers := map[string]string{}
	for _, name := range []string{"Content-Type", "WWW-Authenticate", "Allow", "Location"} {
		value := r.Headers[name]
		if name == "Allow" && r.Status != http.StatusMethodNotAllowed || value == "" {
			continue
		}
		switch {
		case name == "Content-Type":
			value = mediaType(value)
		case name == "Location" && strings.HasPrefix(value, "https://meet.example.org/"):
			value = "<url>"
		}
		headers[name] = value
	}
	fmt.Fprintf(b, "    headers: %s\n", compact(t, headers))
	if _, isText := r.Body.(string); !isText {
		fmt.Fprintf(b, "    json: %s\n", compact(t, shapeOf(r.Body, l)))
	}
	raw, isText := r.Body.(string)
	body := []byte(raw)
	if !isText {
		body = []byte(strings.NewReplacer(`"<jwt>"`, `"a.e30.c"`).Replace(compact(t, r.Body)))
	}
	a := &answer{status: r.Status, header: http.Header{}, body: body}
	for name, value := range r.Headers {
		a.header.Set(name, value)
	}
	path := strings.ReplaceAll(strings.TrimPrefix(l.Request.Path, basePath), "<uuid>", noRoom)
	if path == "/__lbheartbeat__" {
		path = heartbeat
	}
	fmt.Fprintf(b, "    gateway: %s\n", compact(t, made(l.Request.Method, path, "", a, emptyAnswer(t)).String()))
}

// emptyAnswer returns Meet's answer to a token request without fields.
func emptyAnswer(t *testing.T) *answer {
	t.Helper()
	return &answer{status: 400, header: http.Header{"Content-Type": {jsonType}}, body: []byte(`{"client_id":["x"],"grant_type":["x"]}`)}
}

// shapeOf replaces values that differ between installations of Meet with forms.
func shapeOf(v any, l recordedLine) any {
	object, ok := v.(map[string]any)
	if !ok {
		return v
	}
	switch {
	case object["results"] != nil:
		return "<list>"
	case object["access_token"] != nil:
		return map[string]any{"access_token": "<jwt>", "token_type": object["token_type"], "expires_in": "<number>", "scope?": "<text>"}
	case object["slug"] != nil && l.Request.Method == http.MethodPost:
		level := any("<level>") // Meet's default is a setting
		if l.Request.Body != nil && strings.Contains(*l.Request.Body, "access_level") {
			level = object["access_level"]
		}
		return map[string]any{
			"id": "<uuid>", "name": "<text>", "slug": "<text>", "access_level": level, "configuration": object["configuration"],
			"url?": "<url>", "telephony?": "<telephony>",
		}
	case object["slug"] != nil:
		return "<room>"
	}
	shape := maps.Clone(object)
	if text, ok := shape["detail"].(string); ok && strings.HasPrefix(text, "JSON parse error - ") {
		shape["detail"] = "<parse error>"
	}
	for name, list := range shape {
		if list, ok := list.([]any); ok {
			shape[name] = slices.Clone(list)
			for i, e := range list {
				if e, ok := e.(map[string]any); ok && e["url"] != nil { // names the version of a library
					e = maps.Clone(e)
					e["url"] = "<url>"
					shape[name].([]any)[i] = e
				}
			}
		}
	}
	return shape
}
