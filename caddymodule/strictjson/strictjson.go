// SPDX-License-Identifier: MIT

// Package strictjson accepts JSON that all parsers understand alike: the gateway, which
// checks it, and Meet, which acts on it.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Errors of Object. They quote no input.
var (
	ErrSyntax   = errors.New("the body is not valid JSON")
	ErrEncoding = errors.New("the body is not UTF-8")
	ErrExtra    = errors.New("extra data")
	ErrTwice    = errors.New("duplicate key")
	ErrNumber   = errors.New("a number is too large")
)

// NotObjectError is returned for well-formed JSON that is not an object.
type NotObjectError struct {
	First json.Token
}

// Error implements error. It quotes no input.
func (*NotObjectError) Error() string { return "the body is not an object" }

// maxDepth limits nesting. Meet's own objects need three levels.
const maxDepth = 32

// Object parses a body with one JSON object, or an empty body, for which it returns
// nil. It refuses duplicate keys at any depth, unpaired surrogates, numbers outside
// float64, and nesting deeper than 32. Errors are those above and *NotObjectError.
func Object(body []byte) (map[string]json.RawMessage, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if !utf8.Valid(body) {
		return nil, ErrEncoding
	}
	if err := check(body); err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if body = bytes.TrimSpace(body); body[0] != '{' {
		return nil, notAnObject(body)
	}
	if json.Unmarshal(body, &object) != nil {
		return nil, ErrSyntax
	}
	return object, nil
}

// check reads one JSON value and the end of the body. jsontext refuses duplicate keys
// and unpaired surrogates. Meet answers those, and deep nesting, with an error that
// would look like an outage.
func check(body []byte) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	for {
		token, err := dec.ReadToken()
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			return ErrTwice
		case err != nil || dec.StackDepth() > maxDepth:
			return ErrSyntax
		}
		if token.Kind() == '0' {
			if _, err := strconv.ParseFloat(token.String(), 64); err != nil {
				return ErrNumber
			}
		}
		if dec.StackDepth() == 0 {
			break
		}
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return ErrExtra
	}
	return nil
}

func notAnObject(body []byte) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	first, err := dec.Token()
	if err != nil {
		return ErrSyntax
	}
	return &NotObjectError{First: first}
}

// HoldsNUL reports whether a key or string in valid JSON contains NUL, which Meet's
// database cannot store.
func HoldsNUL(body []byte) bool {
	if !bytes.Contains(body, []byte(`\u0000`)) {
		return false // unescaped NUL is not valid JSON
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return !errors.Is(err, io.EOF)
		}
		if token.Kind() == '"' && strings.ContainsRune(token.String(), 0) {
			return true
		}
	}
}
