// SPDX-License-Identifier: MIT

package idempotency

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseKey(t *testing.T) {
	for header, want := range map[string]string{
		`8e03978e-40d5-43dd-bc93-6894a57f9324`:   "8e03978e-40d5-43dd-bc93-6894a57f9324",
		`"8e03978e-40d5-43dd-bc93-6894a57f9324"`: "8e03978e-40d5-43dd-bc93-6894a57f9324",
		` "a" `:                                  "a",
		`"a\"b\\c"`:                              `a"b\c`,
		`a"b`:                                    `a"b`,
		`~!`:                                     "~!",
		strings.Repeat("k", 255):                 strings.Repeat("k", 255),
	} {
		got, err := ParseKey(header)
		require.NoError(t, err, "%q", header)
		require.Equal(t, want, got)
	}
	for _, header := range []string{
		"", " ", `""`, `"`, `"a`, `"a\`, `"a\b"`, `"a"b`, `"a";p=1`, `"a b"`, "a b", "é", "a\x00", "a\x7f", "a\n",
		strings.Repeat("k", 256),
	} {
		_, err := ParseKey(header)
		require.ErrorIs(t, err, ErrInvalidIdempotencyKey, "%q", header)
		require.NotContains(t, err.Error(), "kkk")
	}
}

func FuzzParseKey(f *testing.F) {
	f.Fuzz(func(t *testing.T, header string) {
		key, err := ParseKey(header)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalidIdempotencyKey)
			return
		}
		require.NoError(t, checkIdempotencyKey(key))
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		again, err := ParseKey(quoted)
		require.NoError(t, err)
		require.Equal(t, key, again)
	})
}
