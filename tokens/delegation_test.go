// SPDX-License-Identifier: MIT

package tokens

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

func TestMayDelegate(t *testing.T) {
	for _, c := range []struct {
		domains string
		mail    Mail
		allowed bool
	}{
		{"example.org", "a@example.org", true},
		{"example.org", "a@sub.example.org", false},
		{"example.org", "a@evilexample.org", false},
		{"example.org", "a@example.org.evil.net", false},
		{".example.org", "a@sub.example.org", true},
		{".example.org", "a@a.b.example.org", true},
		{".example.org", "a@example.org", false},
		{".example.org", "a@evilexample.org", false},
		{"*", "a@anything.example", true},
		{"", "a@example.org", false},
		{"example.net example.org", "a@example.org", true},
		{"*", "boss@example.org", false},
		{"example.org", "boss@example.org", false},
	} {
		app := Application{Name: "x", Domains: strings.Fields(c.domains), DeniedMails: []Mail{"BOSS@Example.org"}}
		require.NoError(t, app.normalise())
		err := app.MayDelegate(c.mail)
		require.Equal(t, c.allowed, err == nil, "%q for %q", c.domains, string(c.mail))
		if err != nil {
			require.ErrorIs(t, err, ErrDomainNotAllowed)
		}
	}
	for _, bad := range []string{"", " ", ".", "..", "*.example.org", "exa mple.org", "localhost", "1.2.3.4", "ex_ample.org", "example.org.", "@example.org", "ｅxample.рф", "xn--a.org", "**"} {
		app := Application{Name: "x", Domains: []string{bad}}
		require.ErrorIs(t, app.normalise(), ErrInvalidApplication, bad)
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := vault.RandomID(vault.UserID)
		require.True(t, vault.IsID(id, vault.UserID))
		require.False(t, seen[id])
		seen[id] = true
	}
	for _, bad := range []string{"", "1234567", "123456789", "1234567-", "1234567é", "1234567\x00"} {
		require.False(t, vault.IsID(bad, vault.UserID), bad)
	}
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "a")
		b := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "b")
		require.Len(t, vault.Base62(a, vault.SecretDigits), vault.SecretDigits)
		require.Equal(t, string(a) == string(b), vault.Base62(a, vault.SecretDigits) == vault.Base62(b, vault.SecretDigits))
	})
}

func TestSecrets(t *testing.T) {
	for _, prefix := range []string{SecretPrefix, RefreshPrefix} {
		s := vault.NewSecret(prefix)
		require.Len(t, s, len(prefix)+vault.SecretDigits+vault.ChecksumDigits)
		require.True(t, ChecksumOK(s))
		for i := range s { // each single-letter typo
			typo := []byte(s)
			typo[i] = vault.Alphabet[(strings.IndexByte(vault.Alphabet, s[i])+1)%62]
			require.False(t, ChecksumOK(string(typo)), i)
		}
	}
	for _, bad := range []string{"", SecretPrefix, "mgs_abcdef", "mgx_" + strings.Repeat("a", 49)} {
		require.False(t, ChecksumOK(bad), bad)
	}
}

// A domain list accepts both spellings of an internationalised domain.
func TestMayDelegate_InternationalisedDomain(t *testing.T) {
	for _, domain := range []string{"münchen.example", "xn--mnchen-3ya.example", "MÜNCHEN.Example"} {
		app := Application{Name: "x", Domains: []string{domain, "." + domain}, DeniedMails: []Mail{"denied@münchen.example"}}
		require.NoError(t, app.normalise(), domain)
		require.Equal(t, []string{"xn--mnchen-3ya.example", ".xn--mnchen-3ya.example"}, app.Domains)
		for _, mail := range []string{"user@münchen.example", "user@xn--mnchen-3ya.example", "user@amt.münchen.example"} {
			m, err := ParseMail(mail)
			require.NoError(t, err)
			require.NoError(t, app.MayDelegate(m))
		}
		for _, mail := range []string{"denied@xn--mnchen-3ya.example", "user@munchen.example", "user@example"} {
			m, _ := ParseMail(mail)
			require.Error(t, app.MayDelegate(m))
		}
	}
	require.Error(t, (&Application{Name: "x", Domains: []string{"ｅxample.org"}}).normalise())
}
