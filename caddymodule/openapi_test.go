// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
)

// describedAnswer is an answer in the description of the API.
type describedAnswer struct {
	Headers map[string]any
	Content map[string]struct {
		Examples map[string]struct {
			Value json.RawMessage
		}
	}
}

type description struct {
	Servers    []struct{ URL string }
	Paths      map[string]map[string]struct{ Responses map[string]json.RawMessage }
	Components struct {
		Responses map[string]describedAnswer
	}
	// OtherAnswers belong to no operation.
	OtherAnswers map[string]describedAnswer `json:"x-other-answers"`
}

func describe(t *testing.T) description {
	t.Helper()
	var d description
	require.NoError(t, json.Unmarshal(OpenAPIJSON("https://api.example.org/base"), &d))
	return d
}

func TestOpenAPI_ServerURL(t *testing.T) {
	require.Equal(t, "https://api.example.org/base", describe(t).Servers[0].URL)
	require.Contains(t, string(OpenAPIYAML("https://api.example.org/base")), `- url: "https://api.example.org/base"`)
	require.NotContains(t, string(OpenAPIYAML("x")), openAPIServer)
	require.Equal(t, 1, strings.Count(string(openAPIYAML), openAPIServer))
}

// The description has exactly the routes that the gateway serves.
func TestOpenAPI_DescribesRoutes(t *testing.T) {
	table, err := newRouteTable(nil)
	require.NoError(t, err)
	d := describe(t)
	var served, described []string
	for _, p := range table.patterns {
		for _, a := range p.actions {
			served = append(served, a.method+" "+p.template)
		}
	}
	for path, methods := range d.Paths {
		for method := range methods {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	require.ElementsMatch(t, served, described)
}

// Every row of the table of failures is an example in the description, with its exact body and
// its headers.
func TestOpenAPI_HasEveryFailure(t *testing.T) {
	d := describe(t)
	endpoints := []string{"token", "rooms"}
	for _, row := range failures {
		for _, at := range endpoints {
			answer := row.answer
			if at == "token" && row.token != nil {
				answer = *row.token
			}
			if answer.status == 499 {
				continue // the caller has disconnected
			}
			require.True(t, d.shows(t, &answer), "%s: %d %s is not an example in openapi.yaml", at, answer.status, answer.body())
		}
	}
	for _, err := range []error{insufficientScope("rooms:create"), methodNotAllowed("DELETE", "GET, HEAD"), errInvalidPage, parse.ErrJSON} {
		r := refusalOf(err, endpointRoomsList)
		require.True(t, d.shows(t, &r), "%d %s is not an example in openapi.yaml", r.status, r.body())
	}
}

// shows reports whether an answer with the refusal's status has its body as an example and
// describes its headers.
func (d description) shows(t *testing.T, r *refusal) bool {
	t.Helper()
	headers := http.Header{}
	r.setHeaders(headers)
	for _, name := range d.responsesWith(t, r.status) {
		answer, ok := d.Components.Responses[name]
		if !ok {
			answer = d.OtherAnswers[name]
		}
		if !describesHeaders(answer, headers) {
			continue
		}
		for _, example := range answer.Content["application/json"].Examples {
			if equalJSON(t, example.Value, r.body()) {
				return true
			}
		}
	}
	return false
}

func describesHeaders(answer describedAnswer, headers http.Header) bool {
	described := http.Header{}
	for name := range answer.Headers {
		described.Set(name, "")
	}
	for name := range headers {
		if _, ok := described[name]; !ok {
			return false
		}
	}
	return true
}

// responsesWith lists the components that operations return with the status, and those that
// belong to no operation.
func (d description) responsesWith(t *testing.T, status int) []string {
	t.Helper()
	var names []string
	for _, methods := range d.Paths {
		for _, operation := range methods {
			var ref struct {
				Ref string `json:"$ref"`
			}
			if raw, ok := operation.Responses[strconv.Itoa(status)]; ok {
				require.NoError(t, json.Unmarshal(raw, &ref))
				names = append(names, strings.TrimPrefix(ref.Ref, "#/components/responses/"))
			}
		}
	}
	switch status {
	case http.StatusMethodNotAllowed:
		names = append(names, "MethodNotAllowed")
	case http.StatusNotFound:
		names = append(names, "UnknownPath")
	case http.StatusBadRequest:
		names = append(names, "MalformedTarget")
	}
	return names
}

func equalJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	require.NoError(t, json.Unmarshal(a, &x))
	require.NoError(t, json.Unmarshal(b, &y))
	return assert.ObjectsAreEqual(x, y)
}
