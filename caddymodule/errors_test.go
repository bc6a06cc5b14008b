// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/conformance"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

func TestRefusalOf(t *testing.T) {
	for _, tc := range []struct {
		err          error
		token, rooms int
		retry        bool
	}{
		{tokens.ErrUnavailable, 503, 503, true},
		{tokens.ErrSettling, 503, 503, true},
		{tokens.ErrBusy, 503, 503, true},
		{tokens.ErrConflict, 503, 503, true},
		{tokens.ErrInvalidClient, 401, 401, false},
		{tokens.ErrInactiveApplication, 401, 401, false},
		{tokens.ErrInvalidMail, 400, 400, false},
		{tokens.ErrDomainNotAllowed, 403, 403, false},
		{tokens.ErrTokenMalformed, 401, 401, false},
		{tokens.ErrTokenExpired, 401, 401, false},
		{tokens.ErrTokenInvalid, 401, 401, false},
		{tokens.ErrTokenForeign, 401, 401, false},
		{backendclient.ErrUserNotFound, 400, 401, false},
		{backendclient.ErrInvalidMail, 400, 400, false},
		{backendclient.ErrDomainRefused, 403, 403, false},
		{backendclient.ErrDuplicateUser, 409, 409, false},
		{backendclient.ErrProvisioningConflict, 409, 409, false},
		{backendclient.ErrBackendCredentials, 502, 502, false},
		{backendclient.ErrApplicationInactive, 401, 401, false},
		{backendclient.ErrUserDisabled, 401, 401, false},
		{backendclient.ErrAPIDisabled, 502, 502, false},
		{backendclient.ErrMisconfigured, 502, 502, false},
		{backendclient.ErrUnavailable, 503, 503, true},
		{backendclient.ErrTimeout, 503, 504, false},
		{backendclient.ErrBadAnswer, 502, 502, false},
		{backendclient.ErrBusy, 503, 503, true},
		{backendclient.ErrTooManyRooms, 422, 422, false},
		{backendclient.ErrInvalidRequest, 400, 400, false},
		{context.Canceled, 499, 499, false},
		{parse.ErrTarget, 400, 400, false},
		{errUnknownPath, 404, 404, false},
		{errNoToken, 401, 401, false},
		{errSource, 403, 403, false},
		{errTwoCredentials, 400, 400, false},
		{errors.New("unknown error"), 500, 500, false},
	} {
		t.Run(tc.err.Error(), func(t *testing.T) {
			wrapped := fmt.Errorf("wrapped: %w", tc.err)
			token, rooms := refusalOf(wrapped, endpointToken), refusalOf(wrapped, endpointRoomsList)
			require.Equal(t, tc.token, token.status)
			require.Equal(t, tc.rooms, rooms.status)
			require.Equal(t, tc.retry, rooms.retryAfter > 0)
			for _, r := range []refusal{token, rooms} {
				require.NotEmpty(t, r.reason)
				require.Equal(t, r.status == 401, r.challenge != "")
				var object map[string]any
				require.NoError(t, json.Unmarshal(r.body(), &object))
				require.NotEmpty(t, object["error"])
				require.NotContains(t, string(r.body()), "wrapped", "errors are for logs")
				require.Contains(t, object, "detail")
			}
		})
	}
}

// published are the texts allowed in "error": those of the published API, and Meet's own.
// Every other refusal has a code in "error".
var published = []string{
	textInvalidCredentials, textInactive, textUserNotFound, textBadMail, textDomain, textProvisioning, textNoCredentials, textInvalidHeader,
	textInvalidToken, textNotFound, "Invalid token encoding.", "Token expired.", "Application is disabled.", "User account is disabled.",
	"Several users share this email address.",
}

// refused returns an error of every kind that a request is refused with.
func refused(t *testing.T) []error {
	t.Helper()
	overLimit := (&call{w: httptest.NewRecorder()}).applyDecision(limit.Decision{Limit: limit.Rate{Count: 1, Per: time.Second}, RetryAfter: time.Second})
	require.Error(t, overLimit)
	errs := []error{
		errors.New("unknown error"), &parse.RequestError{Status: 413, Text: "Too large."},
		parse.FieldErrors{"scope": {fieldRequired}, "grant_type": {fieldRequired}},
		insufficientScope("rooms:list"), methodNotAllowed("PUT", "GET"), errInvalidPage, identityRefusal(codeHeaderType, "Not of a known type."), overLimit,
	}
	for _, row := range failures {
		errs = append(errs, row.err)
	}
	return errs
}

// Every refusal is logged with the same fields. Only an outage has an error besides: the reason
// says all about a refusal, and the error of one may quote the caller.
func TestRefusals_LogFields(t *testing.T) {
	for _, err := range refused(t) {
		for _, at := range []endpoint{endpointToken, endpointRoomsList, endpointIdentity, endpointNone} {
			core, logs := observer.New(zapcore.DebugLevel)
			c := &call{h: &Handler{app: &App{outages: new(throttle)}, logger: zap.New(core)}, ctx: t.Context(), endpoint: at, requestID: "id"}
			r := refusalOf(err, at)
			c.logRefusal(&r)
			require.Equal(t, 1, logs.Len(), "%v", err)
			want := []string{"endpoint", "reason", "request_id", "status"}
			if r.outage {
				want = append(want, "error")
				slices.Sort(want)
			}
			require.Equal(t, want, slices.Sorted(maps.Keys(logs.All()[0].ContextMap())), "%v", err)
		}
	}
}

// Settling after a failover is no outage, although it is answered like one.
func TestRefusals_SettlingIsNoOutage(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	c := &call{h: &Handler{app: &App{outages: new(throttle)}, logger: zap.New(core)}, ctx: t.Context(), endpoint: endpointToken, requestID: "id"}
	r := refusalOf(fmt.Errorf("checking a client: %w: %w", tokens.ErrUnavailable, tokens.ErrSettling), endpointToken)
	c.logRefusal(&r)
	require.Equal(t, http.StatusServiceUnavailable, r.status)
	line := logs.All()[0]
	require.Equal(t, "request refused", line.Message)
	require.Equal(t, zapcore.InfoLevel, line.Level)
	require.Equal(t, "store_settling", line.ContextMap()["reason"])
}

// Every refusal follows the rule of docs/compatibility.md for "error" and "detail".
func TestRefusals_ErrorAndDetail(t *testing.T) {
	for _, err := range refused(t) {
		for _, at := range []endpoint{endpointToken, endpointRevoke, endpointIntrospect, endpointRoomsList, endpointRoomsCreate, endpointNone} {
			r := refusalOf(err, at)
			var object map[string]any
			require.NoError(t, json.Unmarshal(r.body(), &object))
			detail, _ := object["detail"].(string)
			code, _ := object["error"].(string)
			require.Regexp(t, `^[A-Za-z].*[.a-z']$`, detail, "%v", err)
			if code == detail {
				_, own := errors.AsType[*refusal](err)
				require.True(t, own || slices.Contains(published, code), code)
			} else {
				require.Regexp(t, `^[a-z]+(_[a-z]+)*$`, code, "%v", err)
			}
			for name, texts := range object {
				if name != "detail" && name != "error" {
					require.IsType(t, []any{}, texts, "%v", err)
					require.Equal(t, http.StatusBadRequest, r.status, "an invalid field makes the request malformed")
				}
			}
			require.Equal(t, r.status == http.StatusUnauthorized, r.challenge != "" && r.status != http.StatusForbidden, "%v", err)
			if r.status == http.StatusServiceUnavailable || r.status == http.StatusTooManyRequests {
				require.NotZero(t, r.retryAfter, "%v", err)
			}
		}
	}
}

func TestRefusal_ShortensInput(t *testing.T) {
	r := refusalOf(methodNotAllowed(strings.Repeat("X", 10000), "GET"), endpointRoomsList)
	require.Less(t, len(r.body()), 500)
	require.Contains(t, string(r.body()), `XXX…\" not allowed.`)
	_, err := parseTokenRequest(headersOf(formType, ""), []byte("grant_type="+strings.Repeat("x", 8000)))
	refused := refusalOf(err, endpointToken)
	require.Less(t, len(refused.body()), 800)
}

func TestRefusal_UsesBackendError(t *testing.T) {
	r := refusalOf(&backendclient.Error{Kind: backendclient.ErrUnavailable, Effect: true, RetryAfter: 90 * time.Second}, endpointRoomsCreate)
	require.Equal(t, textBadGateway+textMayHaveEffect, r.detail)
	require.Equal(t, http.StatusBadGateway, r.status, "503 would invite another attempt")
	h := http.Header{}
	r.setHeaders(h)
	require.Empty(t, h.Get("Retry-After"))

	r = refusalOf(&backendclient.Error{Kind: backendclient.ErrUnavailable, RetryAfter: 90 * time.Second}, endpointRoomsCreate)
	require.Equal(t, textUnavailable, r.detail)
	r.setHeaders(h)
	require.Equal(t, "90", h.Get("Retry-After"))

	r = refusalOf(&backendclient.Error{Kind: backendclient.ErrUserDisabled, Effect: true}, endpointRoomsCreate)
	require.Equal(t, "User account is disabled.", r.detail)
}

func TestWithBothKeys(t *testing.T) {
	for in, want := range map[string]string{
		`{"detail":"a"}`:              `{"detail":"a","error":"a"}`,
		`{"error":"a"}`:               `{"detail":"a","error":"a"}`,
		`{"detail":"a","error":"b"}`:  `{"detail":"a","error":"b"}`,
		`{"field":["a"],"b":{"c":1}}`: `{"b":{"c":1},"detail":"b: Not valid. field: a","error":"invalid_request","field":["a"]}`,
		`["a","b"]`:                   `{"detail":"a b","error":"invalid_request","non_field_errors":["a","b"]}`,
		`"a"`:                         `{"detail":"a","error":"invalid_request"}`,
		`[]`:                          `{"detail":"The request was refused.","error":"invalid_request"}`,
		`[1]`:                         `{"detail":"The request was refused.","error":"invalid_request"}`,
		`null`:                        `{"detail":"The request was refused.","error":"invalid_request"}`,
		``:                            ``,
	} {
		require.Equal(t, want, string(withBothKeys([]byte(in))))
	}
}

func TestCompleteRoom(t *testing.T) {
	h := &Handler{RoomURLBase: "https://visio.example.org"}
	for in, want := range map[string]string{
		`{"id":"1","slug":"a-b"}`:                   `{"id":"1","slug":"a-b","url":"https://visio.example.org/a-b"}`,
		"{\"slug\":\"a-b\"}\n":                      `{"slug":"a-b","url":"https://visio.example.org/a-b"}`,
		`{"slug":"a-b","url":"https://meet/a-b"}`:   `{"slug":"a-b","url":"https://meet/a-b"}`,
		`{"slug":"a-b","url" : "https://meet/a-b"}`: `{"slug":"a-b","url" : "https://meet/a-b"}`,
		`{"slug":"a\",\"b"}`:                        `{"slug":"a\",\"b"}`,
		`{"slug":"../x"}`:                           `{"slug":"../x"}`,
		`{"id":"1"}`:                                `{"id":"1"}`,
		`[]`:                                        `[]`,
		`{"slug":"a-b","telephony":{"url":"x"}}`:    `{"slug":"a-b","telephony":{"url":"x"},"url":"https://visio.example.org/a-b"}`,
		`{"configuration":{"slug":"x"},"id":"1"}`:   `{"configuration":{"slug":"x"},"id":"1"}`,
		`{"slug":"a-b","\u0075rl":"https://meet"}`:  `{"slug":"a-b","\u0075rl":"https://meet"}`,
		`{"slug":"a-b","URL":"https://meet"}`:       `{"slug":"a-b","URL":"https://meet","url":"https://visio.example.org/a-b"}`,
		`{"SLUG":"a-b"}`:                            `{"SLUG":"a-b"}`,
		`{"slug":"a-b","slug":"c-d"}`:               `{"slug":"a-b","slug":"c-d","url":"https://visio.example.org/c-d"}`,
		`{"slug":"a-b","url":"x","url":"y"}`:        `{"slug":"a-b","url":"x","url":"y"}`,
		`{"slug":"a-b","url":"x","url":null}`:       `{"slug":"a-b","url":"https://visio.example.org/a-b"}`,
		`{"slug":"a-b","name":"\"url\":"}`:          `{"slug":"a-b","name":"\"url\":","url":"https://visio.example.org/a-b"}`,
	} {
		require.Equal(t, want, string(h.completeRoom(json.RawMessage(in))), in)
	}
	h.RoomURLBase = ""
	require.Equal(t, `{"slug":"a-b"}`, string(h.completeRoom(json.RawMessage(`{"slug":"a-b"}`))))
}

func TestThrottle(t *testing.T) {
	var th throttle
	now := time.Now()
	n, ok := th.allow("a", now)
	require.True(t, ok)
	require.Zero(t, n)
	for range 3 {
		_, ok = th.allow("a", now.Add(time.Second))
		require.False(t, ok)
	}
	_, ok = th.allow("b", now.Add(time.Second))
	require.True(t, ok)
	n, ok = th.allow("a", now.Add(outagePeriod))
	require.True(t, ok)
	require.Equal(t, 3, n)
}

// The conformance command reports the statuses in the gateway's table of failures.
func TestFailures_MatchConformance(t *testing.T) {
	seen := map[string]bool{"ok": true, "other": true}
	for _, row := range failures {
		reason := backendclient.Reason(row.err)
		if reason == "other" {
			continue
		}
		seen[reason] = true
		require.Equal(t, refusalOf(row.err, endpointToken).status, conformance.StatusOf(reason, true), reason)
		require.Equal(t, refusalOf(row.err, endpointRoomsList).status, conformance.StatusOf(reason, false), reason)
	}
	for _, reason := range backendclient.Reasons() {
		require.True(t, seen[reason], reason)
		require.NotZero(t, conformance.StatusOf(reason, true), reason)
	}
}
