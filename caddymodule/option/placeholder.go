// SPDX-License-Identifier: MIT

package option

import (
	"errors"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

var errEmptyFile = errors.New("the file is missing or empty")

// Resolve replaces placeholders in a configured text. A variable that is not
// set gives an empty text; a file that cannot be read, or a placeholder that
// does not exist, is an error.
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

// Holds reports whether a configured text holds a placeholder, so that its value is
// known when the configuration is loaded and not before.
func Holds(text string) bool { return strings.Contains(text, "{") }
