// SPDX-License-Identifier: MIT

package tokens

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	_ "github.com/meet-gateway/meet-gateway/tests/seed" // makes the properties reproducible
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

const (
	oldSecret   = "keyring-test-old-0123456789abcdef"
	newerSecret = "keyring-test-new-0123456789abcdef"
)

func testKeyring(t testing.TB, secrets ...string) *vault.Ring {
	t.Helper()
	raw := make([][]byte, len(secrets))
	for i, s := range secrets {
		raw[i] = []byte(s)
	}
	kr, err := vault.NewRing(raw)
	require.NoError(t, err)
	return kr
}

func TestRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sum [32]byte
		copy(sum[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "sum"))
		n := rapid.Uint64()
		g := generations{n.Draw(t, "i"), n.Draw(t, "a"), n.Draw(t, "u"), n.Draw(t, "g")}
		b := encodeRecord(sum, g)
		state, back, issuedUnder, err := decodeRecord(b)
		require.NoError(t, err)
		require.EqualValues(t, recordLive, state)
		require.Equal(t, sum, back)
		require.Equal(t, g, issuedUnder)
		for n := range b {
			_, _, _, err := decodeRecord(b[:n])
			require.Error(t, err, "cut")
		}
		_, _, _, err = decodeRecord(append(b, 0))
		require.Error(t, err, "longer")
	})
	small := encodeRecord([32]byte{}, generations{3, 5, uint64(time.Now().Unix()), 2})
	require.LessOrEqual(t, len(small), 44, "Redis stores up to 44 bytes together with the object header")
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
