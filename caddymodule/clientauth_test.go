// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
)

func headersOf(contentType, authorization string) http.Header {
	h := http.Header{"Content-Type": {contentType}}
	if authorization != "" {
		h.Set("Authorization", authorization)
	}
	return h
}

func TestParseHeldTokenRequest(t *testing.T) {
	want := clientRequest{clientID: "id", clientSecret: "secret", token: "t"}
	basic := "Basic " + basicValue("id:secret")
	for _, tc := range []struct{ name, contentType, authorization, body string }{
		{"form and basic", formType, basic, "token=t"},
		{"empty and unknown", formType, basic, "token=&token=t&client_secret=&client_id=&scope=a&scope=b&resource=a&resource=a&token_type_hint=&token_type_hint=x"},
		{"form", formType, "", "token=t&token_type_hint=refresh_token&client_id=id&client_secret=secret"},
		{"json", jsonType, "", `{"token":" t ","client_id":"id","client_secret":"secret","token_type_hint":null}`},
		{"json and basic", jsonType, basic, `{"token":"t"}`},
		{"bearer is ignored", formType, "Bearer t", "token=t&client_id=id&client_secret=secret"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseHeldTokenRequest(headersOf(tc.contentType, tc.authorization), []byte(tc.body))
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestParseHeldTokenRequest_Refusals(t *testing.T) {
	required := []string{fieldRequired}
	basic := "Basic " + basicValue("id:secret")
	for _, tc := range []struct {
		name, contentType, authorization, body string
		want                                   error
	}{
		{"nothing", formType, "", "", parse.FieldErrors{"client_id": required, "client_secret": required, "token": required}},
		{"no token", formType, basic, "token_type_hint=access_token", parse.FieldErrors{"token": required}},
		{"blank", formType, basic, "token=+", parse.FieldErrors{"token": {"This field may not be blank."}}},
		{"null", jsonType, basic, `{"token":null}`, parse.FieldErrors{"token": {"This field may not be null."}}},
		{"list", jsonType, basic, `{"token":["t"]}`, parse.FieldErrors{"token": {"Not a valid string."}}},
		{"token twice", formType, basic, "token=t&token=u", &parse.RequestError{Status: 400, Text: "Duplicate form parameter."}},
		{"hint twice", formType, basic, "token=t&token_type_hint=a&token_type_hint=b", &parse.RequestError{Status: 400, Text: "Duplicate form parameter."}},
		{"key twice", jsonType, basic, `{"token":"t","token":"t"}`, &parse.RequestError{Status: 400, Text: "JSON parse error - duplicate key."}},
		{"secret twice", formType, basic, "token=t&client_secret=secret", errTwoCredentials},
		{"text", "text/plain", basic, "t", &parse.RequestError{Status: 415, Text: `Unsupported media type "text/plain" in request.`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parseHeldTokenRequest(headersOf(tc.contentType, tc.authorization), []byte(tc.body))
			require.Equal(t, tc.want, err)
		})
	}
}

func TestHeldTokenRequest_PrintsNothing(t *testing.T) {
	r := clientRequest{clientID: "id", clientSecret: "secret", token: "token"}
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", r, r, r, r), "secret")
}

func TestParseTokenRequest_Refresh(t *testing.T) {
	basic := "Basic " + basicValue("id:secret")
	want := clientRequest{clientID: "id", clientSecret: "secret", grantType: "refresh_token", refreshToken: "r"}
	for _, body := range []string{"grant_type=refresh_token&refresh_token=r", "grant_type=refresh_token&refresh_token=r&scope="} {
		got, err := parseTokenRequest(headersOf(formType, basic), []byte(body))
		require.NoError(t, err, body)
		require.Equal(t, want, got, body)
	}
	want.scope = "a@b.c"
	got, err := parseTokenRequest(headersOf(jsonType, basic), []byte(`{"grant_type":"refresh_token","refresh_token":"r","scope":" a@b.c"}`))
	require.NoError(t, err)
	require.Equal(t, want, got)

	_, err = parseTokenRequest(headersOf(formType, ""), []byte("grant_type=refresh_token&scope=a"))
	required := []string{fieldRequired}
	require.Equal(t, parse.FieldErrors{"client_id": required, "client_secret": required, "refresh_token": required}, err)
	_, err = parseTokenRequest(headersOf(jsonType, basic), []byte(`{"grant_type":"refresh_token","refresh_token":"r","scope":[]}`))
	require.Equal(t, parse.FieldErrors{"scope": {"Not a valid string."}}, err)
}

func TestRefusal_UseOAuthCode(t *testing.T) {
	for status, want := range map[int]string{400: "invalid_request", 401: "invalid_client", 403: "unauthorized_client", 413: "invalid_request"} {
		r := refusal{status: status, detail: "x"}
		r.useOAuthCode()
		require.JSONEq(t, `{"detail":"x","error":"`+want+`"}`, string(r.body()))
	}
	r := refusal{status: 503, detail: "x", code: codeUnavailable}
	r.useOAuthCode()
	require.Equal(t, codeUnavailable, r.code)
}

func FuzzParseHeldTokenRequest(f *testing.F) {
	for _, body := range []string{"", "token=t", `{"token":"t"}`, `{"token":{}}`, "token=%00", "token=t&client_id=id"} {
		f.Add(formType, "Basic "+basicValue("id:secret"), []byte(body))
		f.Add(jsonType, "", []byte(body))
	}
	f.Fuzz(func(t *testing.T, contentType, authorization string, body []byte) {
		req, err := parseHeldTokenRequest(http.Header{"Content-Type": {contentType}, "Authorization": {authorization}}, body)
		if err != nil {
			_, isFields := errors.AsType[parse.FieldErrors](err)
			_, isRequest := errors.AsType[*parse.RequestError](err)
			require.True(t, isFields || isRequest || errors.Is(err, errTwoCredentials))
			return
		}
		for _, field := range []string{req.clientID, req.token} {
			require.NotEmpty(t, strings.TrimSpace(field))
			require.NotContains(t, field, "\x00")
		}
	})
}

func basicValue(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
