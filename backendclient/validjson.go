// SPDX-License-Identifier: MIT

package backendclient

import (
	"bytes"
	"encoding/json"
)

// validJSON equals json.Valid but is several times faster for what Meet sends, which is
// compact, shallow and mostly without escapes. It runs on every request.
func validJSON(b []byte) bool {
	const deepest = 8
	rest, ok := plainValue(b, deepest)
	return ok && len(rest) == 0 || json.Valid(b)
}

// plainValue cuts a JSON value off b. It returns false for anything unusual: white space,
// escapes, control characters, signs, fractions, deep nesting.
func plainValue(b []byte, depth int) (rest []byte, ok bool) {
	if len(b) == 0 || depth == 0 {
		return b, false
	}
	switch c := b[0]; { //nolint:staticcheck // most frequent case first
	case c == '"':
		return plainString(b)
	case c == '{':
		return plainMembers(b[1:], depth-1, '}', true)
	case c == '[':
		return plainMembers(b[1:], depth-1, ']', false)
	case c == 't':
		return bytes.CutPrefix(b, []byte("true"))
	case c == 'f':
		return bytes.CutPrefix(b, []byte("false"))
	case c == 'n':
		return bytes.CutPrefix(b, []byte("null"))
	default:
		return plainNatural(b)
	}
}

// plainMembers cuts off what follows an opening bracket, up to the closing one.
func plainMembers(b []byte, depth int, closing byte, named bool) (rest []byte, ok bool) {
	if len(b) > 0 && b[0] == closing {
		return b[1:], true
	}
	for {
		if named {
			if b, ok = plainString(b); !ok || len(b) == 0 || b[0] != ':' {
				return b, false
			}
			b = b[1:]
		}
		if b, ok = plainValue(b, depth); !ok || len(b) == 0 {
			return b, false
		}
		next := b[0]
		b = b[1:]
		if next != ',' {
			return b, next == closing
		}
	}
}

func plainString(b []byte) (rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return b, false
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[i+1:], true
		case c == '\\' || c < ' ':
			return b, false
		}
	}
	return b, false
}

// plainNatural cuts off a non-negative integer.
func plainNatural(b []byte) (rest []byte, ok bool) {
	n := 0
	for n < len(b) && '0' <= b[n] && b[n] <= '9' {
		n++
	}
	if n == 0 || n > 1 && b[0] == '0' {
		return b, false
	}
	return b[n:], true
}
