// SPDX-License-Identifier: MIT

package admin

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

var loadDescription = sync.OnceValues(func() (*openapi3.T, error) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(description)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(loader.Context, openapi3.EnableExamplesValidation())
})

// The description has exactly the resources, methods and fields of the API.
func TestDescription_Resources(t *testing.T) {
	doc, err := loadDescription()
	require.NoError(t, err)
	described := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	served := map[string]bool{}
	for _, r := range resources {
		for method := range r.methods {
			served[method+" /"+r.path] = true
		}
	}
	require.Equal(t, served, described)

	fields := doc.Components.Schemas["ApplicationFields"].Value.Properties
	for _, name := range applicationFieldNames() {
		require.Contains(t, fields, name)
	}
	require.Len(t, fields, len(applicationFields))
}

func TestDescription_Served(t *testing.T) {
	w := newTester(t).call(http.MethodGet, "openapi.yaml", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, description, w.Body.Bytes())
}

// requireDescribed fails the test if the description does not have the answer, or if the API
// accepted a request that the description does not allow.
func requireDescribed(t testing.TB, r *http.Request, body string, w *httptest.ResponseRecorder) {
	t.Helper()
	doc, err := loadDescription()
	require.NoError(t, err)
	item, template, parameters := described(doc, strings.TrimPrefix(r.URL.EscapedPath(), strings.TrimSuffix(wire.Base, "/")))
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if item == nil || item.GetOperation(method) == nil {
		require.Contains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed}, w.Code, "%s %s is not described", r.Method, r.URL.Path)
		return
	}
	asked := r.Clone(t.Context())
	asked.Body, asked.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	input := &openapi3filter.RequestValidationInput{
		Request: asked, PathParams: parameters, QueryParams: r.URL.Query(),
		Route:   &routers.Route{Spec: doc, Path: template, PathItem: item, Method: method, Operation: item.GetOperation(method)},
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
	if w.Code < http.StatusBadRequest {
		require.NoError(t, openapi3filter.ValidateRequest(t.Context(), input), "%s %s was accepted: %s", r.Method, r.URL, body)
	}
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())), Options: input.Options,
	}), "%s %s", r.Method, r.URL)
}

// described returns the path of the description that matches the request.
func described(doc *openapi3.T, path string) (item *openapi3.PathItem, template string, parameters map[string]string) {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for _, r := range resources { // in their order: literal segments win over {id}
		pattern := strings.Split(r.path, "/")
		if argument, ok := matchPath(pattern, segments); ok {
			id, err := url.PathUnescape(argument)
			if err != nil {
				id = argument
			}
			return doc.Paths.Value("/" + r.path), "/" + r.path, map[string]string{"id": id}
		}
	}
	return nil, "", nil
}
