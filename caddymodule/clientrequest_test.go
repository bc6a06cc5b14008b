// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
)

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

func TestParseTokenRequest(t *testing.T) {
	want := clientRequest{clientID: "id", clientSecret: "secret", grantType: "client_credentials", scope: "user@example.com"}
	for _, tc := range []struct {
		name, contentType, authorization, body string
		want                                   clientRequest
	}{
		{"json", jsonType, "", `{"client_id":"id","client_secret":"secret","grant_type":"client_credentials","scope":"user@example.com"}`, want},
		{"json with charset", "Application/JSON; charset=utf-8", "", `{"client_id":"id","client_secret":"secret","grant_type":"client_credentials","scope":"user@example.com"}`, want},
		{"json with spaces and extra fields", jsonType, "", " {\"client_id\":\" id \",\"client_secret\":\"secret\\n\",\"grant_type\":\"client_credentials\",\"scope\":\"user@example.com\",\"x\":{\"y\":[1]}} \n", want},
		{"form", formType, "", "client_id=id&client_secret=secret&grant_type=client_credentials&scope=user%40example.com&x=1", want},
		{"form with charset", formType + "; charset=UTF-8", "", "&client_id=id&&client_secret=secret&grant_type=client_credentials&scope=user@example.com", want},
		{"basic and form", formType, "Basic " + basicValue("id:secret"), "grant_type=client_credentials&scope=user%40example.com", want},
		{"basic and json", jsonType, "basic " + basicValue("id:secret"), `{"grant_type":"client_credentials","scope":"user@example.com"}`, want},
		{"basic and the same client_id", formType, "Basic " + basicValue("id:secret"), "client_id=id&grant_type=client_credentials&scope=user%40example.com", want},
		{"empty is left out", formType, "", "client_id=id&client_secret=secret&grant_type=client_credentials&scope=&scope=user%40example.com&refresh_token=", want},
		{"empty beside basic, form", formType, "Basic " + basicValue("id:secret"), "client_id=&client_secret=&grant_type=client_credentials&scope=user%40example.com", want},
		{"empty beside basic, json", jsonType, "Basic " + basicValue("id:secret"), `{"client_id":"","client_secret":"","grant_type":"client_credentials","scope":"user@example.com"}`, want},
		{"unknown, repeated", formType, "", "resource=a&resource=b&audience=&audience=x&token=1&token=2&client_id=id&client_secret=secret&grant_type=client_credentials&scope=user@example.com" + strings.Repeat("&x=1", 500), want},
		{"bearer is ignored", formType, "Bearer x", "client_id=id&client_secret=secret&grant_type=client_credentials&scope=user%40example.com", want},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := http.Header{"Content-Type": {tc.contentType}}
			if tc.authorization != "" {
				h["Authorization"] = []string{tc.authorization}
			}
			got, err := parseTokenRequest(h, []byte(tc.body))
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}

	number, err := parseTokenRequest(http.Header{"Content-Type": {jsonType}}, []byte(`{"client_id":12,"client_secret":3.5,"grant_type":"client_credentials","scope":"a@b.c"}`))
	require.NoError(t, err)
	require.Equal(t, clientRequest{clientID: "12", clientSecret: "3.5", grantType: "client_credentials", scope: "a@b.c"}, number)

	encoded, err := parseTokenRequest(http.Header{"Content-Type": {formType}, "Authorization": {"Basic " + basicValue("a%3Ab:c%2Bd+e")}}, []byte("grant_type=client_credentials&scope=a"))
	require.NoError(t, err)
	require.Equal(t, "a:b", encoded.clientID)
	require.Equal(t, "c+d e", encoded.clientSecret)
}

func TestParseTokenRequest_Refusals(t *testing.T) {
	required := []string{"This field is required."}
	all := parse.FieldErrors{"client_id": required, "client_secret": required, "grant_type": required, "scope": required}
	basic := "Basic " + basicValue("id:secret")
	for _, tc := range []struct {
		name, contentType, authorization, body string
		want                                   error
	}{
		{"nothing at all", "", "", "", all},
		{"empty json body", jsonType, "", " ", all},
		{"empty object", jsonType, "", "{}", all},
		{"empty form", formType, "", "", all},
		{"keys are case-sensitive", jsonType, "", `{"Client_Id":"id"}`, all},
		{"basic, empty form", formType, basic, "", parse.FieldErrors{"grant_type": required, "scope": required}},
		{"null, blank, NUL, list", jsonType, "", `{"client_id":null,"client_secret":" ","grant_type":"a\u0000","scope":[1]}`, parse.FieldErrors{
			"client_id": {"This field may not be null."}, "client_secret": {"This field may not be blank."},
			"grant_type": {"Null characters are not allowed."}, "scope": {"Not a valid string."},
		}},
		{"bool", jsonType, "", `{"client_id":"a","client_secret":"b","grant_type":"client_credentials","scope":true}`, parse.FieldErrors{"scope": {"Not a valid string."}}},
		{"other grant", formType, "", "client_id=a&client_secret=b&grant_type=password&scope=c", parse.FieldErrors{"grant_type": {`"password" is not a valid choice.`}}},
		{"array", jsonType, "", `[{"client_id":"a"}]`, parse.FieldErrors{"non_field_errors": {"Invalid data. Expected a dictionary, but got list."}}},
		{"string", jsonType, "", `"x"`, parse.FieldErrors{"non_field_errors": {"Invalid data. Expected a dictionary, but got str."}}},
		{"number", jsonType, "", `1`, parse.FieldErrors{"non_field_errors": {"Invalid data. Expected a dictionary, but got int."}}},
		{"null", jsonType, "", `null`, parse.FieldErrors{"non_field_errors": {"No data provided"}}},
		{"not json", jsonType, "", `{"client_id":`, parse.ErrJSON},
		{"single quotes", jsonType, "", `{'a':1}`, parse.ErrJSON},
		{"two documents", jsonType, "", `{} {}`, &parse.RequestError{Status: 400, Text: "JSON parse error - extra data."}},
		{"key twice", jsonType, "", `{"client_id":"a","client_id":"b"}`, &parse.RequestError{Status: 400, Text: "JSON parse error - duplicate key."}},
		{"key twice, one escaped", jsonType, "", `{"client_id":"a","client\u005fid":"b"}`, &parse.RequestError{Status: 400, Text: "JSON parse error - duplicate key."}},
		{"not utf-8", jsonType, "", "{\"client_id\":\"\xff\"}", &parse.RequestError{Status: 400, Text: "JSON parse error - the body is not UTF-8."}},
		{"field twice", formType, "", "client_id=a&client%5Fid=a", &parse.RequestError{Status: 400, Text: "Duplicate form parameter."}},
		{"scope twice", formType, "", "client_id=a&scope=a%40b.c&scope=a%40b.c", &parse.RequestError{Status: 400, Text: "Duplicate form parameter."}},
		{"empty is left out", formType, "", "client_id=&client_secret=&grant_type=&scope=", all},
		{"bad escape", formType, "", "client_id=%zz", &parse.RequestError{Status: 400, Text: "Malformed form."}},
		{"form not utf-8", formType, "", "client_id=%ff", &parse.RequestError{Status: 400, Text: "Malformed form."}},
		{"semicolons", formType, "", "a;b=1&client_id=x;y", parse.FieldErrors{"client_secret": required, "grant_type": required, "scope": required}},
		{"text", "text/plain", "", "x", &parse.RequestError{Status: 415, Text: `Unsupported media type "text/plain" in request.`}},
		{"no type", "", "", "{}", &parse.RequestError{Status: 415, Text: `Unsupported media type "" in request.`}},
		{"multipart", "multipart/form-data; boundary=x", "", "--x", &parse.RequestError{Status: 415, Text: `Unsupported media type "multipart/form-data; boundary=x" in request.`}},
		{"json suffix", "application/vnd.api+json", "", "{}", &parse.RequestError{Status: 415, Text: `Unsupported media type "application/vnd.api+json" in request.`}},
		{"secret twice", formType, basic, "client_id=id&client_secret=secret&grant_type=client_credentials&scope=a", errTwoCredentials},
		{"secret twice, blank", formType, basic, "client_secret=+&grant_type=client_credentials&scope=a", errTwoCredentials},
		{"another client_id", jsonType, basic, `{"client_id":"other","grant_type":"client_credentials","scope":"a"}`, errTwoCredentials},
		{"bad basic", formType, "Basic x", "client_id=a&client_secret=b&grant_type=client_credentials&scope=c", &parse.RequestError{Status: 400, Text: "Malformed Authorization header."}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := http.Header{}
			if tc.contentType != "" {
				h["Content-Type"] = []string{tc.contentType}
			}
			if tc.authorization != "" {
				h["Authorization"] = []string{tc.authorization}
			}
			_, err := parseTokenRequest(h, []byte(tc.body))
			require.Equal(t, tc.want, err)
		})
	}

	_, err := parseTokenRequest(http.Header{"Content-Type": {jsonType, formType}}, []byte("{}"))
	require.Equal(t, &parse.RequestError{Status: 400, Text: "More than one Content-Type header."}, err)
}

func FuzzParseTokenRequest(f *testing.F) {
	for _, body := range []string{
		"", "{}", `{"client_id":"id","client_secret":"secret","grant_type":"client_credentials","scope":"a@b.c"}`, `{"client_id":{"a":[]}}`, "[]", "null",
		"client_id=id&client_secret=secret&grant_type=client_credentials&scope=a%40b.c", "a=1&a=2", `{"a":1}{`, "\"", "[1,", `{"client_id":1e400}`,
		"grant_type=refresh_token&refresh_token=r&client_id=id&client_secret=secret",
	} {
		f.Add(jsonType, "", []byte(body))
		f.Add(formType, "Basic "+basicValue("id:secret"), []byte(body))
	}
	f.Fuzz(func(t *testing.T, contentType, authorization string, body []byte) {
		h := http.Header{"Content-Type": {contentType}, "Authorization": {authorization}}
		req, err := parseTokenRequest(h, body)
		if err != nil {
			_, isFields := errors.AsType[parse.FieldErrors](err)
			_, isRequest := errors.AsType[*parse.RequestError](err)
			require.True(t, isFields || isRequest || errors.Is(err, errTwoCredentials))
			return
		}
		fields := []string{req.clientID, req.grantType, req.scope}
		if req.grantType == grantRefreshToken {
			fields[2] = req.refreshToken
		} else {
			require.Equal(t, grantClientCredentials, req.grantType)
		}
		for _, field := range fields {
			require.NotEmpty(t, strings.TrimSpace(field))
			require.NotContains(t, field, "\x00")
		}
	})
}
