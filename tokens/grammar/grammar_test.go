// SPDX-License-Identifier: MIT

package grammar

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

func TestParseMail(t *testing.T) {
	for in, want := range map[string]string{
		"alice@example.org":               "alice@example.org",
		" Alice.B+tag@Example.ORG\r\n":    "alice.b+tag@example.org",
		"o'brien@xn--bcher-kva.example":   "o'brien@xn--bcher-kva.example",
		"!#$%&'*+/=?^_`{|}~-@a.example":   "!#$%&'*+/=?^_`{|}~-@a.example",
		strings.Repeat("a", 64) + "@b.de": strings.Repeat("a", 64) + "@b.de",
		"a@1.2.3.example":                 "a@1.2.3.example",
		// Both spellings of an internationalised domain give the same address.
		"user@münchen.example":        "user@xn--mnchen-3ya.example",
		"user@MÜNCHEN.example":        "user@xn--mnchen-3ya.example",
		"user@mu\u0308nchen.example":  "user@xn--mnchen-3ya.example",
		"user@XN--MNCHEN-3YA.example": "user@xn--mnchen-3ya.example",
		"user@mail.straße.example":    "user@mail.xn--strae-oqa.example",
		"user@mail.例え.テスト":            "user@mail.xn--r8jz45g.xn--zckzah",
	} {
		m, err := ParseMail(in)
		require.NoError(t, err, in)
		require.Equal(t, Mail(want), m)
	}
	for name, in := range map[string]string{
		"empty": "", "no at": "alice", "no local part": "@example.org", "no domain": "alice@",
		// An address with two domains could pass the list with one and receive mail at the other
		// (oauth2-proxy CVE-2026-40574).
		"two at": "alice@evil.org@example.org", "two at, the other way": "alice@example.org@evil.org", "at in quotes": `"alice@evil.org"@example.org`,
		"quoted": `"alice"@example.org`, "escaped": `alice\@evil.org@example.org`, "comment": "alice(x)@example.org", "comment behind": "alice@example.org(evil.org)",
		"display name": "Alice <alice@example.org>", "angle brackets": "<alice@example.org>", "list": "alice@example.org,bob@evil.org",
		"second address": "alice@example.org bob@evil.org", "address literal": "alice@[127.0.0.1]", "address": "alice@127.0.0.1",
		"trailing dot": "alice@example.org.", "leading dot": ".alice@example.org", "dot before at": "alice.@example.org", "two dots": "a..b@example.org",
		"empty label": "alice@example..org", "one label": "alice@localhost", "hyphen first": "alice@-example.org", "hyphen last": "alice@example-.org",
		"underscore": "alice@ex_ample.org", "percent": "alice@example.org%00", "NUL": "alice\x00@example.org", "NUL in the domain": "alice@example.org\x00.evil.org",
		"line feed inside": "alice@example.org\nbcc:bob@evil.org", "tab inside": "al\tice@example.org", "DEL": "alice\x7f@example.org",
		"local part beyond ASCII": "alicé@example.org", "A-label of nothing": "alice@xn--a.org", "A-label of ASCII": "alice@xn--example-.org", "A-label of upper case": "alice@xn--Mnchen-3ya-.org", "joiner": "alice@mün\u200dchen.org", "full width letters": "alice@ｅxample.org", "full stop and more": "alice@münchen。org", "right to left": "alice@aא.org", "dotless i": "alıce@example.org", "kelvin sign": "alice@examp\u212Ae.org",
		"full width at": "alice＠example.org", "full stop": "alice@example。org", "zero width": "alice@exam\u200bple.org", "not UTF-8": "alice@ex\xffample.org",
		"local part too long": strings.Repeat("a", 65) + "@example.org", "label too long": "a@" + strings.Repeat("b", 64) + ".org",
		"too long": "a@" + strings.Repeat("b.", 130) + "org", "route": "@evil.org:alice@example.org", "uucp": "evil!alice@example.org@x",
	} {
		_, err := ParseMail(in)
		require.ErrorIs(t, err, failure.ErrInvalidMail, name)
		if len(in) > 5 {
			require.NotContains(t, err.Error(), in, name)
		}
	}
}

// Parsing a parsed address again changes nothing, and the address has exactly one domain.
func FuzzParseMail(f *testing.F) {
	for _, s := range []string{"alice@example.org", " A@B.example ", `"a@b"@c.example`, "a@b@c.example", "a@[::1]", "a@xn--a.example", "ı@K.example", "a@b.example."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMail(s)
		if err != nil {
			return
		}
		again, err := ParseMail(string(m))
		if err != nil || again != m {
			t.Fatalf("%q was parsed as %q, and that as %q, %v", s, string(m), string(again), err)
		}
		if strings.Count(string(m), "@") != 1 || !strings.HasSuffix(string(m), "@"+m.Domain()) || !isDomain(m.Domain()) || len(m) > MaxMail {
			t.Fatalf("%q", string(m))
		}
		for i := range len(m) {
			if m[i] <= ' ' || m[i] > '~' || strings.ContainsRune(`"(),:;<>[\]`, rune(m[i])) {
				t.Fatalf("%q holds %q", string(m), m[i])
			}
		}
		if strings.Contains(m.String(), strings.Split(string(m), "@")[0]+"@") {
			t.Fatal("printed with its local part")
		}
	})
}

func TestScopes(t *testing.T) {
	s, err := ParseScopes("  rooms:list rooms:create\trooms:list ")
	require.NoError(t, err)
	require.Equal(t, Scopes{"rooms:list", "rooms:create"}, s)
	require.Equal(t, "rooms:list rooms:create", s.String())
	require.Equal(t, Scopes{"rooms:create"}, s.Intersect(Scopes{"rooms:create", "rooms:delete"}))
	require.Empty(t, s.Intersect(nil))
	for _, bad := range []string{`a"b`, `a\b`, "é", "ROOMS:LIST", "rooms:List", "a\x00b", strings.Repeat("a", 65)} {
		_, err := ParseScopes(bad)
		require.ErrorIs(t, err, failure.ErrInvalidScope, bad)
	}
	scope := rapid.SliceOf(rapid.StringMatching(`[a-z:]{1,8}`))
	rapid.Check(t, func(t *rapid.T) {
		a, _ := NewScopes(scope.Draw(t, "a")...)
		b, _ := NewScopes(scope.Draw(t, "b")...)
		for _, n := range a.Intersect(b) {
			require.True(t, a.Has(n) && b.Has(n), "the intersection has only scopes that both have")
		}
		back, err := ParseScopes(a.String())
		require.NoError(t, err)
		require.Equal(t, a, back)
	})
}
