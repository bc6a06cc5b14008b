// SPDX-License-Identifier: MIT

package caddymodule

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

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
		described := r.operation(parameters)
		if id := r.operationID(); names[id] {
			described["operationId"] = fmt.Sprintf("%s_%d", id, i)
		} else {
			names[id] = true
		}
		operation := new(yaml.Node)
		if err := operation.Encode(described); err != nil {
			return openAPI{}, fmt.Errorf("describing a route: %w", err)
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
func (r *Route) parameters() (path string, parameters []any) {
	seen := map[string]int{}
	for segment := range strings.SplitSeq(r.Path[1:], "/") {
		name, isParameter := strings.CutPrefix(segment, "{")
		if isParameter {
			name = strings.TrimSuffix(name, "}")
			description, pattern := "A UUID, in any case, with or without dashes.", `^[0-9A-Fa-f]{8}-?([0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}$`
			if name == "slug" {
				description, pattern = "The last part of a room's address.", `^[-_0-9A-Za-z]{1,100}$`
			}
			if seen[name]++; seen[name] > 1 {
				name += strconv.Itoa(seen[name])
			}
			parameters = append(parameters, pathParameter(name, description, pattern))
			segment = "{" + name + "}"
		}
		path += "/" + segment
	}
	return path, parameters
}

// operation returns the route as an OpenAPI operation.
func (r *Route) operation(ofPath []any) map[string]any {
	parameters := append([]any{ref("parameters/RequestID")}, ofPath...)
	if r.Idempotent {
		parameters = append(parameters, map[string]any{
			"name": headerIdempotencyKey, "in": "header", "description": "Makes the request once, however often it is sent; see createRoom.",
			"schema": map[string]any{"type": "string", "maxLength": 255},
		})
	}
	o := map[string]any{
		"tags":        []string{"Rooms"},
		"operationId": r.operationID(),
		"summary":     r.Method + " " + r.Path,
		"description": r.describe(),
		"security":    []any{map[string]any{"Bearer": []string{}}},
		"parameters":  parameters,
		"responses":   r.responses(),
	}
	if r.changes() {
		schema := map[string]any{"type": "object", "additionalProperties": true}
		if r.judgesMail() && len(r.Mail) > 0 {
			properties := map[string]any{}
			for _, field := range r.Mail {
				properties[field] = map[string]any{"description": "The mail address of a user; where there may be several, a list of them."}
			}
			schema["properties"] = properties
		}
		o["requestBody"] = map[string]any{"content": map[string]any{"application/json": map[string]any{"schema": schema}}}
	}
	return o
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

// responses lists the gateway's responses. The body of a success is Meet's.
func (r *Route) responses() map[string]any {
	success := map[string]any{
		"description": "As Meet answers",
		"content":     map[string]any{"application/json": map[string]any{"schema": map[string]any{}}},
	}
	responses := map[string]any{"200": success, "400": ref("responses/RoomsBadRequest")}
	if r.Method != http.MethodGet {
		responses["201"] = success
		responses["204"] = map[string]any{"description": "As Meet answers"}
	}
	for status, name := range map[string]string{
		"401": "RoomsUnauthorized", "403": "RoomsForbidden", "404": "RoomNotFound", "409": "UserConflict", "429": "TooManyRequests",
		"500": "InternalError", "502": "BadGateway", "503": "ServiceUnavailable", "504": "GatewayTimeout",
	} {
		responses[status] = ref("responses/" + name)
	}
	if r.Idempotent {
		responses["409"], responses["422"] = ref("responses/CreateConflict"), ref("responses/IdempotencyMismatch")
	}
	return responses
}

func ref(name string) map[string]any { return map[string]any{"$ref": "#/components/" + name} }

func pathParameter(name, description, pattern string) map[string]any {
	return map[string]any{
		"name": name, "in": "path", "required": true, "description": description,
		"schema": map[string]any{"type": "string", "pattern": pattern},
	}
}
