// SPDX-License-Identifier: MIT

package conformance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
)

// Options are the options of [Run].
type Options struct {
	// Backend has the scheme and host of a Meet or of a gateway.
	Backend *url.URL
	// BasePath is the base path of the API there, without a trailing slash.
	BasePath string
	// Host is the Host header. Default: the host of Backend.
	Host string
	// ForwardedProto is the X-Forwarded-Proto header. Default: none.
	ForwardedProto string

	// ClientID and ClientSecret belong to an application that has all scopes.
	ClientID, ClientSecret string
	// Mail is the address of a user that the application may act for. The others are
	// optional: a second user without access to Room, a domain that the application
	// may not act for, a disabled user, an address that two users share, and an unknown
	// address (sent only with Write, because Meet may create the user).
	Mail, SecondMail, RefusedMail, DisabledMail, SharedMail, UnknownMail string
	// Room is the id of a room of Mail. Default: the first one of the list.
	Room string

	// Write allows requests that create rooms and users.
	Write bool
	// Gateway says that Backend is a gateway. The expected answers then include the
	// differences that docs/compatibility.md lists.
	Gateway bool
	// RequestTimeout bounds one request. Default: 20 s.
	RequestTimeout time.Duration
	// Transport carries the requests. The default uses no proxy.
	Transport http.RoundTripper
}

// The errors of [Run].
var (
	// ErrUnreachable reports that there is no answer.
	ErrUnreachable = errors.New("no answer")
	// ErrFixtures reports that the application or a user in the Options is not as described.
	ErrFixtures = errors.New("the fixtures are not right")
)

const (
	meetPageSize = 20
	maxAnswer    = 1 << 20
	// gaveUp is the number of successive requests without an answer that ends the run.
	gaveUp = 3
)

// runner is one run.
type runner struct {
	Options
	table  *table
	client *http.Client
	vars   map[string]string
	none   map[string]string // why there is no such token
	empty  *answer           // Meet's answer to a token request without fields
	silent int               // successive requests without an answer
	cause  error
	report *Report
}

// Run replays the contract and reports the differences. It fails with [ErrUnreachable] or
// [ErrFixtures]; the report is then incomplete.
func Run(ctx context.Context, o Options) (*Report, error) {
	t, err := contract()
	if err != nil {
		return nil, err
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{Proxy: nil, DisableCompression: true, MaxResponseHeaderBytes: 1 << 16}
	}
	o.Host = cmp.Or(o.Host, o.Backend.Host)
	r := &runner{
		Options: o, table: t, none: map[string]string{},
		client: &http.Client{
			Transport: o.Transport, Timeout: cmp.Or(o.RequestTimeout, 20*time.Second),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		report: &Report{Backend: o.Backend.Scheme + "://" + o.Backend.Host + o.BasePath, Gateway: o.Gateway, Write: o.Write},
	}
	defer r.client.CloseIdleConnections()
	r.vars = map[string]string{
		"client_id": o.ClientID, "client_secret": o.ClientSecret, "mail": o.Mail, "MAIL": strings.ToUpper(o.Mail),
		"second_mail": o.SecondMail, "refused_mail": o.RefusedMail, "disabled_mail": o.DisabledMail, "shared_mail": o.SharedMail, "unknown_mail": o.UnknownMail,
		"room": o.Room, "ROOM": strings.ToUpper(o.Room),
	}
	for i := range t.Lines {
		if err := r.line(ctx, &t.Lines[i]); err != nil {
			return r.report, err
		}
	}
	r.report.sort()
	return r.report, nil
}

// line sends the request of one line and reports how the answer differs.
func (r *runner) line(ctx context.Context, l *line) error {
	if reason := r.leftOut(l); reason != "" {
		r.report.leaveOut(l, reason)
		return nil
	}
	request, reason, err := r.request(ctx, l)
	if err != nil || reason != "" {
		r.report.leaveOut(l, reason)
		return err
	}
	began := time.Now()
	got, err := r.ask(ctx, request)
	took := time.Since(began)
	if err != nil {
		return err
	}
	if l.Line == "token-object-empty" {
		r.empty = got
	}
	result := r.judge(l, got, request)
	result.took = took
	r.report.add(result)
	if got == nil {
		return nil
	}
	if l.Line == "token-json-ok" && len(result.Differences) > 0 {
		if err := r.fixtures(got); err != nil {
			return err
		}
	}
	r.take(l, got)
	return nil
}

// leftOut returns why a line is skipped, or "".
func (r *runner) leftOut(l *line) string {
	switch {
	case l.Write && !r.Write:
		return "it may make a room or a user: --write"
	case r.Gateway && l.AtGateway != nil && l.AtGateway.Skip:
		return "a gateway has no such path"
	case l.MoreThan > 0:
		if count, err := strconv.Atoi(r.vars["count"]); err != nil || count <= l.MoreThan {
			return "the user of --mail has no more than " + english.Plural(l.MoreThan, "room", "")
		}
	}
	return ""
}

// flagOf is the flag that sets a variable.
var flagOf = map[string]string{
	"mail": "--mail", "second_mail": "--second-mail", "refused_mail": "--refused-mail", "disabled_mail": "--disabled-mail",
	"shared_mail": "--shared-mail", "unknown_mail": "--unknown-mail", "second_token": "--second-mail", "disabled_token": "--disabled-mail",
}

var variable = regexp.MustCompile(`\{[A-Za-z_]+\}`)

// expand fills in the variables of a text. missing explains a variable without a value.
func (r *runner) expand(ctx context.Context, text string, write func(string) string) (filled, missing string, err error) {
	filled = variable.ReplaceAllStringFunc(text, func(name string) string {
		name = strings.Trim(name, "{}")
		if err != nil || missing != "" {
			return ""
		}
		value := r.vars[name]
		if value == "" && (name == "second_token" || name == "disabled_token") {
			value, err = r.token(ctx, strings.TrimSuffix(name, "_token")+"_mail", name)
		}
		if name == "tampered_token" {
			value = tampered(r.vars["token"])
		}
		if value == "" {
			missing = cmp.Or(r.none[name], "needs "+cmp.Or(flagOf[name], "what an earlier line gives: "+name))
		}
		return write(value)
	})
	return filled, missing, err
}

// tampered returns the token with another signature.
func tampered(token string) string {
	at := strings.LastIndexByte(token, '.') + 1
	if at == 0 || at == len(token) {
		return ""
	}
	other := "A"
	if token[at] == 'A' {
		other = "B"
	}
	return token[:at] + other + token[at+1:]
}

func asIs(s string) string { return s }

// asJSON escapes a value for a JSON string.
func asJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(b[1 : len(b)-1])
}

// request builds the request of a line, or returns why there is none.
func (r *runner) request(ctx context.Context, l *line) (*http.Request, string, error) {
	path, root := strings.CutPrefix(l.path(), "{root}")
	if !root {
		path = r.BasePath + path
	}
	path, missing, err := r.expand(ctx, path, url.PathEscape)
	if err != nil || missing != "" {
		return nil, missing, err
	}
	headers := map[string]string{}
	for name, value := range l.Headers {
		if headers[name], missing, err = r.expand(ctx, value, asIs); err != nil || missing != "" {
			return nil, missing, err
		}
	}
	var body []byte
	if l.Body != nil {
		text, missing, err := r.expand(ctx, *l.Body, asJSON)
		if err != nil || missing != "" {
			return nil, missing, err
		}
		body = []byte(text)
	}
	return r.build(ctx, l.method(), path, headers, body)
}

func (r *runner) build(ctx context.Context, method, path string, headers map[string]string, body []byte) (*http.Request, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.Backend.Scheme+"://"+r.Backend.Host+path, bytes.NewReader(body))
	if err != nil {
		return nil, "", fmt.Errorf("making a request: %w", err)
	}
	request.Host = r.Host
	request.Header.Set("Accept", jsonType)
	request.Header.Set("User-Agent", "meet-gateway")
	if r.ForwardedProto != "" {
		request.Header.Set("X-Forwarded-Proto", r.ForwardedProto)
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	return request, "", nil
}

// token requests the token of a further user.
func (r *runner) token(ctx context.Context, mail, name string) (string, error) {
	if r.vars[mail] == "" || r.none[name] != "" {
		return "", nil
	}
	r.none[name] = "no token was given for " + flagOf[mail]
	body := fmt.Sprintf(`{"client_id":"%s","client_secret":"%s","grant_type":"client_credentials","scope":"%s"}`,
		asJSON(r.ClientID), asJSON(r.ClientSecret), asJSON(r.vars[mail]))
	request, _, err := r.build(ctx, http.MethodPost, r.BasePath+tokenPath, map[string]string{"Content-Type": jsonType}, []byte(body))
	if err != nil {
		return "", err
	}
	got, err := r.ask(ctx, request)
	if err != nil || got == nil {
		return "", err
	}
	r.vars[name] = member(got.body, "access_token")
	return r.vars[name], nil
}

// ask sends a request. The answer is nil if there is none; the error tells the run to end.
func (r *runner) ask(ctx context.Context, request *http.Request) (*answer, error) {
	got, err := r.read(request)
	if err == nil {
		r.silent = 0
		return got, nil
	}
	r.silent++
	r.cause = err
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: the time that all lines have is over", ErrUnreachable)
	}
	if r.silent == gaveUp || !r.report.answered() {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, cause(err))
	}
	return nil, nil
}

// cause strips the requested address from an error.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

func (r *runner) read(request *http.Request) (*answer, error) {
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err //nolint:wrapcheck // cause unwraps it
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	return &answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

// fixtures returns an error if Meet refuses the application or the user of the Options.
func (r *runner) fixtures(got *answer) error {
	o := made(http.MethodPost, tokenPath, "", got, r.empty)
	switch o.reason {
	case "backend_credentials", "application_inactive", "user_not_found", "invalid_mail", "domain_refused", "duplicate_user":
	default:
		if !r.Gateway || got.status < http.StatusBadRequest || got.status >= http.StatusInternalServerError {
			return nil
		}
	}
	return fmt.Errorf("%w: no token is given to --client-id for --mail: %d %s", ErrFixtures, got.status, r.redact(textOf(got.body)))
}

// take keeps the values that later lines need.
func (r *runner) take(l *line, got *answer) {
	for name, key := range l.Takes {
		value := member(got.body, key)
		if value == "" || name == "room" && r.vars[name] != "" {
			continue
		}
		r.vars[name] = value
		if name == "room" {
			r.vars["ROOM"] = strings.ToUpper(value)
		}
	}
	if count, err := strconv.Atoi(r.vars["count"]); err == nil {
		r.vars["past_end"] = strconv.Itoa(count/meetPageSize + 2)
	}
	if l.method() == http.MethodPost && l.path() == "/rooms/" && got.status == http.StatusCreated {
		if id := member(got.body, "id"); uuidForm.MatchString(id) {
			r.report.Made = append(r.report.Made, id)
		}
	}
}

// member reads a value by a path such as "results.0.id".
func member(body []byte, path string) string {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return ""
	}
	for key := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(at) {
				return ""
			}
			v = at[i]
		default:
			return ""
		}
	}
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

// textOf returns the text of an error.
func textOf(body []byte) string {
	return cmp.Or(member(body, "detail"), member(body, "error"))
}

// judge compares an answer with all recorded answers of a line, and reports the
// differences from the nearest one.
func (r *runner) judge(l *line, got *answer, request *http.Request) Result {
	result := Result{Line: l.Line, About: l.About, Situation: l.Situation, Asked: l.Asks}
	if got == nil {
		result.Group, result.Differences = groupFails, []Difference{{At: "answer", Expected: "one", Got: r.redact(cause(r.cause).Error()), kind: kindStatus}}
		return result
	}
	room := ""
	if strings.HasPrefix(l.path(), "/rooms/{") {
		room = strings.Trim(strings.TrimPrefix(request.URL.Path, r.BasePath+"/rooms/"), "/")
	}
	var nearest *comparison
	var want *expected
	for i := range l.Answers {
		c := r.compare(l, &l.Answers[i], got)
		if id := member(got.body, "id"); l.Answers[i].JSON == "<room>" && uuidForm.MatchString(id) && !strings.EqualFold(id, room) {
			c.add(kindValue, "id", "that of the room that was asked for", "another")
		}
		if len(c.found) == 0 {
			return result
		}
		if nearest == nil || c.distance() < nearest.distance() {
			nearest, want = c, &l.Answers[i]
		}
	}
	result.Differences = nearest.found
	for i := range result.Differences {
		d := &result.Differences[i]
		d.At, d.Got = r.redact(d.At), r.redact(d.Got)
	}
	if r.Gateway {
		result.Group = groupGateway
		return result
	}
	path := l.path()
	if rest, root := strings.CutPrefix(path, "{root}"); root && path != heartbeat {
		path = rest
	} else if !root {
		path = strings.TrimPrefix(request.URL.RequestURI(), r.BasePath)
	}
	before, now := parseOutcome(want.Gateway), made(l.method(), path, room, got, r.empty)
	result.Before, result.Now, result.Hint = before.String(), now.String(), now.hint
	result.Group = groupOf(l, want, before, now, nearest.found)
	return result
}

func (c *comparison) distance() int {
	distance := 0
	for _, d := range c.found {
		distance += 1 + 10*int(d.kind)
	}
	return distance
}

func (r *runner) compare(l *line, want *expected, got *answer) *comparison {
	c := &comparison{shapes: r.table.Shapes, host: r.Host, page: l.Page, size: meetPageSize, gateway: r.Gateway, status: want.Status}
	status, body := want.Status, want.JSON
	own := 0 // the gateway's own status for an error
	if r.Gateway && l.AtGateway != nil {
		if want.Status >= http.StatusMultipleChoices {
			own = l.AtGateway.Status
		}
		status, c.size, c.rooms = cmp.Or(own, status), cmp.Or(l.AtGateway.Size, c.size), l.AtGateway.Rooms
	}
	if r.Gateway && l.method() != http.MethodHead && (status >= http.StatusBadRequest || own != 0) {
		body = nil // compared below
	}
	if got.status != status {
		c.add(kindStatus, "status", strconv.Itoa(status), strconv.Itoa(got.status))
		return c
	}
	if r.Gateway && status >= http.StatusBadRequest {
		c.gatewayError(l.method(), got)
		return c
	}
	if own != 0 {
		return c
	}
	headers := want.Headers
	if _, names := headers["Location"]; names && member(got.body, "url") == "" { // recorded from a Meet that knows its public address
		headers = maps.Clone(headers)
		delete(headers, "Location")
	}
	c.headers(headers, got.header)
	if body == nil || l.method() == http.MethodHead {
		return c
	}
	var read any
	if json.Unmarshal(got.body, &read) != nil {
		c.add(kindNotJSON, "body", "JSON", "something else")
		return c
	}
	c.body(body, read, "")
	return c
}

// gatewayError checks the format of a gateway's error.
func (c *comparison) gatewayError(method string, got *answer) {
	c.headers(map[string]string{"Content-Type": jsonType}, got.header)
	if method == http.MethodHead {
		return
	}
	for _, key := range []string{"detail", "error"} {
		if member(got.body, key) == "" {
			c.add(kindShape, key, "a text", "nothing")
		}
	}
}

var mailForm = regexp.MustCompile(`[^\s"'<>]+(?:@|%40)[^\s"'<>]+`)

// redact removes credentials and addresses from a text, and shortens it.
func (r *runner) redact(text string) string {
	for _, name := range []string{"client_secret", "token", "second_token", "disabled_token", "mail", "MAIL", "second_mail", "refused_mail", "disabled_mail", "shared_mail", "unknown_mail", "client_id"} {
		if value := r.vars[name]; len(value) > 3 {
			text = strings.ReplaceAll(text, value, "{"+name+"}")
		}
	}
	text = mailForm.ReplaceAllString(text, "{mail}")
	text = regexp.MustCompile(`eyJ[\w-]+\.[\w.-]+`).ReplaceAllString(text, "{token}")
	const longest = 160
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// sort puts the gravest group first, and keeps the order of the table within a group.
func (r *Report) sort() {
	slices.SortStableFunc(r.Differ, func(a, b Result) int { return groupIndex(a.Group) - groupIndex(b.Group) })
}
