// SPDX-License-Identifier: MIT

package sandbox

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseJSON(t *testing.T) {
	v, err := parseJSON([]byte(` {"b":[1,-2.5,1e400,true,null,"\u00e9"],"a":{"x":1},"a":"last"} `))
	require.NoError(t, err)
	o := v.(*Object)
	require.Equal(t, []string{"b", "a"}, o.Keys)
	require.Equal(t, "last", o.Values["a"])
	list := o.Values["b"].([]any)
	require.Equal(t, []any{json.Number("1"), -2.5}, list[:2])
	require.Equal(t, []any{true, nil, "é"}, list[3:])

	for _, body := range []string{"", "{", `{"a"}`, "[1,]", `{"a":1}x`, "NaN", `"\ud800"`, "\xff", `{"a":}`, "[1 2]"} {
		_, err := parseJSON([]byte(body))
		require.ErrorIs(t, err, errSyntax, body)
	}
}
