// SPDX-License-Identifier: MIT

package backendclient

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func jwt(header, payload, signature string) string {
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(payload)) + "." + e.EncodeToString([]byte(signature))
}

func TestNewPattern_OnlyOfJWT(t *testing.T) {
	t.Parallel()
	for token, ok := range map[string]bool{
		jwt(`{"alg":"HS256"}`, `{"user_id":"x"}`, "0123456789"): true,
		"..":           true,
		"":             false,
		"opaque":       false,
		"a.b":          false,
		"e30.e30.e30.": false,
		"e30.e30.e3":   false, // one character too few
		"e30.e30.e31":  false, // another encoding of the bytes of e30
		"e30.e30.e30=": false,
		"e30.e3~.e30":  false,
	} {
		require.Equal(t, ok, newPattern(token) != nil, token)
	}
}

// Tokens of one application differ in few bytes.
func TestPattern_DifferencesOfMeetTokens(t *testing.T) {
	t.Parallel()
	token := func(user, issued int, signature string) *pattern {
		return newPattern(jwt(`{"alg":"HS256","typ":"JWT"}`, fmt.Sprintf(`{"iss":"lasuite-meet","iat":%d,"exp":%d,"user_id":"%08d-0000-4000-8000-00000000000a"}`, issued, issued+3600, user), signature))
	}
	first, second := token(12345678, 1_760_000_000, strings.Repeat("a", 32)), token(87654321, 1_760_000_055, strings.Repeat("b", 32))
	require.Equal(t, first.form(), second.form())
	// The last digits of three numbers, and the signature, with two bytes for each place.
	require.Len(t, first.appendDifferences(nil, second), 2+2+2+2+2+8+2+32)
	require.Empty(t, first.appendDifferences(nil, first))
}

// A token is the same after it was kept as its differences from any other of the same form.
func TestPattern_Differences(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(0, 300), 3, 3).Draw(t, "lengths")
		letters := rapid.SampledFrom([]string{"a", "ab", "abcdefgh"}).Draw(t, "letters")
		token := func(name string) string {
			part := func(i int) string {
				return rapid.StringOfN(rapid.RuneFrom([]rune(letters)), lengths[i], lengths[i], -1).Draw(t, fmt.Sprint(name, i))
			}
			return jwt(part(0), part(1), part(2))
		}
		text := token("second")
		p, second := newPattern(token("first")), newPattern(text)
		if p.form() != second.form() {
			t.Fatal("tokens of the same lengths have two forms")
		}
		differences := p.appendDifferences(nil, second)
		if back := string(p.appendEncoded(nil, p.appendDecoded(nil, string(differences)), 0)); back != text {
			t.Fatalf("%q became %q", text, back)
		}
	})
}
