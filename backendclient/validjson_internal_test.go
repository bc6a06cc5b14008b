// SPDX-License-Identifier: MIT

package backendclient

import (
	"encoding/json"
	"os"
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
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		require.Equal(t, json.Valid(b), validJSON(b))
	})
}

func TestPlainValue_AcceptsRecordedRooms(t *testing.T) {
	t.Parallel()
	recording, err := os.ReadFile("sandbox/testdata/meet-backend.jsonl")
	require.NoError(t, err)
	rooms := 0
	for line := range strings.Lines(string(recording)) {
		var r recorded
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		if r.Response.Status != 200 || !strings.HasSuffix(r.Request.Path, "/rooms/"+"5eed0000-0000-4000-8000-000000000001/") {
			continue
		}
		rooms++
		rest, ok := plainValue(r.Response.Body, 8)
		require.True(t, ok && len(rest) == 0, "%s", r.Response.Body)
	}
	require.Positive(t, rooms)
}
