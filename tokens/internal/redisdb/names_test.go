// SPDX-License-Identifier: MIT

package redisdb

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

func TestParseRecordID(t *testing.T) {
	id := vault.RandomID(vault.TokenID)
	record, ok := ParseRecordID(KeyToken(id)[len("mg1:t:"):])
	require.True(t, ok)
	require.Equal(t, RecordOf([]byte(id)), record)
	for _, bad := range []string{"", "u", "*", string(make([]byte, 100)), KeyToken(id)} {
		_, ok := ParseRecordID(bad)
		require.False(t, ok, bad)
	}
}
