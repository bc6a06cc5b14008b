// SPDX-License-Identifier: MIT

package vault

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func testRing(t testing.TB, secrets ...string) *Ring {
	t.Helper()
	raw := make([][]byte, len(secrets))
	for i, s := range secrets {
		raw[i] = []byte(s)
	}
	kr, err := NewRing(raw)
	require.NoError(t, err)
	return kr
}

const (
	oldSecret   = "keyring-test-old-0123456789abcdef"
	newerSecret = "keyring-test-new-0123456789abcdef"
)

func TestKeyring_Sealed(t *testing.T) {
	kr := testRing(t, oldSecret)
	sealed := kr.Seal([]byte("value"), "place")
	plain, old, err := kr.Open(sealed, "place")
	require.NoError(t, err)
	require.False(t, old)
	require.Equal(t, "value", string(plain))

	_, _, err = kr.Open(sealed, "another place")
	require.ErrorIs(t, err, ErrUnsealable, "another place")
	_, _, err = testRing(t, newerSecret).Open(sealed, "place")
	require.ErrorIs(t, err, ErrUnsealable, "another key")
	for n := range sealed {
		_, _, err = kr.Open(sealed[:n], "place")
		require.ErrorIs(t, err, ErrUnsealable, "truncated to %d bytes", n)
		bent := append([]byte(nil), sealed...)
		bent[n] ^= 1
		_, _, err = kr.Open(bent, "place")
		require.ErrorIs(t, err, ErrUnsealable, "changed at byte %d", n)
	}
	plain, old, err = testRing(t, newerSecret, oldSecret).Open(sealed, "place")
	require.NoError(t, err)
	require.True(t, old, "sealed with an old key")
	require.Equal(t, "value", string(plain))
	require.NotEqual(t, sealed, kr.Seal([]byte("value"), "place"), "sealing is randomized")
}

func TestKeyring_Refuses(t *testing.T) {
	for name, secrets := range map[string][][]byte{
		"none": nil, "short": {[]byte("0123456789012345678901234567890")}, "second short": {[]byte(oldSecret), []byte("x")},
		"twice": {[]byte(oldSecret), []byte(oldSecret)},
	} {
		_, err := NewRing(secrets)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "01234567890", name)
	}
}

func TestKeyring_SeparatesParts(t *testing.T) {
	k := testRing(t, oldSecret).First()
	require.NotEqual(t, k.Sum(ForSecrets, "ab", "c"), k.Sum(ForSecrets, "a", "bc"))
	require.NotEqual(t, k.Sum(ForSecrets, "a"), k.Sum(ForMails, "a"), "purposes are separate")
	require.NotEqual(t, k.Sum(ForSecrets, "a"), k.Sum(ForSecrets, "a", ""))
}
