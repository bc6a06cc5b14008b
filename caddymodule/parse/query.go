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

// RoomsParameters are the parameters of a list of rooms. One that was not sent is empty
// and its flag is false.
type RoomsParameters struct {
	Page, PageSize, Slug          string
	HasPage, HasPageSize, HasSlug bool
}

// RoomsQuery reads the allowed parameters of GET /rooms from a raw query.
// Nothing else is understood, so nothing else can be forwarded: an unknown
// parameter is ignored, a repeated known one is refused, because two readers
// would pick different ones.
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
		return "", ErrQuery // once a separator, no longer one
	}
	s, err := url.QueryUnescape(s)
	if err != nil || !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) {
		return "", ErrQuery
	}
	return s, nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
