// SPDX-License-Identifier: MIT

package contract

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// good returns a correct exchange, which each test changes.
func good() Exchange {
	return Exchange{
		Method: "POST", Target: "/external-api/v1.0/application/token/", RequestHeader: http.Header{"Content-Type": {"application/json"}},
		RequestBody: []byte(`{"client_id":"a","client_secret":"b","grant_type":"client_credentials","scope":"ada@example.org"}`),
		Status:      200,
		Header: http.Header{
			"Content-Type": {"application/json"}, "Date": {"x"}, "X-Request-Id": {"r1"}, "Cache-Control": {"no-store"}, "Pragma": {"no-cache"},
			"Vary": {"Authorization"}, "X-Content-Type-Options": {"nosniff"},
		},
		Body: []byte(`{"access_token":"a.b.c","token_type":"Bearer","expires_in":3600,"scope":"rooms:list"}`),
	}
}

const (
	room    = `{"id":"7c9e6679-7425-40de-944b-e07fc1f90ae7","name":"n","slug":"s","access_level":"trusted","configuration":{},"url":"https://m.example.org/s"}`
	invalid = `{"detail":"Invalid token.","error":"Invalid token."}`
)

func rooms(status int, body string) Exchange {
	e := good()
	e.Method, e.Target, e.RequestBody, e.RequestHeader = "GET", "/external-api/v1.0/rooms?page=1", nil, http.Header{}
	e.Status, e.Body = status, []byte(body)
	e.Header.Del("Pragma")
	return e
}

func TestJudge(t *testing.T) {
	j, err := New([]string{"/", "/external-api/v1.0"}, []Route{{"PATCH", "/rooms/{id}"}, {"POST", "/rooms/{id}/grant-access"}})
	require.NoError(t, err)

	with := func(e Exchange, change func(*Exchange)) Exchange {
		change(&e)
		return e
	}
	challenged := func(e Exchange) Exchange {
		e.Header.Set("WWW-Authenticate", `Bearer realm="meet-gateway", error="invalid_token", resource_metadata="https://gateway.example.org/.well-known/oauth-protected-resource"`)
		return e
	}
	list := `{"count":1,"next":null,"previous":null,"results":[` + room + `]}`
	for name, tc := range map[string]struct {
		e    Exchange
		want string // part of a violation; empty for none
	}{
		"token":              {good(), ""},
		"token, at the root": {with(good(), func(e *Exchange) { e.Target = "/application/token" }), ""},
		"token, as a form": {with(good(), func(e *Exchange) {
			e.RequestHeader.Set("Content-Type", "application/x-www-form-urlencoded")
			e.RequestBody = []byte("client_id=a&client_secret=b&grant_type=client_credentials&scope=ada%40example.org")
		}), ""},
		"token without scopes":      {with(good(), func(e *Exchange) { e.Body = []byte(`{"access_token":"a","token_type":"Bearer","expires_in":1}`) }), ""},
		"status not described":      {with(good(), func(e *Exchange) { e.Status = 418 }), "status is not described"},
		"redirect":                  {with(good(), func(e *Exchange) { e.Status = 301 }), "status is not described"},
		"header not described":      {with(good(), func(e *Exchange) { e.Header.Set("Set-Cookie", "a=b") }), "header Set-Cookie is not described"},
		"header missing":            {with(good(), func(e *Exchange) { e.Header.Del("Pragma") }), "header Pragma is missing"},
		"header with another value": {with(good(), func(e *Exchange) { e.Header.Set("Cache-Control", "private") }), "Cache-Control"},
		"media type":                {with(good(), func(e *Exchange) { e.Header.Set("Content-Type", "text/html") }), "Content-Type"},
		"expires_in as text": {with(good(), func(e *Exchange) {
			e.Body = []byte(`{"access_token":"a","token_type":"Bearer","expires_in":"1","scope":"x"}`)
		}), "expires_in"},
		"field not described":         {with(good(), func(e *Exchange) { e.Body = []byte(`{"access_token":"a","token_type":"Bearer","expires_in":1,"x":1}`) }), "doesn't match schema"},
		"request not described":       {with(good(), func(e *Exchange) { e.RequestBody = []byte(`{"grant_type":"password","scope":"a@b.c"}`) }), "a request that is not described succeeds"},
		"body of the request unknown": {with(good(), func(e *Exchange) { e.RequestBody, e.Streamed = nil, true }), ""},

		"list":                     {rooms(200, list), ""},
		"list, HEAD":               {with(rooms(200, ""), func(e *Exchange) { e.Method = "HEAD" }), ""},
		"list, last page":          {with(rooms(200, list), func(e *Exchange) { e.Target = "/rooms/?page=last&page_size=100&slug=s" }), ""},
		"list, too large a page":   {with(rooms(200, list), func(e *Exchange) { e.Target = "/rooms?page_size=101" }), "a request that is not described succeeds"},
		"list without previous":    {rooms(200, `{"count":0,"next":null,"results":[]}`), "previous"},
		"room without a slug":      {rooms(200, `{"count":1,"next":null,"previous":null,"results":[{"id":"7c9e6679-7425-40de-944b-e07fc1f90ae7","access_level":"trusted"}]}`), "slug"},
		"room with an id":          {rooms(200, strings.Replace(list, "7c9e6679-", "x", 1)), "results"},
		"telephony without a PIN":  {rooms(200, strings.Replace(list, `"url"`, `"telephony":{"enabled":true,"phone_number":"1","default_country":"FR"},"url"`, 1)), ""},
		"telephony, PIN null":      {rooms(200, strings.Replace(list, `"url"`, `"telephony":{"enabled":true,"phone_number":"1","pin_code":null,"default_country":"FR"},"url"`, 1)), "nullable"},
		"401":                      {challenged(rooms(401, invalid)), ""},
		"401 without a challenge":  {rooms(401, invalid), "header Www-Authenticate is missing"},
		"401 with one key":         {challenged(rooms(401, `{"detail":"Invalid token."}`)), `"error" is missing, which a published example has`},
		"503 without Retry-After":  {rooms(503, invalid), "header Retry-After is missing"},
		"unknown path":             {with(rooms(404, invalid), func(e *Exchange) { e.Target = "/external-api/v1.0/room" }), ""},
		"unknown path answered":    {with(rooms(200, list), func(e *Exchange) { e.Target = "/external-api/v1.0/room" }), "status is not described"},
		"unknown path in HTML":     {with(rooms(404, "<p>"), func(e *Exchange) { e.Target = "/x"; e.Header.Set("Content-Type", "text/html") }), "Content-Type"},
		"malformed path":           {with(rooms(400, invalid), func(e *Exchange) { e.Target = "/external-api/v1.0//rooms" }), ""},
		"unknown method":           {with(rooms(405, invalid), func(e *Exchange) { e.Method = "DELETE"; e.Header.Set("Allow", "GET, HEAD, POST") }), ""},
		"unknown method answered":  {with(rooms(200, list), func(e *Exchange) { e.Method = "DELETE" }), "status is not described"},
		"405 without Allow":        {with(rooms(405, invalid), func(e *Exchange) { e.Method = "DELETE" }), "header Allow is missing"},
		"route of the operator":    {with(rooms(204, ""), func(e *Exchange) { e.Method, e.Target = "PATCH", "/rooms/7c9e6679-7425-40de-944b-e07fc1f90ae7/" }), ""},
		"its headers":              {with(rooms(204, ""), func(e *Exchange) { e.Method, e.Target = "PATCH", "/rooms/x"; e.Header.Set("Server", "gunicorn") }), "header Server is not described"},
		"a path of the operator's": {with(rooms(200, "{}"), func(e *Exchange) { e.Method, e.Target = "POST", "/rooms/x/grant-access" }), ""},
		"its other methods":        {with(rooms(200, "{}"), func(e *Exchange) { e.Method, e.Target = "PUT", "/rooms/x/grant-access" }), "status is not described"},

		"metadata behind the well-known name": {with(rooms(200, `{"resource":"https://x"}`), func(e *Exchange) {
			e.Target = "/.well-known/oauth-protected-resource/external-api/v1.0"
			e.Header.Del("Vary")
		}), ""},
		"description": {with(rooms(200, "openapi: 3.1.0\n"), func(e *Exchange) {
			e.Target = "/openapi.yaml"
			e.Header.Del("Vary")
			e.Header.Set("Content-Type", "application/yaml")
		}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			said := fmt.Sprint(j.Violations(tc.e))
			if tc.want == "" {
				require.Equal(t, "[]", said)
			} else {
				require.Contains(t, said, tc.want)
			}
		})
	}
}

// Every described answer has an example. Loading a description compares the examples with their
// schemas.
func TestOurs_EveryAnswerHasAnExample(t *testing.T) {
	doc, err := loadOurs()
	require.NoError(t, err)
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			require.NotEmpty(t, operation.Summary, "%s %s", method, path)
			for status, response := range operation.Responses.Map() {
				for media, content := range response.Value.Content {
					require.NotEmpty(t, content.Examples, "%s %s %s %s", method, path, status, media)
				}
			}
			if operation.RequestBody != nil {
				for media, content := range operation.RequestBody.Value.Content {
					require.NotEmpty(t, content.Examples, "%s %s %s", method, path, media)
				}
			}
		}
	}
	for name, response := range doc.Components.Responses {
		for _, content := range response.Value.Content {
			require.NotEmpty(t, content.Examples, name)
		}
	}
}

// These exchanges violate only the published description.
func TestJudge_Published(t *testing.T) {
	j, err := New([]string{"/external-api/v1.0"}, nil)
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		e    Exchange
		want string
	}{
		"status":           {rooms(410, invalid), "not published"},
		"one more status":  {rooms(404, invalid), ""},
		"keys of examples": {rooms(401, `{"detail":"x"}`), `"error" is missing`},
		"keys of schemas":  {rooms(401, `{"error":"x"}`), `"detail" is missing`},
		"type":             {rooms(200, `{"count":"1","next":null,"previous":null,"results":[]}`), "not as published"},
	} {
		t.Run(name, func(t *testing.T) {
			said := fmt.Sprint(j.judgePublished(tc.e, "/rooms"))
			if tc.want == "" {
				require.Equal(t, "[]", said)
			} else {
				require.Contains(t, said, tc.want)
			}
		})
	}
}

// Each exception to the published file is necessary.
func TestPublished_ExceptionsAreNeeded(t *testing.T) {
	doc, err := load(publishedYAML)
	require.NoError(t, err)
	names, statuses := map[string]bool{}, map[string]bool{}
	for _, schema := range doc.Components.Schemas {
		for name := range schema.Value.Properties {
			names[name] = true
			for inner := range schema.Value.Properties[name].Value.Properties {
				names[inner] = true
			}
		}
	}
	for _, item := range doc.Paths.Map() {
		for _, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				statuses[operation.OperationID+" "+status] = true
			}
		}
	}
	for name := range notAlways {
		require.True(t, names[name], name)
	}
	for _, a := range alsoAnswered {
		require.False(t, statuses[fmt.Sprint(a.operation, " ", a.status)], "%s %d is published", a.operation, a.status)
		require.NotEmpty(t, a.reason)
	}
}

func TestTransport(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer server.Close()
	j, err := New([]string{"/"}, nil)
	require.NoError(t, err)
	var reported []error
	client := &http.Client{Transport: &Transport{
		Judge: func(r *http.Request) *Judge {
			if r.URL.Path == "/other" {
				return nil
			}
			return j
		},
		Report: func(err error) { reported = append(reported, err) },
	}}
	for _, path := range []string{"/other", "/rooms"} {
		require.Empty(t, reported)
		res, err := client.Post(server.URL+path, "application/json", strings.NewReader("{}"))
		require.NoError(t, err)
		require.Equal(t, int64(5), res.ContentLength)
		require.NoError(t, res.Body.Close())
	}
	require.NotEmpty(t, reported)
	require.ErrorContains(t, reported[0], "POST /rooms, answered with 200: ")
}
