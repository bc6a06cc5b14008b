// SPDX-License-Identifier: MIT

package caddymodule

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRoomsQuery(t *testing.T) {
	for raw, want := range map[string]roomsQuery{
		"":                         {},
		"&&":                       {},
		"page=2":                   {page: "2", hasPage: true},
		"page=":                    {hasPage: true},
		"page":                     {hasPage: true},
		"page_size=7&page=3":       {page: "3", hasPage: true, pageSize: "7", hasPageSize: true},
		"slug=aae-erez-aaz":        {slug: "aae-erez-aaz", hasSlug: true},
		"p%61ge=%32":               {page: "2", hasPage: true},
		"page=+2":                  {page: " 2", hasPage: true},
		"x=1&x=2&page=1&Page=2":    {page: "1", hasPage: true},
		"page=1=2":                 {page: "1=2", hasPage: true},
		"access_token=x&format=js": {},
	} {
		got, err := parseRoomsQuery(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, got, raw)
	}
	for raw, want := range map[string]error{
		"page=1&page=2":           errRepeatedParameter,
		"page=1&p%61ge=2":         errRepeatedParameter,
		"page_size=1&page_size=1": errRepeatedParameter,
		"page=1;page=2":           errMalformedQuery,
		"page=%zz":                errMalformedQuery,
		"%":                       errMalformedQuery,
		"page=%00":                errMalformedQuery,
		"page=%ff":                errMalformedQuery,
		"page=%0d%0aHost:x":       errMalformedQuery,
	} {
		_, err := parseRoomsQuery(raw)
		require.ErrorIs(t, err, want, raw)
	}
}

func FuzzParseRoomsQuery(f *testing.F) {
	for _, raw := range []string{"", "page=1", "page=1&page=2", "page_size=100&slug=a-b", "%70age=1", "page=%00", "a;b=1"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseRoomsQuery(raw)
		if err != nil {
			require.Equal(t, roomsQuery{}, q)
			return
		}
		require.True(t, q.hasPage || q.page == "")
		require.True(t, q.hasPageSize || q.pageSize == "")
		require.True(t, q.hasSlug || q.slug == "")
	})
}
