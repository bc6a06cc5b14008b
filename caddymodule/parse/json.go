// SPDX-License-Identifier: MIT

package parse

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/meet-gateway/meet-gateway/caddymodule/strictjson"
)

// JSONObject parses a body with one JSON object, or an empty body, for which it returns
// nil. Errors are *RequestError and FieldErrors, in Meet's words if it has any.
func JSONObject(body []byte) (map[string]json.RawMessage, error) {
	object, err := strictjson.Object(body)
	if err == nil {
		return object, nil
	}
	if other, ok := errors.AsType[*strictjson.NotObjectError](err); ok {
		return nil, notAnObject(other.First)
	}
	return nil, jsonError(err)
}

// ErrJSON is the error for malformed JSON.
var ErrJSON = jsonError(strictjson.ErrSyntax)

func jsonError(err error) error {
	return &RequestError{http.StatusBadRequest, "JSON parse error - " + err.Error() + "."}
}

// notAnObject returns Meet's error for JSON that is not an object.
func notAnObject(first json.Token) error {
	kind := "list"
	switch first.(type) {
	case nil:
		return FieldErrors{"non_field_errors": {"No data provided"}}
	case string:
		kind = "str"
	case json.Number:
		kind = "int"
	case bool:
		kind = "bool"
	}
	return FieldErrors{"non_field_errors": {"Invalid data. Expected a dictionary, but got " + kind + "."}}
}
