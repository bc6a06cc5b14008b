// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWithoutNulls(t *testing.T) {
	for room, want := range map[string]string{
		`{"id":"a", "telephony": {"pin_code":"1"}}`:                                    `{"id":"a", "telephony": {"pin_code":"1"}}`,
		`{"id":"a","telephony":{"enabled":true,"pin_code":null,"phone_number":"+33"}}`: `{"id":"a","telephony":{"enabled":true,"phone_number":"+33"}}`,
		`{"configuration":{"pin_code":null},"telephony":{"pin_code":null}}`:            `{"configuration":{"pin_code":null},"telephony":{}}`,
		`{"url":null,"name":null,"slug":"x","configuration":null,"telephony":null}`:    `{"slug":"x"}`,
		`{"later":null,"slug":"null"}`:                                                 `{"later":null,"slug":"null"}`,
		`{"Telephony":{"pin_code":null}}`:                                              `{"Telephony":{"pin_code":null}}`,
		`{"name":"\u0022null","telephony":{"a":[null]}}`:                               `{"name":"\u0022null","telephony":{"a":[null]}}`,
		`{"url":"x","url":null,"slug":null,"slug":"s"}`:                                `{"slug":"s"}`,
		`{"\u0075rl":null,"URL":null}`:                                                 `{"URL":null}`,
		`[null]`:                                                                       `[null]`, `null`: `null`,
	} {
		require.Equal(t, want, string(withoutNulls(json.RawMessage(room))))
	}
}

// FuzzWithoutNulls checks that an edited room is valid JSON, and that another edit does not
// make it longer.
func FuzzWithoutNulls(f *testing.F) {
	f.Add([]byte(`{"id":"a","telephony":{"pin_code":null},"url":null}`))
	f.Add([]byte(`{"a":{"telephony":null},"telephony":[null]}`))
	f.Fuzz(func(t *testing.T, room []byte) {
		if !json.Valid(room) {
			return
		}
		edited := withoutNulls(room)
		require.True(t, json.Valid(edited), "%s", edited)
		require.LessOrEqual(t, len(withoutNulls(edited)), len(edited))
	})
}
