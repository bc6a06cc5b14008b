// SPDX-License-Identifier: MIT

package parse

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRoomsQuery(t *testing.T) {
	for raw, want := range map[string]RoomsParameters{
		"":                         {},
		"&&":                       {},
		"page=2":                   {Page: "2", HasPage: true},
		"page=":                    {HasPage: true},
		"page":                     {HasPage: true},
		"page_size=7&page=3":       {Page: "3", HasPage: true, PageSize: "7", HasPageSize: true},
		"slug=aae-erez-aaz":        {Slug: "aae-erez-aaz"},
		"p%61ge=%32":               {Page: "2", HasPage: true},
		"page=+2":                  {Page: " 2", HasPage: true},
		"x=1&x=2&page=1&Page=2":    {Page: "1", HasPage: true},
		"page=1=2":                 {Page: "1=2", HasPage: true},
		"access_token=x&format=js": {},
	} {
		got, err := RoomsQuery(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, got, raw)
	}
	for raw, want := range map[string]error{
		"page=1&page=2":           ErrRepeatedParameter,
		"page=1&p%61ge=2":         ErrRepeatedParameter,
		"page_size=1&page_size=1": ErrRepeatedParameter,
		"page=1;page=2":           ErrQuery,
		"page=%zz":                ErrQuery,
		"%":                       ErrQuery,
		"page=%00":                ErrQuery,
		"page=%ff":                ErrQuery,
		"page=%0d%0aHost:x":       ErrQuery,
	} {
		_, err := RoomsQuery(raw)
		require.ErrorIs(t, err, want, raw)
	}
}

func FuzzParseRoomsQuery(f *testing.F) {
	for _, raw := range []string{"", "page=1", "page=1&page=2", "page_size=100&slug=a-b", "%70age=1", "page=%00", "a;b=1"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := RoomsQuery(raw)
		if err != nil {
			require.Equal(t, RoomsParameters{}, q)
			return
		}
		require.True(t, q.HasPage || q.Page == "")
		require.True(t, q.HasPageSize || q.PageSize == "")
	})
}
