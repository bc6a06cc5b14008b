// SPDX-License-Identifier: MIT

package redisdb

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// Stores with the same options are shared: the module compares options as JSON.
func TestOptions_AreJSON(t *testing.T) {
	//lint:ignore SA1026 TLS is nil here, as it is when the module compares
	_, err := json.Marshal(Options{URL: "redis://localhost"}) //nolint:staticcheck // as above
	require.NoError(t, err)
}
