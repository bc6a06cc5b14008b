// SPDX-License-Identifier: MIT

package parse

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxTarget bounds the request target. The longest one that a route can match
// is far shorter.
const MaxTarget = 2048

// ErrTarget is returned for a request target that has, or could have,
// more than one meaning.
var ErrTarget = errors.New("malformed request target")

// RequestTarget is a request target in the one form that the gateway works with.
type RequestTarget struct {
	// Path begins with a slash and never ends with one; it is empty for the root.
	// Nothing in it is percent-decoded.
	Path string
	// Slash is true if the caller's path ended with a slash.
	Slash bool
	// Query is the raw query, without the question mark.
	Query string
}

// Target reads a raw request target (RFC 9112 §3.2). It accepts
// origin-form only and refuses everything that two parsers could read
// differently: dot segments, empty segments, encoded slashes, backslashes, dots
// and percent signs, path parameters, fragments, control bytes and bytes that
// are not ASCII. What it accepts is matched as it stands: a percent-encoded
// path is a different path and matches no route.
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

// validPath reports whether path, which begins with a slash, has one meaning.
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

// validEscape reports whether s begins with a percent-encoded byte that cannot
// be taken for anything structural.
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

// validQuery refuses the bytes that have no place in a query (RFC 3986 section
// 3.4); what is left is read by RoomsQuery.
func validQuery(query string) bool {
	for i := range len(query) {
		if c := query[i]; c <= 0x20 || c >= 0x7f || c == '#' || c == '\\' {
			return false
		}
	}
	return true
}

// pathByte holds the bytes that may stand unencoded in a segment: pchar of RFC
// 3986 section 3.3 without the semicolon, which some servers cut paths at.
var pathByte = func() (allowed [256]bool) {
	const pchar = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@"
	for i := range len(pchar) {
		allowed[pchar[i]] = true
	}
	return allowed
}()
