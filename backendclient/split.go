// SPDX-License-Identifier: MIT

package backendclient

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
)

// Lists are cut up without being decoded: rooms pass through byte for byte, and
// encoding/json would read each three times. All of this is for JSON that
// json.Valid has seen; a reply's body is.

// Members goes through the members of a JSON object that is valid, as the body of a
// [Response] is: the name, and the value as it is written. Of anything but an object it
// finds none. A name may come twice; of two values the last counts, as for most readers.
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

// unescaped is the text of a JSON string. It stands apart because what it decodes into
// is allocated.
func unescaped(quoted []byte) (text string) {
	_ = json.Unmarshal(quoted, &text) // it is valid
	return text
}

// elements cuts an array; nil if it is none, else not nil.
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

// member is the value of one member, nil if there is none.
func member(object []byte, name string) (last json.RawMessage) {
	for key, value := range Members(object) {
		if key == name {
			last = value
		}
	}
	return last
}

// RoomNames reads id and slug of a room as Meet writes them, out of the body of an
// [Response]. What is not plain text is "".
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

// plainText is a JSON string without escapes.
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

// skipValue is where the value that begins at i ends.
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
