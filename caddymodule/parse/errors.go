// SPDX-License-Identifier: MIT

package parse

import (
	"maps"
	"slices"
	"strings"
)

// FieldErrors are the texts for each field that is wrong, in Meet's words.
type FieldErrors map[string][]string //nolint:errname // several at once

// Error names no field.
func (FieldErrors) Error() string { return "invalid fields" }

// Sentence says in one text what is wrong with which field.
func (e FieldErrors) Sentence() string {
	var said []string
	for _, name := range slices.Sorted(maps.Keys(e)) {
		text := strings.Join(e[name], " ")
		if name != "non_field_errors" {
			text = name + ": " + text
		}
		said = append(said, text)
	}
	return strings.Join(said, " ")
}

// Add adds what is wrong with a field.
func (e FieldErrors) Add(field, text string) { e[field] = append(e[field], text) }

// RequestError is a request that cannot be read at all. Its response has a code of RFC
// 6749 §5.2 in "error", since no text is published for it.
type RequestError struct {
	Status int
	Text   string
}

// Error is the text for the client.
func (e *RequestError) Error() string { return e.Text }
