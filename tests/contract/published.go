// SPDX-License-Identifier: MIT

package contract

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
)

//go:embed testdata/meet-external-api.yaml
var publishedYAML []byte

// The published file requires no fields, so that an empty object would match every answer. This
// package therefore treats every name in a schema or an example of an answer as a promise. If the two
// differ (the schema of the rooms' 401 has `detail`, its examples have `error`), both are promises,
// and the gateway sends both. The exceptions are listed below with their reasons.

// notAlways are names that some answers lack.
var notAlways = map[string]string{
	"pin_code":     "a room from before telephony has none",
	"phone_number": "Meet may have no number for its rooms",
	"scope":        "a token without scopes has none, also at Meet",
	"url":          "without a base URL neither Meet nor the gateway knows it",
	"telephony":    "described as optional",
}

// alsoAnswered are statuses that the published file lacks. The operation "" means every operation.
var alsoAnswered = []struct {
	operation string
	status    int
	reason    string
}{
	{"", 409, "several users share an address, or an attempt is in flight"},
	{"", 413, "bodies are bounded"},
	{"", 415, "the file describes only JSON"},
	{"", 425, "TLS early data may be replayed (RFC 8470)"},
	{"", 429, "requests are limited"},
	{"", 500, "the gateway failed"},
	{"", 502, "Meet failed"},
	{"", 503, "Meet or the store is unavailable"},
	{"", 504, "Meet is too slow"},
	{"generateToken", 404, "Meet's own status for unknown users, if configured"},
	{"listRooms", 400, "an invalid query"},
	{"listRooms", 404, "a page that does not exist"},
	{"listRooms", 422, "too many rooms to find one by its slug"},
	{"createRoom", 400, "access_level and configuration can be invalid; the file describes an empty object"},
	{"createRoom", 422, "an Idempotency-Key was used with another body"},
	{"retrieveRoom", 400, "Meet no longer accepts the user's address"},
}

var loadPublished = sync.OnceValues(func() (*openapi3.T, error) {
	return load(publishedYAML)
})

// judgePublished compares an exchange with the published description, if it has
// the operation.
func (j *Judge) judgePublished(e Exchange, rest string) []error {
	item, template, params := find(j.published, rest)
	if item == nil {
		return nil
	}
	operation := item.GetOperation(methodOf(e))
	if operation == nil {
		return nil
	}
	response := operation.Responses.Status(e.Status)
	if response == nil {
		if isAlsoAnswered(operation.OperationID, e.Status) {
			return nil
		}
		return []error{fmt.Errorf("the status is not published")}
	}
	route := &routers.Route{Spec: j.published, Path: template, PathItem: item, Method: methodOf(e), Operation: operation}
	if err := validateAnswer(e, route, params); err != nil {
		return []error{fmt.Errorf("not as published: %w", err)}
	}
	if len(e.Body) == 0 {
		return nil // HEAD
	}
	var body any
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return []error{err}
	}
	return broken(response.Value.Content["application/json"], body)
}

func isAlsoAnswered(operation string, status int) bool {
	for _, a := range alsoAnswered {
		if (a.operation == "" || a.operation == operation) && a.status == status {
			return true
		}
	}
	return false
}

// broken lists the promises about a body that are not kept.
func broken(media *openapi3.MediaType, body any) []error {
	found := missing(media.Schema.Value, body)
	object, _ := body.(map[string]any)
	for _, name := range exampleNames(media) {
		if _, ok := object[name]; !ok && notAlways[name] == "" {
			found = append(found, fmt.Errorf("%q is missing, which a published example has", name))
		}
	}
	return found
}

func exampleNames(media *openapi3.MediaType) []string {
	names := map[string]bool{}
	for _, example := range media.Examples {
		if object, ok := example.Value.Value.(map[string]any); ok {
			for name := range object {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// missing lists the properties of a schema that a value does not have.
func missing(schema *openapi3.Schema, value any) []error {
	var found []error
	switch value := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
			property, ok := value[name]
			switch {
			case ok:
				found = append(found, missing(schema.Properties[name].Value, property)...)
			case notAlways[name] == "":
				found = append(found, fmt.Errorf("%q is missing, which is published", name))
			}
		}
	case []any:
		if schema.Items == nil {
			return nil
		}
		for _, item := range value {
			found = append(found, missing(schema.Items.Value, item)...)
		}
	}
	return found
}
