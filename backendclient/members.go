// SPDX-License-Identifier: MIT

package backendclient

import (
	"bytes"
	"encoding/json"
	"iter"
)

// The functions here need valid JSON, such as the body of a [Response].

// Members iterates over names and values of a JSON object. Values are as written. For
// anything but an object it yields nothing. Of two members with the same name the last
// one counts.
func Members(object []byte) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		s := scanner{json: object}
		for name := range s.items {
			if value := s.value(); name != nil && !yield(string(name), value) {
				return
			}
		}
	}
}

// member returns the value of a member, or nil.
func member(object []byte, name string) (last json.RawMessage) {
	s := scanner{json: object}
	for key := range s.items {
		if value := s.value(); string(key) == name {
			last = value
		}
	}
	return last
}

// plainText returns the text of a JSON string without escapes, else "".
func plainText(value json.RawMessage) string {
	if len(value) < 2 || value[0] != '"' || bytes.IndexByte(value, '\\') >= 0 {
		return ""
	}
	return string(value[1 : len(value)-1])
}
