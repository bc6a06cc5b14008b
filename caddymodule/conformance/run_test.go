// SPDX-License-Identifier: MIT

package conformance_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/caddymodule/conformance"
)

const secret = "test-secret-full-0001"

// meet serves a sandbox with the fixtures of the recording. The function change may edit its
// answers.
func meet(t *testing.T, s sandbox.Settings, change func(*http.Request, *httptest.ResponseRecorder)) (conformance.Options, *requests) {
	t.Helper()
	m := sandbox.New(s)
	m.LoadFixtures()
	seen := &requests{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen.add(r.Method + " " + r.URL.RequestURI())
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		m.ServeHTTP(answer, r)
		if change != nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
			change(r, answer)
		}
		maps.Copy(w.Header(), answer.Header())
		w.Header().Del("Content-Length")
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(server.Close)
	backend, err := url.Parse(server.URL)
	require.NoError(t, err)
	return conformance.Options{
		Backend: backend, BasePath: "/external-api/v1.0", Host: "meet.example.org", ForwardedProto: "https",
		ClientID: "app-full", ClientSecret: secret, Mail: "alice@example.com", SecondMail: "bob@example.com",
		DisabledMail: "inactive@example.com", SharedMail: "dup@example.com", Room: "5eed0000-0000-4000-8000-000000000001",
	}, seen
}

type requests struct {
	mu   sync.Mutex
	list []string
}

func (r *requests) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, s)
}

func (r *requests) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.list...)
}

func run(t *testing.T, o conformance.Options) *conformance.Report {
	t.Helper()
	report, err := conformance.Run(t.Context(), o)
	require.NoError(t, err)
	return report
}

// A sandbox answers as recorded, whatever its settings.
func TestRun_AsRecorded(t *testing.T) {
	production := sandbox.Production
	for name, tc := range map[string]struct {
		settings func() sandbox.Settings
		write    bool
		options  func(*conformance.Options)
		left     int
	}{
		"production":         {production, false, nil, 16},
		"production, writes": {production, true, func(o *conformance.Options) { o.UnknownMail = "nobody@example.com" }, 1},
		"only one fixture": {production, false, func(o *conformance.Options) {
			o.SecondMail, o.DisabledMail, o.SharedMail, o.Room = "", "", "", ""
		}, 20},
		"few rooms, domains": {production, false, func(o *conformance.Options) {
			o.ClientID, o.ClientSecret, o.Mail, o.RefusedMail = "app-domain", "test-secret-domain-0007", "dora@allowed.example", "alice@example.com"
			o.SecondMail, o.DisabledMail, o.SharedMail, o.Room = "", "", "", ""
		}, 25},
		"quick start": {sandbox.Quickstart, true, func(o *conformance.Options) { o.UnknownMail = "nobody@example.com" }, 1},
		"bare": {func() sandbox.Settings {
			s := production()
			s.Telephony.Enabled, s.BaseURL, s.JWTAudience = false, "", nil
			return s
		}, true, nil, 2},
		"identity provider": {func() sandbox.Settings {
			s := production()
			s.ResourceServer.Mode = sandbox.ResourceServerInactive
			return s
		}, false, nil, 16},
		"public": {func() sandbox.Settings {
			s := production()
			s.DefaultAccessLevel = "public"
			return s
		}, true, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			o, seen := meet(t, tc.settings(), nil)
			o.Write = tc.write
			if tc.options != nil {
				tc.options(&o)
			}
			report := run(t, o)
			require.Empty(t, report.Differ)
			require.Greater(t, report.Same, 30)
			require.Len(t, report.Left, tc.left, "%v", report.Left)
			require.Equal(t, tc.write, len(report.Made) > 0)
			for _, request := range seen.all() {
				if !tc.write {
					require.NotContains(t, request, "POST /external-api/v1.0/rooms/ ", "no room is created")
				}
			}
		})
	}
}

// Without --write, no request can create or change anything, in this Meet or in a later
// version.
func TestRun_ChangesNothing(t *testing.T) {
	o, seen := meet(t, sandbox.Production(), nil)
	o.UnknownMail = "nobody@example.com"
	run(t, o)
	const unknownRoom = "00000000-0000-4000-8000-000000000404"
	for _, request := range seen.all() {
		method, target, _ := strings.Cut(request, " ")
		switch method {
		case "GET", "HEAD", "OPTIONS":
		default:
			require.True(t, strings.HasSuffix(target, "/application/token/") || strings.Contains(target, unknownRoom), request)
		}
	}
	require.Less(t, len(seen.all()), 60)
}

type edit = func(*http.Request, *httptest.ResponseRecorder)

// when applies an edit if the request matches.
func when(method, target string, do func(*httptest.ResponseRecorder)) edit {
	form := regexp.MustCompile("^" + target + "$")
	return func(r *http.Request, w *httptest.ResponseRecorder) {
		if (method == "" || r.Method == method) && form.MatchString(strings.TrimPrefix(r.URL.RequestURI(), "/external-api/v1.0")) {
			do(w)
		}
	}
}

// withBody applies an edit if the request's body contains the text.
func withBody(text string, do edit) edit {
	return func(r *http.Request, w *httptest.ResponseRecorder) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), text) {
			do(r, w)
		}
	}
}

func replace(old, replacement string) func(*httptest.ResponseRecorder) {
	return func(w *httptest.ResponseRecorder) {
		text := strings.ReplaceAll(w.Body.String(), old, replacement)
		w.Body = bytes.NewBufferString(text)
	}
}

func answerWith(status int, contentType, body string) func(*httptest.ResponseRecorder) {
	return func(w *httptest.ResponseRecorder) {
		w.Code, w.Body = status, bytes.NewBufferString(body)
		w.Header().Set("Content-Type", contentType)
	}
}

const (
	list  = `/rooms/(\?.*)?`
	room  = `(?i)/rooms/5eed0000[^/]*/`
	token = `/application/token/`
	js    = "application/json"
	html  = "text/html; charset=utf-8"
)

// Each difference is reported in the group of its consequence for the gateway.
func TestRun_GroupsDifferences(t *testing.T) {
	for name, tc := range map[string]struct {
		edit  edit
		write bool
		want  map[string]string // group by line; all lines that differ
		some  bool              // others may differ too
	}{
		"a list without its count":                  {when("GET", list, replace(`"count":`, `"total":`)), false, map[string]string{"list-page-1": "fails", "list-page-last": "fails"}, true},
		"a list in HTML":                            {when("GET", list, func(w *httptest.ResponseRecorder) { w.Header().Set("Content-Type", html) }), false, map[string]string{"list-page-1": "fails"}, true},
		"the token has another key":                 {when("POST", token, replace(`"access_token"`, `"accessToken"`)), false, map[string]string{"token-json-ok": "fails"}, true},
		"the token endpoint requires another field": {withBody("app-full", when("POST", token, answerWith(400, js, `{"audience":["This field is required."]}`))), false, map[string]string{"token-json-ok": "fails"}, true},
		"another room is returned":                  {when("GET", room, replace(`5eed0000`, `5eed0001`)), false, map[string]string{"retrieve-own": "fails"}, true},
		"rooms are a server error":                  {when("GET", room, answerWith(500, html, "<h1>")), false, map[string]string{"retrieve-own": "fails", "retrieve-upper-case": "fails", "retrieve-other": "fails"}, false},
		"rooms are redirected": {when("GET", room, func(w *httptest.ResponseRecorder) {
			answerWith(302, html, "")(w)
			w.Header().Set("Location", "https://login.example.org/")
		}), false, map[string]string{"retrieve-own": "fails"}, true},
		"the heartbeat is not found": {when("GET", "/__lbheartbeat__", answerWith(404, html, "")), false, map[string]string{"lbheartbeat": "fails"}, false},

		"any secret is accepted": {withBody(`"wrong"`, when("POST", token, answerWith(200, js, `{"access_token":"a.b.c","token_type":"Bearer","expires_in":60}`))), false, map[string]string{"token-bad-secret": "opens"}, false},
		"a token is not needed": {func(r *http.Request, w *httptest.ResponseRecorder) {
			if r.URL.RequestURI() == "/external-api/v1.0/rooms/" && r.Header.Get("Authorization") == "" {
				answerWith(200, js, `{"count":0,"next":null,"previous":null,"results":[]}`)(w)
			}
		}, false, map[string]string{"auth-none": "opens"}, false},
		"any signature is accepted": {func(_ *http.Request, w *httptest.ResponseRecorder) {
			if strings.Contains(w.Body.String(), "improperly configured") {
				answerWith(200, js, `{"count":0,"next":null,"previous":null,"results":[]}`)(w)
			}
		}, false, map[string]string{"auth-bad-signature": "opens", "auth-garbage": "opens"}, false},
		"another user's room is shown": {func(_ *http.Request, w *httptest.ResponseRecorder) {
			if w.Code == 403 && strings.Contains(w.Body.String(), "permission to perform") {
				answerWith(200, js, `{"id":"5eed0000-0000-4000-8000-000000000001","name":"x","slug":"x","access_level":"trusted","configuration":{}}`)(w)
			}
		}, false, map[string]string{"retrieve-other": "opens"}, false},

		"another user's room is not found": {func(_ *http.Request, w *httptest.ResponseRecorder) {
			if w.Code == 403 && strings.Contains(w.Body.String(), "permission to perform") {
				answerWith(404, js, `{"detail":"Not found."}`)(w)
			}
		}, false, map[string]string{"retrieve-other": "otherwise"}, false},
		"a disabled user is refused with another text": {when("", list, replace("User account is disabled.", "This account is off.")), false, map[string]string{"auth-issued-inactive-user": "fails"}, false},
		"an invalid mail is refused in another form":   {when("POST", token, replace(`"error":"Scope`, `"message":"Scope`)), false, map[string]string{"token-scope-not-a-mail": "fails"}, false},
		"a shared mail is refused in JSON":             {withBody("dup@", when("POST", token, answerWith(409, js, `{"error":"Several."}`))), false, map[string]string{"token-duplicate-mail": "causes"}, false},
		"a bad page is refused with another text":      {when("GET", list, replace(`Invalid page.`, `x`)), false, map[string]string{"list-page-0": "words"}, true},

		"pages of 25": {when("GET", `/rooms/(\?page=1)?`, func(w *httptest.ResponseRecorder) {
			if w.Code == 200 {
				dropRooms(w, 3)
			}
		}), false, map[string]string{"list-page-1": "paging", "list-page-1-explicit": "paging"}, false},
		"links are null":                 {when("GET", `/rooms/\?page=2`, replaceRegexp(`"next":"[^"]*"`, `"next":null`)), false, map[string]string{"list-page-2": "paging"}, false},
		"links go elsewhere":             {when("GET", `/rooms/\?page=2`, replace(`//meet.example.org/external`, `//backend:8000/external`)), false, map[string]string{"list-page-2": "paging"}, false},
		"the next link repeats the page": {when("GET", `/rooms/\?page=2`, replaceRegexp(`\?page=3`, `?page=2`)), false, map[string]string{"list-page-2": "paging"}, false},
		"the last page has no rooms":     {when("GET", `/rooms/\?page=last`, func(w *httptest.ResponseRecorder) { dropRooms(w, 0) }), false, map[string]string{"list-page-last": "paging"}, false},

		"a room without its slug":      {when("GET", room, replaceRegexp(`"slug":"[^"]*",?`, ``)), false, map[string]string{"retrieve-own": "fields", "retrieve-upper-case": "fields"}, true},
		"an unknown access level":      {when("GET", room, replace(`"trusted"`, `"secret"`)), false, map[string]string{"retrieve-own": "fields", "retrieve-upper-case": "fields"}, false},
		"a PIN is a number":            {when("GET", room, replaceRegexp(`"pin_code":"(\d*)"`, `"pin_code":$1`)), false, map[string]string{"retrieve-own": "fields", "retrieve-upper-case": "fields"}, false},
		"another level than requested": {withBody("restricted", when("POST", list, replace(`"restricted"`, `"trusted"`))), true, map[string]string{"create-access-restricted": "fields"}, false},
		"new rooms have no Location":   {when("POST", list, func(w *httptest.ResponseRecorder) { w.Header().Del("Location") }), true, map[string]string{"create-access-restricted": "fields", "create-access-trusted": "fields", "create-config-mute-true": "fields", "create-extra-fields": "fields", "create-no-body": "fields"}, false},
		"a level is not allowed":       {withBody("trusted", when("POST", list, answerWith(400, js, `{"access_level":["Not allowed."]}`))), true, map[string]string{"create-access-trusted": "otherwise"}, false},
		"unknown configuration is accepted": {
			withBody("unsupported", when("POST", list, answerWith(201, js, `{"id":"5eed0000-0000-4000-8000-000000000009","name":"x","slug":"x","access_level":"trusted","configuration":{}}`))),
			true,
			map[string]string{"create-config-unknown-key": "opens"},
			false,
		},

		"a garbage token is refused with another text": {when("GET", list, replace("Resource Server is improperly configured", "Invalid token header.")), false, map[string]string{"auth-garbage": "causes", "auth-bad-signature": "causes"}, false},
		"a wrong secret is a 403":                      {withBody(`"wrong"`, when("POST", token, answerWith(403, js, `{"detail":"No."}`))), false, map[string]string{"token-bad-secret": "causes"}, false},

		"rooms have an owner":     {when("", room, replace(`"slug":`, `"owner":"alice@example.com","slug":`)), false, map[string]string{"retrieve-own": "more", "retrieve-upper-case": "more"}, false},
		"rooms can be deleted":    {when("DELETE", "/rooms/.*", answerWith(404, js, `{"detail":"No Room matches the given query."}`)), false, map[string]string{"room-delete": "more"}, false},
		"rooms can be changed":    {when("PATCH", "/rooms/.*", answerWith(403, js, `{"detail":"Insufficient permissions. Required scope: rooms:update"}`)), false, map[string]string{"room-patch-unknown": "more"}, false},
		"a new method is allowed": {when("PUT", "/rooms/.*", func(w *httptest.ResponseRecorder) { w.Header().Set("Allow", "GET, PATCH, HEAD, OPTIONS") }), false, map[string]string{"room-put": "more"}, false},
		"access can be granted":   {when("POST", "/rooms/.*/grant-access/", answerWith(400, js, `{"email":["This field is required."]}`)), false, map[string]string{"room-grant-access": "more"}, false},

		"a slash is not needed": {when("GET", "/rooms", answerWith(200, js, `{}`)), false, map[string]string{"rooms-no-slash-get": "either"}, false},

		"another text":                              {when("GET", "/rooms/.*", replace("No Room matches the given query.", "Nope, victim@other.org.")), false, map[string]string{"retrieve-unknown": "words"}, false},
		"the token answer has another key":          {when("POST", token, replace(`"token_type"`, `"refresh":"x","token_type"`)), false, map[string]string{"token-json-ok": "words", "token-inactive-user-ok": "words"}, false},
		"another challenge":                         {when("GET", list, func(w *httptest.ResponseRecorder) { w.Header().Set("WWW-Authenticate", `Bearer realm="x"`) }), false, map[string]string{"auth-none": "words"}, true},
		"a link names another version of a library": {withBody("unsupported", when("POST", list, replace("/2.13/", "/2.99/"))), true, map[string]string{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := meet(t, sandbox.Production(), tc.edit)
			o.Write = tc.write
			report := run(t, o)
			got := map[string]string{}
			for _, d := range report.Differ {
				got[d.Line] = d.Group
			}
			if tc.some {
				for line, group := range tc.want {
					require.Equal(t, group, got[line], "%s: %+v", line, got)
				}
			} else {
				require.Equal(t, tc.want, got)
			}
			checkNoSecrets(t, report)
		})
	}
}

// checkNoSecrets checks that no form of a report contains a secret or a mail address.
func checkNoSecrets(t *testing.T, report *conformance.Report) {
	t.Helper()
	asJSON, err := json.Marshal(report)
	require.NoError(t, err)
	asXML, err := report.JUnit()
	require.NoError(t, err)
	for _, text := range []string{string(asJSON), string(asXML)} {
		require.NotContains(t, text, secret)
		require.NotRegexp(t, `[\w.]+@[\w.]+`, text)
		require.NotContains(t, text, "eyJ")
		require.NotContains(t, text, "10000000", "a PIN")
	}
}

func replaceRegexp(old, replacement string) func(*httptest.ResponseRecorder) {
	form := regexp.MustCompile(old)
	return func(w *httptest.ResponseRecorder) {
		w.Body = bytes.NewBufferString(form.ReplaceAllString(w.Body.String(), replacement))
	}
}

// dropRooms removes all rooms of a page but the first ones.
func dropRooms(w *httptest.ResponseRecorder, keep int) {
	var page map[string]any
	if json.Unmarshal(w.Body.Bytes(), &page) != nil {
		return
	}
	rooms, _ := page["results"].([]any)
	page["results"] = rooms[:min(keep, len(rooms))]
	b, _ := json.Marshal(page)
	w.Body = bytes.NewBuffer(b)
}

// A setting that the gateway supports either way is in the group "either".
func TestRun_SupportedDifferences(t *testing.T) {
	s := sandbox.Production()
	s.HonourPageSize, s.SlugFilter = true, true
	o, _ := meet(t, s, nil)
	report := run(t, o)
	require.Len(t, report.Differ, 1)
	for _, d := range report.Differ {
		require.Equal(t, "either", d.Group, d.Line)
	}
}

// For a misconfigured Meet, the report has the hint that the gateway would log.
func TestRun_Hints(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*conformance.Options)
		hint   string
	}{
		"host":  {func(o *conformance.Options) { o.Host = "elsewhere.example.org" }, "DJANGO_ALLOWED_HOSTS"},
		"proto": {func(o *conformance.Options) { o.ForwardedProto = "" }, "X-Forwarded-Proto"},
		"path":  {func(o *conformance.Options) { o.BasePath = "/elsewhere" }, "EXTERNAL_API_ENABLED"},
	} {
		o, _ := meet(t, sandbox.Production(), nil)
		tc.change(&o)
		report := run(t, o)
		require.Equal(t, "fails", report.Differ[0].Group, name)
		require.Contains(t, report.Differ[0].Hint, tc.hint)
	}
}

func TestRun_Fixtures(t *testing.T) {
	for name, change := range map[string]func(*conformance.Options){
		"secret": func(o *conformance.Options) { o.ClientSecret = "another-secret" },
		"mail":   func(o *conformance.Options) { o.Mail = "nobody@example.com" },
		"shared": func(o *conformance.Options) { o.Mail = "dup@example.com" },
	} {
		o, _ := meet(t, sandbox.Production(), nil)
		change(&o)
		_, err := conformance.Run(t.Context(), o)
		require.ErrorIs(t, err, conformance.ErrFixtures, name)
		require.NotContains(t, err.Error(), "@")
		require.NotContains(t, err.Error(), "another-secret")
	}
}

func TestRun_Unreachable(t *testing.T) {
	o, _ := meet(t, sandbox.Production(), nil)
	closed := httptest.NewServer(http.NotFoundHandler())
	o.Backend.Host = strings.TrimPrefix(closed.URL, "http://")
	closed.Close()
	_, err := conformance.Run(t.Context(), o)
	require.ErrorIs(t, err, conformance.ErrUnreachable)
}

// A Meet that becomes unreachable ends the run. A single failed request does not.
func TestRun_ConnectionFails(t *testing.T) {
	for name, tc := range map[string]struct {
		fails func(r *http.Request) bool
		ends  bool
	}{
		"one": {func(r *http.Request) bool { return r.URL.RawQuery == "page=0" }, false},
		"all": {func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/external-api/v1.0/rooms") }, true},
	} {
		o, _ := meet(t, sandbox.Production(), nil)
		o.Transport = failingTransport{tc.fails}
		report, err := conformance.Run(t.Context(), o)
		if tc.ends {
			require.ErrorIs(t, err, conformance.ErrUnreachable, name)
			continue
		}
		require.NoError(t, err)
		require.Len(t, report.Differ, 1)
		require.Equal(t, "fails", report.Differ[0].Group)
		require.Equal(t, "list-page-0", report.Differ[0].Line)
	}
}

type failingTransport struct{ fails func(*http.Request) bool }

func (b failingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.fails(r) {
		return nil, io.ErrUnexpectedEOF
	}
	return http.DefaultTransport.RoundTrip(r)
}

// The size of a body and the time of a request are limited.
func TestRun_Bounded(t *testing.T) {
	o, _ := meet(t, sandbox.Production(), when("GET", room, func(w *httptest.ResponseRecorder) {
		w.Body = bytes.NewBuffer(bytes.Repeat([]byte(" "), 2<<20))
	}))
	report := run(t, o)
	require.Contains(t, report.Differ[0].Differences[0].Got, "larger than "+strconv.Itoa(1<<20))

	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(hang)
	o.Backend, _ = url.Parse(server.URL)
	o.RequestTimeout = 50 * time.Millisecond
	_, err := conformance.Run(t.Context(), o)
	require.ErrorIs(t, err, conformance.ErrUnreachable)
}

// The JUnit report is valid XML and its totals are correct.
func TestReport_JUnit(t *testing.T) {
	o, _ := meet(t, sandbox.Production(), when("GET", "/rooms/.*", replace("No Room matches the given query.", `<&\"\u0001`)))
	report := run(t, o)
	b, err := report.JUnit()
	require.NoError(t, err)
	var read struct {
		XMLName  xml.Name `xml:"testsuites"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Suites   []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
			Skipped  int    `xml:"skipped,attr"`
			Cases    []struct {
				Name    string  `xml:"name,attr"`
				Class   string  `xml:"classname,attr"`
				Time    float64 `xml:"time,attr"`
				Failure *struct {
					Type    string `xml:"type,attr"`
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
				Skipped *struct {
					Message string `xml:"message,attr"`
				} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	d := xml.NewDecoder(bytes.NewReader(b))
	d.Strict = true
	require.NoError(t, d.Decode(&read))
	require.Equal(t, report.Same+len(report.Differ)+len(report.Left), read.Tests)
	require.Equal(t, 1, read.Failures)
	tests, failures := 0, 0
	for _, suite := range read.Suites {
		require.Len(t, suite.Cases, suite.Tests)
		tests += suite.Tests
		failures += suite.Failures
		skipped := 0
		for _, c := range suite.Cases {
			require.Equal(t, "meet."+suite.Name, c.Class)
			if c.Skipped != nil {
				require.NotEmpty(t, c.Skipped.Message)
				skipped++
			}
			if c.Failure != nil {
				require.Equal(t, "retrieve-unknown", c.Name)
				require.Equal(t, "words", c.Failure.Type)
				require.Contains(t, c.Failure.Text, "GET /rooms/")
			}
		}
		require.Equal(t, suite.Skipped, skipped)
	}
	require.Equal(t, read.Tests, tests)
	require.Equal(t, read.Failures, failures)
}
