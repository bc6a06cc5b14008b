// SPDX-License-Identifier: MIT

package backendclient

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzValidJSON compares validJSON with encoding/json.
func FuzzValidJSON(f *testing.F) {
	for _, seed := range []string{
		`{"id":"x","n":0,"on":true,"off":false,"none":null,"list":[1,[2],{}],"deep":{"a":{"b":[]}}}`,
		`[]`, `""`, `0`, `01`, `-1`, `1.5`, `1e9`, `1,2`, `tru`, `truefalse`, `{"a":1,}`, `[1,]`, `{"a"}`, `{"a":}`, `{,}`, `{"a":1}}`, `{"a":1]`,
		" {} ", `"\u0041"`, `"\x"`, "\"\x01\"", "\"\xff\"", `{"a":"b`, `[[[[[[[[[[]]]]]]]]]]`, ``, `{`, `"`,
		`{"\u0061":"\\"}`, `"\`, `"\"`, `[1 2]`, `[1,,2]`, `[,1]`, `{"a":1,"b"}`, `{1:2}`, `[}`, `{"a":[}`, `[nulls]`, `nul`, `1"x"`, "\x00", "1\x00", "[1\v]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		require.Equal(t, json.Valid(b), validJSON(b))
	})
}

// As deep as encoding/json nests, and no deeper.
func TestValidJSON_Depth(t *testing.T) {
	t.Parallel()
	for depth, valid := range map[int]bool{maxDepth: true, maxDepth + 1: false, 1_000_000: false} {
		for _, nested := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
			b := []byte(strings.Repeat(nested[0], depth-1) + "[]" + strings.Repeat(nested[1], depth-1))
			require.Equal(t, valid, json.Valid(b), depth)
			require.Equal(t, valid, validJSON(b), depth)
		}
	}
}
