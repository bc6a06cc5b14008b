// SPDX-License-Identifier: MIT

package secrets

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

func TestStored_Matches(t *testing.T) {
	ring := func(secrets ...string) *vault.Ring {
		raw := make([][]byte, len(secrets))
		for i, s := range secrets {
			raw[i] = []byte(s)
		}
		kr, err := vault.NewRing(raw)
		require.NoError(t, err)
		return kr
	}
	const old, newer = "keyring-test-old-0123456789abcdef", "keyring-test-new-0123456789abcdef"
	kr := ring(old)
	v := New(kr, "id", "application", "secret", time.Now())
	require.True(t, v.Matches(kr, "application", "secret"))
	require.False(t, v.Matches(kr, "application", "Secret"))
	require.False(t, v.Matches(kr, "another", "secret"), "a record copied to another application")
	require.False(t, v.Matches(ring(newer), "application", "secret"))
	require.True(t, v.Matches(ring(newer, old), "application", "secret"))
	v.Hash = ""
	require.False(t, v.Matches(kr, "application", "secret"))
}
