// SPDX-License-Identifier: MIT

package option

import (
	"errors"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

var errEmptyFile = errors.New("the file is missing or empty")

// Resolve replaces placeholders. An unset variable becomes an empty string; an
// unreadable or empty file and an unknown placeholder are errors.
func Resolve(repl *caddy.Replacer, text string) (string, error) {
	resolved, err := repl.ReplaceOrErr(text, false, true)
	if err != nil {
		return "", err
	}
	if resolved == "" && strings.Contains(text, "{file.") {
		return "", errEmptyFile
	}
	return resolved, nil
}

// Holds reports whether text contains a placeholder, so that its value is not known
// yet.
func Holds(text string) bool { return strings.Contains(text, "{") }
