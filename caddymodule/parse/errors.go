// SPDX-License-Identifier: MIT

package parse

import (
	"maps"
	"slices"
	"strings"
)

// FieldErrors are texts for each invalid field, in Meet's words.
type FieldErrors map[string][]string //nolint:errname // several errors

// Error implements error. It contains no field.
func (FieldErrors) Error() string { return "invalid fields" }

// Sentence joins all texts into one.
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

// Add adds a text for a field.
func (e FieldErrors) Add(field, text string) { e[field] = append(e[field], text) }

// RequestError is a malformed request. No text is published for it, so "error" in its
// response is a code of RFC 6749 §5.2.
type RequestError struct {
	Status int
	Text   string
}

// Error returns the text for the client.
func (e *RequestError) Error() string { return e.Text }
