// SPDX-License-Identifier: MIT

// Package strictjson reads JSON from outside that must have one meaning: whatever
// reads it after the gateway reads the same.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Errors of Object. They do not repeat the decoder's words, which quote what was
// sent.
var (
	ErrSyntax   = errors.New("the body is not valid JSON")
	ErrEncoding = errors.New("the body is not UTF-8")
	ErrExtra    = errors.New("extra data")
	ErrTwice    = errors.New("duplicate key")
	ErrNumber   = errors.New("a number is too large")
)

// NotObjectError is JSON that is well-formed but no object.
type NotObjectError struct {
	// First is its first token.
	First json.Token
}

// Error tells no value.
func (*NotObjectError) Error() string { return "the body is not an object" }

// Object reads a body that is one JSON object, or empty, which gives nil. A key
// that is there twice has no meaning and is refused, at any depth. Errors are those
// above and *NotObjectError.
func Object(body []byte) (map[string]json.RawMessage, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if !utf8.Valid(body) {
		return nil, ErrEncoding
	}
	if tooDeep(body) || loneSurrogate(body) {
		return nil, ErrSyntax // Meet answers these with an error of its own making, which would look like an outage
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	first, err := dec.Token()
	if err != nil {
		return nil, ErrSyntax
	}
	if first != json.Delim('{') {
		return nil, notAnObject(dec, first)
	}
	object := make(map[string]json.RawMessage)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, ErrSyntax
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, ErrSyntax
		}
		name, _ := key.(string)
		if _, twice := object[name]; twice {
			return nil, ErrTwice
		}
		if err := oneMeaning(value); err != nil {
			return nil, err
		}
		object[name] = value
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, ErrSyntax
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, ErrExtra
	}
	return object, nil
}

// oneMeaning refuses what readers of JSON understand differently in the depth of a
// value: keys that are there twice, and numbers that are none for some.
func oneMeaning(value json.RawMessage) error {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var open []*level
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return ErrSyntax
		}
		top := len(open) - 1
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{':
				open = append(open, &level{keys: map[string]bool{}, key: true})
				continue
			case '[':
				open = append(open, &level{})
				continue
			}
			open = open[:top]
			top--
		case json.Number:
			if _, err := t.Float64(); err != nil {
				return ErrNumber
			}
		case string:
			if top >= 0 && open[top].key {
				if open[top].keys[t] {
					return ErrTwice
				}
				open[top].keys[t] = true
			}
		}
		if top >= 0 && open[top].keys != nil {
			open[top].key = !open[top].key
		}
	}
}

// level is an object that is open, or an array, which has no keys.
type level struct {
	keys map[string]bool
	key  bool // a key comes next
}

// maxDepth is how deeply JSON may be nested. Meet's own objects need three.
const maxDepth = 32

// tooDeep reports whether JSON is nested more deeply than anything meant.
func tooDeep(body []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// HoldsNUL reports whether an escape names NUL, which no text in Meet's database can
// hold.
func HoldsNUL(body []byte) bool {
	for i := 0; i+1 < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		r, ok := escaped(body[i:])
		if ok && r == 0 {
			return true
		}
		i++ // skip what it escapes
	}
	return false
}

// loneSurrogate reports whether an escape names half of a UTF-16 pair. Such a
// text exists in no encoding that Meet could write it in.
func loneSurrogate(body []byte) bool {
	for i := 0; i+1 < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		r, ok := escaped(body[i:])
		if !ok {
			i++ // another escape: skip what it escapes
			continue
		}
		i += 5
		if !utf16.IsSurrogate(r) {
			continue
		}
		low, ok := escaped(body[i+1:])
		if !ok || utf16.DecodeRune(r, low) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

// escaped reads an escape of the form \uXXXX at the beginning of b.
func escaped(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}

// notAnObject answers for JSON that begins otherwise. What follows the first token
// must be well-formed too.
func notAnObject(dec *json.Decoder, first json.Token) error {
	for {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			return &NotObjectError{first}
		} else if err != nil {
			return ErrSyntax
		}
	}
}
