// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"
)

var (
	errRepeatedParameter = errors.New("repeated query parameter")
	errMalformedQuery    = errors.New("malformed query")
)

// roomsQuery is what a caller may ask of a list of rooms. A parameter that was
// not sent is empty and its flag false.
type roomsQuery struct {
	page, pageSize, slug          string
	hasPage, hasPageSize, hasSlug bool
}

// parseRoomsQuery reads the allowed parameters of GET /rooms from a raw query.
// Nothing else is understood, so nothing else can be forwarded: an unknown
// parameter is ignored, a repeated known one is refused, because two readers
// would pick different ones.
func parseRoomsQuery(raw string) (roomsQuery, error) {
	var q roomsQuery
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		key, err := unescapeQuery(key)
		if err != nil {
			return roomsQuery{}, err
		}
		value, err = unescapeQuery(value)
		if err != nil {
			return roomsQuery{}, err
		}
		var dst *string
		var seen *bool
		switch key {
		case "page":
			dst, seen = &q.page, &q.hasPage
		case "page_size":
			dst, seen = &q.pageSize, &q.hasPageSize
		case "slug":
			dst, seen = &q.slug, &q.hasSlug
		default:
			continue
		}
		if *seen {
			return roomsQuery{}, errRepeatedParameter
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
		return "", errMalformedQuery // once a separator, no longer one
	}
	s, err := url.QueryUnescape(s)
	if err != nil || !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) {
		return "", errMalformedQuery
	}
	return s, nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
