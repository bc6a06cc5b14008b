// SPDX-License-Identifier: MIT

package caddymodule

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

const (
	pathOpenAPIYAML = "/openapi.yaml"
	pathOpenAPIJSON = "/openapi.json"
)

// openAPIServer is the placeholder for the server's URL in openapi.yaml.
const openAPIServer = "https://gateway.invalid"

//go:embed openapi.yaml
var openAPIYAML []byte

// openAPIJSON is the same description as JSON.
var openAPIJSON = sync.OnceValue(func() []byte {
	body, err := yamlToJSON(openAPIYAML)
	if err != nil { // embedded and tested
		panic(err)
	}
	return body
})

// OpenAPIYAML returns the description of the API (OpenAPI 3.1) with base as its
// server's URL.
func OpenAPIYAML(base string) []byte { return withServer(openAPIYAML, base) }

// OpenAPIJSON returns the description of OpenAPIYAML in JSON.
func OpenAPIJSON(base string) []byte { return withServer(openAPIJSON(), base) }

// withServer sets the server's URL. A JSON string is also valid in YAML.
func withServer(description []byte, base string) []byte {
	quoted, err := json.Marshal(base)
	if err != nil { // strings can always be encoded
		panic(err)
	}
	return bytes.Replace(description, []byte(`"`+openAPIServer+`"`), quoted, 1)
}

// yamlToJSON converts a YAML document whose keys are strings.
func yamlToJSON(document []byte) ([]byte, error) {
	var v any
	if err := yaml.Unmarshal(document, &v); err != nil {
		return nil, fmt.Errorf("reading YAML: %w", err)
	}
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("writing JSON: %w", err)
	}
	return body, nil
}

var headerTypeYAML = []string{"application/yaml"} // RFC 9512

// serveOpenAPI answers with the description for the requested base path.
func (c documentCall) serveOpenAPI() error {
	base, description := c.publicBase(), c.h.description()
	delete(c.w.Header(), "Vary")
	if strings.HasSuffix(c.match.pattern.template, pathOpenAPIJSON) {
		return writeJSON(c.w, http.StatusOK, withServer(description.json, base))
	}
	return writeBody(c.w, http.StatusOK, headerTypeYAML, withServer(description.yaml, base))
}
