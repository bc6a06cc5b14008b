package tokens

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	_ "github.com/meet-gateway/meet-gateway/tests/seed" // the same properties each time
)

func testKeyring(t testing.TB, secrets ...string) *keyring {
	t.Helper()
	raw := make([][]byte, len(secrets))
	for i, s := range secrets {
		raw[i] = []byte(s)
	}
	kr, err := newKeyring(raw)
	require.NoError(t, err)
	return kr
}

const (
	oldSecret   = "keyring-test-old-0123456789abcdef"
	newerSecret = "keyring-test-new-0123456789abcdef"
)

func TestKeyring_Sealed(t *testing.T) {
	kr := testKeyring(t, oldSecret)
	sealed := kr.seal([]byte("value"), "place")
	plain, old, err := kr.open(sealed, "place")
	require.NoError(t, err)
	require.False(t, old)
	require.Equal(t, "value", string(plain))

	_, _, err = kr.open(sealed, "another place")
	require.ErrorIs(t, err, errUnsealable, "moved")
	_, _, err = testKeyring(t, newerSecret).open(sealed, "place")
	require.ErrorIs(t, err, errUnsealable, "another key")
	for n := range sealed {
		_, _, err = kr.open(sealed[:n], "place")
		require.ErrorIs(t, err, errUnsealable, "cut to %d", n)
		bent := append([]byte(nil), sealed...)
		bent[n] ^= 1
		_, _, err = kr.open(bent, "place")
		require.ErrorIs(t, err, errUnsealable, "bent at %d", n)
	}
	plain, old, err = testKeyring(t, newerSecret, oldSecret).open(sealed, "place")
	require.NoError(t, err)
	require.True(t, old, "to be sealed again")
	require.Equal(t, "value", string(plain))
	require.NotEqual(t, sealed, kr.seal([]byte("value"), "place"), "the same value twice looks different")
}

func TestKeyring_Refuses(t *testing.T) {
	for name, secrets := range map[string][][]byte{
		"none": nil, "short": {[]byte("0123456789012345678901234567890")}, "second short": {[]byte(oldSecret), []byte("x")},
		"twice": {[]byte(oldSecret), []byte(oldSecret)},
	} {
		_, err := newKeyring(secrets)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "01234567890", name)
	}
}

func TestKeyring_PartsDoNotRunTogether(t *testing.T) {
	k := testKeyring(t, oldSecret).first()
	require.NotEqual(t, k.sum(forSecrets, "ab", "c"), k.sum(forSecrets, "a", "bc"))
	require.NotEqual(t, k.sum(forSecrets, "a"), k.sum(forMails, "a"), "purposes are apart")
	require.NotEqual(t, k.sum(forSecrets, "a"), k.sum(forSecrets, "a", ""))
}

func TestVerifier(t *testing.T) {
	kr := testKeyring(t, oldSecret)
	v := kr.newVerifier("id", "application", "secret", time.Now())
	require.True(t, kr.matches(v, "application", "secret"))
	require.False(t, kr.matches(v, "application", "Secret"))
	require.False(t, kr.matches(v, "another", "secret"), "a record copied to another application")
	require.False(t, testKeyring(t, newerSecret).matches(v, "application", "secret"))
	require.True(t, testKeyring(t, newerSecret, oldSecret).matches(v, "application", "secret"))
	v.Hash = ""
	require.False(t, kr.matches(v, "application", "secret"))
}

func TestRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sum [32]byte
		copy(sum[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "sum"))
		n := rapid.Uint64()
		g := generations{n.Draw(t, "i"), n.Draw(t, "a"), n.Draw(t, "u"), n.Draw(t, "g")}
		b := encodeRecord(sum, g)
		state, back, births, err := decodeRecord(b)
		require.NoError(t, err)
		require.EqualValues(t, recordLive, state)
		require.Equal(t, sum, back)
		require.Equal(t, g, births)
		for n := range b {
			_, _, _, err := decodeRecord(b[:n])
			require.Error(t, err, "cut")
		}
		_, _, _, err = decodeRecord(append(b, 0))
		require.Error(t, err, "longer")
	})
	small := encodeRecord([32]byte{}, generations{3, 5, uint64(time.Now().Unix()), 2})
	require.LessOrEqual(t, len(small), 44, "the longest value that Redis keeps in one piece with its header")
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(encodeRecord([32]byte{1}, generations{1, 2, 3, 4}))
	f.Add([]byte{})
	f.Add(append(make([]byte, 33), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		state, sum, g, err := decodeRecord(b)
		if err != nil {
			return
		}
		again := encodeRecord(sum, g)
		again[0] = state
		if _, s, h, err := decodeRecord(again); err != nil || s != sum || h != g {
			t.Fatalf("%x", b)
		}
	})
}
