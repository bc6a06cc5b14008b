// SPDX-License-Identifier: MIT

package backendclient_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

const (
	tokenPath = "/external-api/v1.0/application/token/"
	roomsPath = "/external-api/v1.0/rooms/"

	htmlPage = "<!doctype html>\n<html lang=\"en\"><body><h1>Bad Request (400)</h1></body></html>\n"
)

func provisioning(s *sandbox.Settings) {
	s.AllowUserCreation, s.MailFallback, s.SubImmutable = true, true, false
}

// asError returns the Error in err.
func asError(t *testing.T, err error) *backendclient.Error {
	t.Helper()
	var e *backendclient.Error
	require.ErrorAs(t, err, &e)
	return e
}

// Each answer of Meet to a well-formed exchange leads to the expected token or error.
func TestExchange_Answers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 300) + "@example.com"
	for name, row := range map[string]struct {
		settings func(*sandbox.Settings)
		caller   backendclient.Caller
		kind     error
		status   int
		detail   string
		hint     string // a part of the hint
		hashed   bool   // Meet checked the secret
	}{
		"success":          {caller: alice, hashed: true},
		"folded mail":      {caller: backendclient.Caller{Credentials: full, Mail: "ALICE@example.com"}, hashed: true},
		"inactive user":    {caller: backendclient.Caller{Credentials: full, Mail: "inactive@example.com"}, hashed: true},
		"provisional user": {caller: backendclient.Caller{Credentials: full, Mail: "provisional@example.com"}, hashed: true},
		"provisioned user": {settings: provisioning, caller: backendclient.Caller{Credentials: full, Mail: "new@example.com"}, hashed: true},
		"no audience":      {settings: func(s *sandbox.Settings) { s.JWTAudience = nil }, caller: alice, hashed: true},

		"unknown client": {
			caller: backendclient.Caller{Credentials: backendclient.Credentials{ClientID: "nobody", ClientSecret: "x"}, Mail: "alice@example.com"},
			kind:   backendclient.ErrBackendCredentials, status: 401, detail: "Invalid credentials", hint: "secret",
		},
		"bad secret": {
			caller: backendclient.Caller{Credentials: backendclient.Credentials{ClientID: "app-full", ClientSecret: "wrong"}, Mail: "alice@example.com"},
			kind:   backendclient.ErrBackendCredentials, status: 401, detail: "Invalid credentials", hint: "secret", hashed: true,
		},
		"blank client": {
			caller: backendclient.Caller{Credentials: backendclient.Credentials{ClientID: " ", ClientSecret: "x"}, Mail: "alice@example.com"},
			kind:   backendclient.ErrBackendCredentials, status: 400, detail: `{"client_id":["This field may not be blank."]}`, hint: "secret",
		},
		"NUL in secret": {
			caller: backendclient.Caller{Credentials: backendclient.Credentials{ClientID: "app-full", ClientSecret: "a\x00b"}, Mail: "alice@example.com"},
			kind:   backendclient.ErrBackendCredentials, status: 400, detail: `{"client_secret":["Null characters are not allowed."]}`, hint: "secret",
		},
		"inactive application": {
			caller: backendclient.Caller{Credentials: backendclient.Credentials{ClientID: "app-inactive", ClientSecret: "test-secret-inactive-0006"}, Mail: "alice@example.com"},
			kind:   backendclient.ErrApplicationInactive, status: 401, detail: "Application is inactive", hint: "switched off", hashed: true,
		},
		"inactive application, bad secret": {
			caller: backendclient.Caller{Credentials: backendclient.Credentials{ClientID: "app-inactive", ClientSecret: "wrong"}, Mail: "alice@example.com"},
			kind:   backendclient.ErrBackendCredentials, status: 401, detail: "Invalid credentials", hint: "secret", hashed: true,
		},
		"not a mail": {
			caller: backendclient.Caller{Credentials: full, Mail: "not a mail"},
			kind:   backendclient.ErrInvalidMail, status: 400, detail: "Scope should be a valid email address.", hashed: true,
		},
		"blank mail": {
			caller: backendclient.Caller{Credentials: full, Mail: " "},
			kind:   backendclient.ErrInvalidMail, status: 400, // no detail: Meet's text repeats the mail, a space
		},
		"domain refused": {
			caller: backendclient.Caller{
				Credentials: backendclient.Credentials{ClientID: "app-domain", ClientSecret: "test-secret-domain-0007"}, Mail: "alice@example.com",
			},
			kind: backendclient.ErrDomainRefused, status: 403, detail: "This application is not authorized for this email domain.", hashed: true,
		},
		"unknown user": {
			caller: backendclient.Caller{Credentials: full, Mail: "nobody@example.com"},
			kind:   backendclient.ErrUserNotFound, status: 404, detail: "User not found.", hashed: true,
		},
		"too long to provision": {
			settings: provisioning,
			caller:   backendclient.Caller{Credentials: full, Mail: long},
			kind:     backendclient.ErrProvisioningConflict, status: 409, detail: "Failed to create or retrieve provisional user.", hashed: true,
		},
		"duplicate mail": {
			caller: backendclient.Caller{Credentials: full, Mail: "dup@example.com"},
			kind:   backendclient.ErrDuplicateUser, status: 400, hint: "merge", hashed: true,
		},
		"duplicate mail, one inactive": {
			caller: backendclient.Caller{Credentials: full, Mail: "half@example.com"},
			kind:   backendclient.ErrDuplicateUser, status: 400, hint: "merge", hashed: true,
		},
		"wrong host": {
			settings: func(s *sandbox.Settings) { s.AllowedHosts = []string{"other.example.org"} },
			caller:   alice,
			kind:     backendclient.ErrMisconfigured, status: 400, hint: "DJANGO_ALLOWED_HOSTS",
		},
		"applications off": {
			settings: func(s *sandbox.Settings) { s.ApplicationEnabled = false },
			caller:   alice,
			kind:     backendclient.ErrAPIDisabled, status: 404, detail: "Not found.", hint: "APPLICATION_ENABLED",
		},
		"external API off": {
			settings: func(s *sandbox.Settings) { s.ExternalAPIEnabled = false },
			caller:   alice,
			kind:     backendclient.ErrAPIDisabled, status: 404, hint: "EXTERNAL_API_ENABLED",
		},
		"no signing key": {
			settings: func(s *sandbox.Settings) { s.JWTSecretKey = "" },
			caller:   alice,
			kind:     backendclient.ErrBadAnswer, status: 500, hint: "APPLICATION_JWT_SECRET_KEY", hashed: true,
		},
		"no credentials": {
			caller: backendclient.Caller{Mail: "alice@example.com"},
			kind:   backendclient.ErrBackendCredentials, hint: "no Meet credentials",
		},
		"no mail": {caller: backendclient.Caller{Credentials: full}, kind: backendclient.ErrInvalidMail},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := sandbox.Production()
			if row.settings != nil {
				row.settings(&settings)
			}
			meet := newMeet(settings)
			var outcome string
			c := newClient(t, meet, func(o *backendclient.Options) {
				o.OnExchange = func(s string, took time.Duration) { outcome = s }
			})

			token, err := c.Exchange(context.Background(), row.caller)
			require.Equal(t, row.hashed, meet.Exchanges() == 1)
			if row.kind == nil {
				require.NoError(t, err)
				require.NotEmpty(t, token.Value())
				require.Len(t, token.UserID(), 36)
				require.Equal(t, "ok", outcome)
				return
			}
			require.Nil(t, token)
			require.ErrorIs(t, err, row.kind)
			e := asError(t, err)
			require.Equal(t, row.status, e.Status)
			require.Equal(t, row.detail, e.Detail)
			require.Contains(t, e.Hint, row.hint)
			require.False(t, e.Effect)
			require.Contains(t, backendclient.Reasons(), backendclient.Reason(err))
			if row.status != 0 {
				require.Equal(t, backendclient.Reason(err), outcome)
			}
			// A blank mail address is part of every text.
			if s := strings.TrimSpace(row.caller.Mail); s != "" {
				require.NotContains(t, err.Error(), s)
			}
		})
	}
}

// respond returns a handler that gives the same answer to every request.
func respond(status int, contentType, body string, headers ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

// An answer of a proxy, a firewall or another server in Meet's place leads to the expected
// error and hint.
func TestExchange_ForeignAnswers(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json"
	for name, row := range map[string]struct {
		answer http.Handler
		kind   error
		hint   string
		retry  time.Duration
	}{
		"redirect to https":        {answer: respond(301, "text/html", "", "Location", "https://meet.example.org"+tokenPath), kind: backendclient.ErrMisconfigured, hint: "X-Forwarded-Proto"},
		"redirect to the slash":    {answer: respond(301, "text/html", "", "Location", tokenPath), kind: backendclient.ErrMisconfigured, hint: "trailing slash"},
		"redirect elsewhere":       {answer: respond(302, "text/html", "", "Location", "https://login.example.org/"), kind: backendclient.ErrMisconfigured, hint: "redirects"},
		"redirect to nowhere":      {answer: respond(308, "", ""), kind: backendclient.ErrMisconfigured, hint: "redirects"},
		"the frontend's page":      {answer: respond(200, "text/html", htmlPage), kind: backendclient.ErrBadAnswer, hint: "frontend"},
		"invalid JSON":             {answer: respond(200, jsonType, "{"), kind: backendclient.ErrBadAnswer, hint: "frontend"},
		"empty JSON":               {answer: respond(200, jsonType, ""), kind: backendclient.ErrBadAnswer},
		"not a token":              {answer: respond(200, jsonType, `{"token":"x"}`), kind: backendclient.ErrBadAnswer},
		"token unfit for a header": {answer: respond(200, jsonType, `{"access_token":"a b","expires_in":3600}`), kind: backendclient.ErrBadAnswer, hint: "header"},
		"body lost": {
			answer: respond(400, jsonType, `{"client_id":["x"],"client_secret":["x"],"grant_type":["x"],"scope":["x"]}`),
			kind:   backendclient.ErrMisconfigured, hint: "Content-Length",
		},
		"body changed":              {answer: respond(400, jsonType, `{"detail":"JSON parse error - x"}`), kind: backendclient.ErrMisconfigured, hint: "body"},
		"type changed":              {answer: respond(415, jsonType, `{"detail":"x"}`), kind: backendclient.ErrMisconfigured, hint: "body"},
		"method changed":            {answer: respond(405, jsonType, `{"detail":"x"}`), kind: backendclient.ErrMisconfigured},
		"accept changed":            {answer: respond(406, jsonType, `{"detail":"x"}`), kind: backendclient.ErrMisconfigured},
		"proxy asks for a password": {answer: respond(401, "text/html", htmlPage), kind: backendclient.ErrMisconfigured, hint: "authentication"},
		"other 401 in JSON":         {answer: respond(401, jsonType, `{"detail":"x"}`), kind: backendclient.ErrMisconfigured, hint: "authentication"},
		"firewall":                  {answer: respond(403, "text/html", htmlPage), kind: backendclient.ErrBadAnswer, hint: "firewall"},
		"firewall in JSON":          {answer: respond(403, jsonType, `{"message":"x"}`), kind: backendclient.ErrBadAnswer, hint: "firewall"},
		"conflict in HTML":          {answer: respond(409, "text/html", htmlPage), kind: backendclient.ErrBadAnswer},
		"throttled":                 {answer: respond(429, "text/html", htmlPage, "Retry-After", "7"), kind: backendclient.ErrBusy, retry: 7 * time.Second},
		"throttled until a date":    {answer: respond(429, "", "", "Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT"), kind: backendclient.ErrBusy, retry: 2 * time.Second},
		"throttled for very long":   {answer: respond(429, "", "", "Retry-After", "999999999999"), kind: backendclient.ErrBusy, retry: time.Hour},
		"headers too large":         {answer: respond(431, "text/html", htmlPage), kind: backendclient.ErrBadAnswer, hint: "headers"},
		"server error":              {answer: respond(500, "text/html", htmlPage), kind: backendclient.ErrBadAnswer, hint: "log"},
		"bad gateway":               {answer: respond(502, "text/html", htmlPage), kind: backendclient.ErrUnavailable, retry: 5 * time.Second},
		"unavailable":               {answer: respond(503, "text/html", htmlPage, "Retry-After", "30"), kind: backendclient.ErrUnavailable, retry: 30 * time.Second},
		"gateway timeout":           {answer: respond(504, "text/html", htmlPage), kind: backendclient.ErrTimeout},
		"teapot":                    {answer: respond(418, "text/html", htmlPage), kind: backendclient.ErrBadAnswer},
		"HTML 400 to everything":    {answer: respond(400, "text/html", htmlPage), kind: backendclient.ErrMisconfigured, hint: "DJANGO_ALLOWED_HOSTS"},
		"unknown status":            {answer: respond(299, jsonType, `{}`), kind: backendclient.ErrBadAnswer},
		"unrequested compression":   {answer: respond(200, jsonType, "\x1f\x8b", "Content-Encoding", "gzip"), kind: backendclient.ErrBadAnswer, hint: "compressed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newClient(t, row.answer).Exchange(context.Background(), alice)
			require.ErrorIs(t, err, row.kind)
			e := asError(t, err)
			require.Contains(t, e.Hint, row.hint)
			require.Equal(t, row.retry, e.RetryAfter)
			require.NotContains(t, e.Detail, "<")
			require.NotContains(t, err.Error(), "<")
		})
	}
}

// If Meet repeats the request in its answer, the error must not contain the caller's data,
// because errors are logged.
func TestExchange_ErrorHidesCaller(t *testing.T) {
	t.Parallel()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": strings.Repeat("x", 250) + string(sent)})
	})
	_, err := newClient(t, echo).Exchange(context.Background(), alice)
	e := asError(t, err)
	require.Empty(t, e.Detail)
	require.NotContains(t, err.Error(), alice.Mail)
	require.NotContains(t, err.Error(), full.ClientSecret)
}

func TestExchange_RequestOnTheWire(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	c := newClient(t, meet, func(o *backendclient.Options) { o.Transport = overTCP(t, meet) })
	caller := alice
	caller.RequestID = "request-1"
	_, err := c.Exchange(context.Background(), caller)
	require.NoError(t, err)

	requests := meet.Requests()
	require.Len(t, requests, 1)
	r := requests[0]
	require.Equal(t, http.MethodPost, r.Method)
	require.Equal(t, tokenPath, r.Target)
	require.Equal(t, host, r.Host)
	require.EqualValues(t, len(r.Body), r.ContentLength)
	require.JSONEq(t, `{"client_id":"app-full","client_secret":"test-secret-full-0001","grant_type":"client_credentials","scope":"alice@example.com"}`, string(r.Body))
	require.Equal(t, http.Header{
		"Accept":            {"application/json"},
		"Accept-Encoding":   {"identity"},
		"Content-Length":    r.Header["Content-Length"],
		"Content-Type":      {"application/json"},
		"User-Agent":        {"meet-gateway"},
		"X-Forwarded-Proto": {"https"},
		"X-Request-Id":      {"request-1"},
	}, withLength(r.Header))
}

// withLength adds an empty Content-Length if there is none, because servers remove the header.
func withLength(h http.Header) http.Header {
	h = h.Clone()
	if _, ok := h["Content-Length"]; !ok {
		h["Content-Length"] = nil
	}
	return h
}

// A successful Exchange ends a remembered refusal, and Token returns its token from then on.
func TestExchange_ReplacesKeptResult(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	c := newClient(t, meet)
	ctx := context.Background()
	newcomer := backendclient.Caller{Credentials: full, Mail: "newcomer@example.com"}

	_, err := c.Token(ctx, newcomer)
	require.ErrorIs(t, err, backendclient.ErrUserNotFound)
	meet.AddUser(sandbox.User{Email: newcomer.Mail, Active: true})
	_, err = c.Token(ctx, newcomer)
	require.ErrorIs(t, err, backendclient.ErrUserNotFound, "remembered for a moment")

	exchanged, err := c.Exchange(ctx, newcomer)
	require.NoError(t, err)
	kept, err := c.Token(ctx, newcomer)
	require.NoError(t, err)
	require.Equal(t, exchanged.Value(), kept.Value())
	require.Equal(t, 2, meet.Exchanges())
}

// At most MaxExchanges run at once. A caller who waits too long gets ErrBusy.
func TestExchange_Limit(t *testing.T) {
	t.Parallel()
	var running, most atomic.Int32
	release := make(chan struct{})
	entered := make(chan struct{}, 10)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := running.Add(1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		entered <- struct{}{}
		<-release
		running.Add(-1)
		respond(200, "application/json", `{"access_token":"a.b.c","expires_in":3600}`).ServeHTTP(w, r)
	})
	outcomes := make(chan string, 10)
	c := newClient(t, h, func(o *backendclient.Options) {
		o.MaxExchanges = 2
		o.ExchangeTimeout = 300 * time.Millisecond
		o.OnExchange = func(outcome string, _ time.Duration) { outcomes <- outcome }
	})
	exchange := func(mail string, done chan<- error) {
		_, err := c.Exchange(context.Background(), backendclient.Caller{Credentials: full, Mail: mail})
		done <- err
	}
	first := make(chan error, 2)
	go exchange("a@example.com", first)
	go exchange("b@example.com", first)
	<-entered
	<-entered

	third := make(chan error, 1)
	exchange("c@example.com", third)
	err := <-third
	require.ErrorIs(t, err, backendclient.ErrBusy)
	require.Positive(t, asError(t, err).RetryAfter)
	require.Equal(t, "busy", <-outcomes)
	require.EqualValues(t, 2, most.Load())

	close(release)
	<-first
	<-first
	fourth := make(chan error, 1)
	exchange("d@example.com", fourth)
	require.NoError(t, <-fourth)
}
