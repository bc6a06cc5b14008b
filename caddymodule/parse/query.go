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
	Page, PageSize, Slug string
	HasPage, HasPageSize bool
}

// RoomsQuery parses the query of GET /rooms. It ignores unknown parameters, so that they
// are never forwarded, and refuses repeated known ones, of which parsers may pick either.
func RoomsQuery(raw string) (RoomsParameters, error) {
	if raw == "" {
		return RoomsParameters{}, nil
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return RoomsParameters{}, ErrQuery
	}
	for name, values := range query {
		for _, text := range append(values, name) {
			if !utf8.ValidString(text) || strings.ContainsFunc(text, isControl) {
				return RoomsParameters{}, ErrQuery
			}
		}
	}
	for _, name := range []string{"page", "page_size", "slug"} {
		if len(query[name]) > 1 {
			return RoomsParameters{}, ErrRepeatedParameter
		}
	}
	return RoomsParameters{
		Page: query.Get("page"), HasPage: query.Has("page"),
		PageSize: query.Get("page_size"), HasPageSize: query.Has("page_size"), Slug: query.Get("slug"),
	}, nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
