// SPDX-License-Identifier: MIT

package parse

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxTarget is the maximum length of a request target. No route needs more.
const MaxTarget = 2048

// ErrTarget is returned for a request target that parsers could understand differently.
var ErrTarget = errors.New("malformed request target")

// RequestTarget is a parsed request target.
type RequestTarget struct {
	// Path begins with a slash and does not end with one; it is empty for the root. It
	// is not percent-decoded.
	Path string
	// Slash reports whether the path ended with a slash.
	Slash bool
	// Query is the raw query, without the question mark.
	Query string
}

// Target parses a request target (RFC 9112 §3.2). It accepts only origin-form and
// refuses dot segments, empty segments, path parameters, fragments, control bytes,
// bytes outside ASCII, and encoded slashes, backslashes, dots and percent signs. Other
// percent-encoding is kept, so that such a path matches no route.
func Target(raw string) (RequestTarget, error) {
	if len(raw) == 0 || len(raw) > MaxTarget || raw[0] != '/' {
		return RequestTarget{}, ErrTarget
	}
	path, query, _ := strings.Cut(raw, "?")
	if !validPath(path) || !validQuery(query) {
		return RequestTarget{}, ErrTarget
	}
	t := RequestTarget{Path: path, Query: query}
	if path[len(path)-1] == '/' {
		t.Path, t.Slash = path[:len(path)-1], true
	}
	return t, nil
}

// validPath reports whether path, which begins with a slash, is unambiguous.
func validPath(path string) bool {
	start := 1 // of the current segment
	encoded := false
	for i := 1; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			switch segment := path[start:i]; segment {
			case "":
				if i < len(path) || start < len(path) {
					return false // "//"
				}
			case ".", "..":
				return false
			}
			start = i + 1
			continue
		}
		switch c := path[i]; {
		case c == '%':
			if !validEscape(path[i:]) {
				return false
			}
			encoded = true
			i += 2
		case !pathByte[c]:
			return false
		}
	}
	if !encoded {
		return true
	}
	decoded, err := url.PathUnescape(path)
	return err == nil && utf8.ValidString(decoded)
}

// validEscape reports whether s begins with a percent-encoded byte without a structural
// meaning.
func validEscape(s string) bool {
	if len(s) < 3 {
		return false
	}
	c, err := strconv.ParseUint(s[1:3], 16, 8)
	if err != nil {
		return false
	}
	switch c {
	case '/', '\\', '.', '%', ';', '?', '#':
		return false
	default:
		return c >= 0x20 && c != 0x7f
	}
}

// validQuery refuses bytes that are not allowed in a query (RFC 3986 §3.4).
func validQuery(query string) bool {
	for i := range len(query) {
		if c := query[i]; c <= 0x20 || c >= 0x7f || c == '#' || c == '\\' {
			return false
		}
	}
	return true
}

// pathByte are the bytes allowed unencoded in a segment: pchar of RFC 3986 §3.3 without
// the semicolon, at which some servers cut paths.
var pathByte = func() (allowed [256]bool) {
	const pchar = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@"
	for i := range len(pchar) {
		allowed[pchar[i]] = true
	}
	return allowed
}()
