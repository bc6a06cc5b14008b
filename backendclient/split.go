// SPDX-License-Identifier: MIT

package backendclient

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
)

// Lists are split without being decoded: rooms are passed on byte for byte, and
// encoding/json would read each three times. All functions here need valid JSON, such as
// the body of a reply.

// Members iterates over names and values of a valid JSON object, such as the body of a
// [Response]. Values are as written. For anything but an object it yields nothing. Of two
// members with the same name the last one counts.
func Members(object []byte) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		i := skipSpace(object, 0)
		if i == len(object) || object[i] != '{' {
			return
		}
		for i = skipSpace(object, i+1); object[i] != '}'; {
			end := skipValue(object, i)
			name := string(object[i+1 : end-1])
			if strings.IndexByte(name, '\\') >= 0 {
				name = unescaped(object[i:end])
			}
			i = skipSpace(object, skipSpace(object, end)+1) // the colon
			end = skipValue(object, i)
			if !yield(name, object[i:end:end]) {
				return
			}
			if i = skipSpace(object, end); object[i] == ',' {
				i = skipSpace(object, i+1)
			}
		}
	}
}

// unescaped decodes a JSON string. It is a function of its own because its result is
// allocated.
func unescaped(quoted []byte) (text string) {
	_ = json.Unmarshal(quoted, &text) // valid JSON
	return text
}

// elements splits an array. It returns nil if it is none, else not nil.
func elements(array []byte) []json.RawMessage {
	i := skipSpace(array, 0)
	if i == len(array) || array[i] != '[' {
		return nil
	}
	found := make([]json.RawMessage, 0, meetPageSize)
	for i = skipSpace(array, i+1); array[i] != ']'; {
		end := skipValue(array, i)
		found = append(found, array[i:end:end])
		if i = skipSpace(array, end); array[i] == ',' {
			i = skipSpace(array, i+1)
		}
	}
	return found
}

// member returns the value of a member, or nil.
func member(object []byte, name string) (last json.RawMessage) {
	for key, value := range Members(object) {
		if key == name {
			last = value
		}
	}
	return last
}

// RoomNames returns id and slug of a room in the body of a [Response]. A value that is not a
// string without escapes is "".
func RoomNames(room json.RawMessage) (id, slug string) {
	for key, value := range Members(room) {
		switch key {
		case "id":
			id = plainText(value)
		case "slug":
			slug = plainText(value)
		}
	}
	return id, slug
}

// plainText returns the text of a JSON string without escapes, else "".
func plainText(value json.RawMessage) string {
	if len(value) < 2 || value[0] != '"' || bytes.IndexByte(value, '\\') >= 0 {
		return ""
	}
	return string(value[1 : len(value)-1])
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the value that begins at i.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		for depth := 0; ; i++ {
			switch b[i] {
			case '"':
				i = skipString(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	if n := bytes.IndexAny(b[i:], ",]} \n\t\r"); n >= 0 {
		return i + n
	}
	return len(b)
}

func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}
