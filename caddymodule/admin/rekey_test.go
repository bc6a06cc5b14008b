// SPDX-License-Identifier: MIT

package admin

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRekey(t *testing.T) {
	a := newTester(t)
	a.object(http.StatusCreated, http.MethodPost, "applications", `{"name": "Calendar"}`)
	require.Equal(t, map[string]any{"running": false, "records": 0.0}, a.object(http.StatusOK, http.MethodGet, "secrets/rekey", ""))
	done := a.object(http.StatusOK, http.MethodPost, "secrets/rekey", "")
	require.Equal(t, 1.0, done["records"])
	require.Len(t, done["keys"], 1)

	rekeyRecords.Store(8)
	defer rekeyRecords.Store(0)
	require.Equal(t, map[string]any{"running": true, "records": 7.0}, a.object(http.StatusOK, http.MethodGet, "secrets/rekey", ""))
	require.Equal(t, http.StatusConflict, a.call(http.MethodPost, "secrets/rekey", "").Code)
	rekeyRecords.Store(0)
	a.redis.Close()
	require.Equal(t, http.StatusServiceUnavailable, a.call(http.MethodPost, "secrets/rekey", "").Code)
	require.Zero(t, rekeyRecords.Load())
}
