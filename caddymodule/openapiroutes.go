// SPDX-License-Identifier: MIT

package caddymodule

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"text/template"

	"go.yaml.in/yaml/v3"
)

// openAPI is the description of the API with a site's opened routes. It has no server
// yet.
type openAPI struct{ yaml, json []byte }

// describeRoutes returns a function that builds the description at its first call.
func describeRoutes(routes []Route) func() openAPI {
	return sync.OnceValue(func() openAPI {
		if len(routes) == 0 {
			return openAPI{openAPIYAML, openAPIJSON()}
		}
		d, err := withRoutes(openAPIYAML, routes)
		if err != nil { // the file is embedded, and the routes are valid
			panic(err)
		}
		return d
	})
}

// withRoutes adds routes to a description in YAML.
func withRoutes(description []byte, routes []Route) (openAPI, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(description, &doc); err != nil {
		return openAPI{}, fmt.Errorf("reading the description: %w", err)
	}
	paths := member(doc.Content[0], "paths")
	names := map[string]bool{} // paths that differ only in punctuation have the same id
	for i := range routes {
		r := &routes[i]
		path, parameters := r.parameters()
		item := member(paths, path)
		if item == nil {
			item = &yaml.Node{Kind: yaml.MappingNode}
			addMember(paths, path, item)
		}
		id := r.operationID()
		if names[id] {
			id = fmt.Sprintf("%s_%d", id, i)
		}
		names[id] = true
		operation, err := r.operation(id, parameters)
		if err != nil {
			return openAPI{}, err
		}
		addMember(item, strings.ToLower(r.Method), operation)
	}
	asYAML, err := yaml.Marshal(&doc)
	if err != nil {
		return openAPI{}, fmt.Errorf("writing the description: %w", err)
	}
	asJSON, err := yamlToJSON(asYAML)
	return openAPI{asYAML, asJSON}, err
}

func member(mapping *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func addMember(mapping *yaml.Node, name string, value *yaml.Node) {
	mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, value)
}

// parameters returns the path and its parameters. OpenAPI requires unique names: the
// second {id} becomes {id2}.
func (r *Route) parameters() (path string, parameters []map[string]any) {
	seen := map[string]int{}
	for segment := range strings.SplitSeq(r.Path[1:], "/") {
		if name, isParameter := strings.CutPrefix(segment, "{"); isParameter {
			name = strings.TrimSuffix(name, "}")
			slug := name == "slug"
			if seen[name]++; seen[name] > 1 {
				name += strconv.Itoa(seen[name])
			}
			parameters = append(parameters, map[string]any{"name": name, "slug": slug})
			segment = "{" + name + "}"
		}
		path += "/" + segment
	}
	return path, parameters
}

//go:embed openapi_route.yaml.tmpl
var operationText string

// operationTemplate is a route as an OpenAPI operation in YAML. The body of a success is
// Meet's own.
var operationTemplate = template.Must(template.New("operation").Parse(operationText))

// operation returns the route as an OpenAPI operation.
func (r *Route) operation(id string, parameters []map[string]any) (*yaml.Node, error) {
	var fields []string
	if r.judgesMail() {
		fields = r.Mail
	}
	var text bytes.Buffer
	err := operationTemplate.Execute(&text, map[string]any{
		"id": id, "summary": r.Method + " " + r.Path, "description": r.describe(), "parameters": parameters,
		"idempotent": r.Idempotent, "changes": r.changes(), "fields": fields, "get": r.Method == http.MethodGet,
	})
	if err != nil {
		return nil, fmt.Errorf("describing a route: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text.Bytes(), &doc); err != nil {
		return nil, fmt.Errorf("describing a route: %w", err)
	}
	return doc.Content[0], nil
}

func (r *Route) describe() string {
	text := "A path of Meet that the operator has opened; Meet decides what it does. Needs the scope `" + r.Scope + "`."
	if r.changes() {
		switch {
		case !r.judgesMail():
		case len(r.Mail) > 0:
			text += " Fields that name users: `" + strings.Join(r.Mail, "`, `") + "`. Each must be a mail address that the application may act for; no other text may hold an `@`."
		default:
			text += " A text that holds an `@` must be a mail address that the application may act for."
		}
	}
	return text
}

func (r *Route) operationID() string {
	words := strings.FieldsFunc(r.Path, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') })
	var id strings.Builder
	id.WriteString("opened_" + strings.ToLower(r.Method))
	for _, word := range words {
		id.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return id.String()
}
