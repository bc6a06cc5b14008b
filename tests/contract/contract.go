// SPDX-License-Identifier: MIT

// Package contract compares exchanges with two API descriptions: the gateway's own one, which must
// cover every answer, and Meet's published one, whose promises must be kept.
package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"go.yaml.in/yaml/v3"

	"github.com/meet-gateway/meet-gateway/caddymodule"
)

// Exchange is a request and its response, with their bodies.
type Exchange struct {
	Method string
	// Target is the path with the query, unchanged.
	Target        string
	RequestHeader http.Header
	RequestBody   []byte
	// Streamed means that the body of the request is unknown.
	Streamed bool

	Status int
	Header http.Header
	Body   []byte
}

// Route is a path that the operator opened, as in the Caddyfile. The descriptions do not cover
// Meet's answers there.
type Route struct{ Method, Path string }

// Judge compares the exchanges of one gateway with both descriptions.
type Judge struct {
	ours      *openapi3.T
	published *openapi3.T
	bases     []string // longest first, no slash at the end
	routes    []Route
}

// New returns a judge for a gateway with the given base paths and opened routes.
func New(basePaths []string, routes []Route) (*Judge, error) {
	ours, err := loadOurs()
	if err != nil {
		return nil, fmt.Errorf("the gateway's description: %w", err)
	}
	published, err := loadPublished()
	if err != nil {
		return nil, fmt.Errorf("the published description: %w", err)
	}
	j := &Judge{ours: ours, published: published, routes: routes}
	for _, base := range basePaths {
		j.bases = append(j.bases, strings.TrimSuffix(base, "/"))
	}
	slices.SortFunc(j.bases, func(a, b string) int { return len(b) - len(a) })
	return j, nil
}

// loadOurs and loadPublished read the descriptions once, since judges do not change them.
var loadOurs = sync.OnceValues(func() (*openapi3.T, error) {
	description, err := withOtherAnswers(caddymodule.OpenAPIYAML("https://gateway.example.org"))
	if err != nil {
		return nil, err
	}
	return load(description)
})

// withOtherAnswers adds the answers without an operation to the components, so that their references
// are resolved. The served description does not have them there, because linters and generators
// report unused components.
func withOtherAnswers(description []byte) ([]byte, error) {
	var document struct {
		OtherAnswers map[string]any `yaml:"x-other-answers"`
		Components   map[string]any
		Rest         map[string]any `yaml:",inline"`
	}
	if err := yaml.Unmarshal(description, &document); err != nil {
		return nil, err
	}
	responses, ok := document.Components["responses"].(map[string]any)
	if !ok {
		return nil, errors.New("no components.responses")
	}
	maps.Copy(responses, document.OtherAnswers)
	document.OtherAnswers = nil
	return yaml.Marshal(document)
}

// checkFormats defines the formats in the descriptions, which the library does not check by default.
// The definitions are global.
var checkFormats = sync.OnceFunc(func() {
	openapi3.DefineStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`))
	openapi3.DefineStringFormatValidator("email", openapi3.NewRegexpFormatValidator(`^\s*[^@\s]+@[^@\s]+\s*$`))
	openapi3.DefineStringFormatValidator("uri", openapi3.NewRegexpFormatValidator(`^https?://[^/\s]+(/\S*)?$`))
})

func load(description []byte) (*openapi3.T, error) {
	checkFormats()
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(description)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(loader.Context, openapi3.EnableExamplesValidation(), openapi3.EnableSchemaFormatValidation())
}

// Violations returns the differences of an exchange from the descriptions: an undescribed status,
// header or body, a missing described one, or a broken promise of the published description.
func (j *Judge) Violations(e Exchange) []error {
	found := j.judge(e)
	for i, err := range found {
		found[i] = fmt.Errorf("%s %s, answered with %d: %w", e.Method, e.Target, e.Status, err)
	}
	return found
}

func (j *Judge) judge(e Exchange) []error {
	rest, ok := j.cutBase(e.Target)
	if !ok {
		return j.fallback(e, "UnknownPath", "MalformedTarget")
	}
	item, template, params := find(j.ours, rest)
	switch {
	case isPage(rest) && e.Status == http.StatusOK:
		return undescribedHeaders(e, pageHeaders)
	case isPage(rest):
		return j.fallback(e, "MethodNotAllowed", "UnknownPath", "MalformedTarget")
	}
	if item == nil {
		if j.operatorHas(e.Method, rest) {
			return undescribedHeaders(e, operatorHeaders)
		}
		if j.operatorHas("", rest) {
			return j.fallback(e, "MethodNotAllowed")
		}
		return j.fallback(e, "UnknownPath", "MalformedTarget")
	}
	operation := item.GetOperation(methodOf(e))
	switch {
	case operation == nil && j.operatorHas(e.Method, rest):
		return undescribedHeaders(e, operatorHeaders)
	case operation == nil && strings.HasPrefix(rest, "/identity"):
		return j.fallback(e, "IdentityMethodNotAllowed")
	case operation == nil:
		return j.fallback(e, "MethodNotAllowed")
	}
	route := &routers.Route{Spec: j.ours, Path: template, PathItem: item, Method: methodOf(e), Operation: operation}
	found := judgeAnswer(e, route, params)
	if e.Status < 300 && !e.Streamed {
		if err := judgeRequest(e, route, params); err != nil {
			found = append(found, fmt.Errorf("a request that is not described succeeds: %w", err))
		}
	}
	return append(found, j.judgePublished(e, rest)...)
}

// fallback compares an answer without an operation with components of the description.
func (j *Judge) fallback(e Exchange, components ...string) []error {
	var all []error
	for _, name := range components {
		response := j.ours.Components.Responses[name]
		status := map[string]int{
			"UnknownPath": http.StatusNotFound, "MalformedTarget": http.StatusBadRequest,
			"MethodNotAllowed": http.StatusMethodNotAllowed, "IdentityMethodNotAllowed": http.StatusMethodNotAllowed,
		}[name]
		operation := &openapi3.Operation{Responses: openapi3.NewResponses(openapi3.WithStatus(status, response))}
		route := &routers.Route{Spec: j.ours, PathItem: &openapi3.PathItem{}, Method: methodOf(e), Operation: operation}
		found := judgeAnswer(e, route, nil)
		if len(found) == 0 {
			return nil
		}
		all = append(all, found...)
	}
	return all
}

// everywhere are the headers of every answer. The first four belong to HTTP.
var everywhere = []string{
	"Date", "Content-Length", "Content-Type", "Connection",
	"X-Request-Id", "Cache-Control", "Vary", "X-Content-Type-Options", "Ratelimit", "Ratelimit-Policy",
}

// operatorHeaders are the headers of a route that the operator opened. Allow is sent if Meet does not
// have the route.
var operatorHeaders = append(slices.Clone(everywhere), "Www-Authenticate", "Retry-After", "Allow")

// isPage reports whether a path belongs to the page for integrators, which is not part of the API.
func isPage(path string) bool { return path == "/docs" || strings.HasPrefix(path, "/docs/") }

// pageHeaders are the headers of the page.
var pageHeaders = append(slices.Clone(everywhere), "Content-Language", "Content-Security-Policy", "Referrer-Policy")

func undescribedHeaders(e Exchange, described []string) []error {
	var found []error
	for name := range e.Header {
		if !slices.Contains(described, name) {
			found = append(found, fmt.Errorf("header %s is not described", name))
		}
	}
	return found
}

// judgeAnswer compares status, headers and body with an operation.
func judgeAnswer(e Exchange, route *routers.Route, params map[string]string) []error {
	response := route.Operation.Responses.Status(e.Status)
	if response == nil {
		return []error{fmt.Errorf("the status is not described; the body is %.300s", e.Body)}
	}
	described := slices.Clone(everywhere[:4])
	var found []error
	for name, header := range response.Value.Headers {
		name = http.CanonicalHeaderKey(name)
		described = append(described, name)
		if header.Value.Required && e.Header.Get(name) == "" {
			found = append(found, fmt.Errorf("header %s is missing", name))
		}
	}
	found = append(found, undescribedHeaders(e, described)...)
	if err := validateAnswer(e, route, params); err != nil {
		found = append(found, err)
	}
	if err := identityOfItsType(e, route.Operation.OperationID); err != nil {
		found = append(found, err)
	}
	return found
}

// identityOfItsType compares the payload of /identity with the prose of the description, since client
// generators do not support a schema for each type.
func identityOfItsType(e Exchange, operation string) error {
	if operation != "getIdentity" || e.Status != http.StatusOK || e.Method == http.MethodHead {
		return nil
	}
	var body struct {
		Payload struct {
			Type, ID string
			Scopes   []string
		}
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return err
	}
	length := map[string]int{"user": 8, "application": 32}[body.Payload.Type]
	if len(body.Payload.ID) != length {
		return fmt.Errorf("the id of a %s has %d characters", body.Payload.Type, len(body.Payload.ID))
	}
	if (body.Payload.Scopes != nil) != (body.Payload.Type == "application") {
		return fmt.Errorf("scopes of a %s: %v", body.Payload.Type, body.Payload.Scopes)
	}
	return nil
}

func validateAnswer(e Exchange, route *routers.Route, params map[string]string) error {
	request, err := requestOf(e)
	if err != nil {
		return err
	}
	request.Method = methodOf(e) // HEAD is described as GET
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, PathParams: params, Route: route},
		Status:                 e.Status, Header: e.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: e.Method == http.MethodHead},
	}
	input.SetBodyBytes(e.Body)
	return openapi3filter.ValidateResponse(context.Background(), input)
}

func judgeRequest(e Exchange, route *routers.Route, params map[string]string) error {
	request, err := requestOf(e)
	if err != nil {
		return err
	}
	return openapi3filter.ValidateRequest(context.Background(), &openapi3filter.RequestValidationInput{
		Request: request, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true},
	})
}

func requestOf(e Exchange) (*http.Request, error) {
	u, err := url.ParseRequestURI(e.Target)
	if err != nil {
		return nil, err
	}
	return &http.Request{
		Method: e.Method, URL: u, Header: e.RequestHeader.Clone(), Host: "gateway.example.org",
		Body: io.NopCloser(bytes.NewReader(e.RequestBody)), ContentLength: int64(len(e.RequestBody)),
	}, nil
}

func methodOf(e Exchange) string {
	if e.Method == http.MethodHead {
		return http.MethodGet
	}
	return e.Method
}

// cutBase returns the path below the base path, without a trailing slash.
func (j *Judge) cutBase(target string) (string, bool) {
	path, _, _ := strings.Cut(target, "?")
	path = strings.TrimSuffix(path, "/")
	for _, name := range []string{"/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource"} {
		if base, ok := strings.CutPrefix(path, name); ok && slices.Contains(j.bases, base) {
			return name, true
		}
	}
	for _, base := range j.bases {
		if rest, ok := strings.CutPrefix(path, base); ok && strings.HasPrefix(rest, "/") {
			return rest, true
		}
	}
	return "", false
}

// find finds a path in a description, preferring paths without parameters.
func find(doc *openapi3.T, path string) (item *openapi3.PathItem, template string, params map[string]string) {
	for _, template := range doc.Paths.InMatchingOrder() {
		if params, ok := matches(template, path); ok {
			return doc.Paths.Value(template), template, params
		}
	}
	return nil, "", nil
}

func matches(template, path string) (params map[string]string, ok bool) {
	want, have := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return nil, false
	}
	params = map[string]string{}
	for i := range want {
		if name, isParam := strings.CutPrefix(want[i], "{"); isParam && have[i] != "" {
			params[strings.TrimSuffix(name, "}")] = have[i]
		} else if want[i] != have[i] {
			return nil, false
		}
	}
	return params, true
}

// operatorHas reports whether the operator opened a path for a method; an empty method means any.
func (j *Judge) operatorHas(method, path string) bool {
	return slices.ContainsFunc(j.routes, func(r Route) bool {
		_, ok := matches(r.Path, path)
		return ok && (method == "" || r.Method == method)
	})
}
