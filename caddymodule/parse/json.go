// SPDX-License-Identifier: MIT

package parse

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/meet-gateway/meet-gateway/caddymodule/strictjson"
)

// JSONObject reads a body that is one JSON object, or empty, which gives
// nil. Errors are *RequestError and FieldErrors, in Meet's words where Meet has
// some of its own.
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

// ErrJSON is the error of JSON that cannot be read.
var ErrJSON = jsonError(strictjson.ErrSyntax)

func jsonError(err error) error {
	return &RequestError{http.StatusBadRequest, "JSON parse error - " + err.Error() + "."}
}

// notAnObject is Meet's answer to JSON that is no object, by its first token.
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
