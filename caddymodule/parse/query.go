// SPDX-License-Identifier: MIT

package parse

import (
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Errors of RoomsQuery.
var (
	ErrRepeatedParameter = errors.New("repeated query parameter")
	ErrQuery             = errors.New("malformed query")
)

// RoomsParameters are the query parameters of a list of rooms.
type RoomsParameters struct {
	Page, PageSize, Slug          string
	HasPage, HasPageSize, HasSlug bool
}

// RoomsQuery parses the query of GET /rooms. It ignores unknown parameters, so that
// they are never forwarded, and refuses repeated known ones, of which parsers may pick
// either.
func RoomsQuery(raw string) (RoomsParameters, error) {
	var q RoomsParameters
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		key, err := unescapeQuery(key)
		if err != nil {
			return RoomsParameters{}, err
		}
		value, err = unescapeQuery(value)
		if err != nil {
			return RoomsParameters{}, err
		}
		var dst *string
		var seen *bool
		switch key {
		case "page":
			dst, seen = &q.Page, &q.HasPage
		case "page_size":
			dst, seen = &q.PageSize, &q.HasPageSize
		case "slug":
			dst, seen = &q.Slug, &q.HasSlug
		default:
			continue
		}
		if *seen {
			return RoomsParameters{}, ErrRepeatedParameter
		}
		*dst, *seen = value, true
	}
	return q, nil
}

func unescapeQuery(s string) (string, error) {
	if !strings.ContainsAny(s, "%+;") {
		return s, nil
	}
	if strings.Contains(s, ";") {
		return "", ErrQuery // some parsers take it for a separator
	}
	s, err := url.QueryUnescape(s)
	if err != nil || !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) {
		return "", ErrQuery
	}
	return s, nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
