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

// space is the white space of JSON (RFC 8259 §2).
const space = " \t\r\n"

// maxDepth limits nesting. Meet's own objects need three levels.
const maxDepth = 32

// Object parses a body with one JSON object, or an empty body, for which it returns
// nil. It refuses duplicate keys at any depth, unpaired surrogates, numbers outside
// float64, and nesting deeper than 32: Meet answers those with an error that would look
// like an outage. The values are parts of the body. Errors are those above and
// *NotObjectError.
func Object(body []byte) (map[string]json.RawMessage, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if !utf8.Valid(body) {
		return nil, ErrEncoding
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(body)) // refuses duplicate keys and unpaired surrogates
	object := map[string]json.RawMessage{}
	isObject := bytes.TrimLeft(body, space)[0] == '{'
	name, from := "", int64(0) // of the member being read
	for {
		token, err := dec.ReadToken()
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			return nil, ErrTwice
		case err != nil || dec.StackDepth() > maxDepth:
			return nil, ErrSyntax
		}
		if token.Kind() == '0' {
			if _, err := strconv.ParseFloat(token.String(), 64); err != nil {
				return nil, ErrNumber
			}
		}
		if dec.StackDepth() == 0 {
			break
		}
		if isObject && dec.StackDepth() == 1 {
			switch _, read := dec.StackIndex(1); {
			case read%2 == 1:
				name, from = token.String(), dec.InputOffset()
			case read > 0:
				object[name] = bytes.TrimLeft(body[from:dec.InputOffset():dec.InputOffset()], ":"+space)
			}
		}
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, ErrExtra
	}
	if !isObject {
		return nil, notAnObject(body)
	}
	return object, nil
}

// Text returns what a string in an object means.
func Text(value json.RawMessage) (string, error) {
	text, err := jsontext.AppendUnquote(nil, value)
	return string(text), err
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
