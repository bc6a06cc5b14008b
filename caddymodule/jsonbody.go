package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"unicode/utf8"
)

// parseJSONObject reads a body that is one JSON object, or empty, which gives
// nil. A key that is there twice has no meaning and is refused. Errors are
// *requestError and fieldErrors, in Meet's words where Meet has some of its own.
func parseJSONObject(body []byte) (map[string]json.RawMessage, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if !utf8.Valid(body) {
		return nil, &requestError{http.StatusBadRequest, "JSON parse error - the body is not UTF-8."}
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	first, err := dec.Token()
	if err != nil {
		return nil, errJSON
	}
	if first != json.Delim('{') {
		return nil, notAnObject(dec, first)
	}
	object := make(map[string]json.RawMessage)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, errJSON
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errJSON
		}
		name, _ := key.(string)
		if _, twice := object[name]; twice {
			return nil, &requestError{http.StatusBadRequest, "JSON parse error - a key is there twice."}
		}
		object[name] = value
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, errJSON
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, &requestError{http.StatusBadRequest, "JSON parse error - extra data."}
	}
	return object, nil
}

// errJSON does not repeat the decoder's words, which quote what was sent.
var errJSON = &requestError{http.StatusBadRequest, "JSON parse error - the body is not valid JSON."}

// notAnObject answers for JSON that is well-formed but no object. What follows
// the first token must be well-formed too.
func notAnObject(dec *json.Decoder, first json.Token) error {
	for {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return errJSON
		}
	}
	kind := "list"
	switch first.(type) {
	case nil:
		return fieldErrors{"non_field_errors": {"No data provided"}}
	case string:
		kind = "str"
	case json.Number:
		kind = "int"
	case bool:
		kind = "bool"
	}
	return fieldErrors{"non_field_errors": {"Invalid data. Expected a dictionary, but got " + kind + "."}}
}
