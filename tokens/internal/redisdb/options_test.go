// SPDX-License-Identifier: MIT

package redisdb

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// Options must encode as JSON: the module compares them as JSON to share stores.
func TestOptions_AreJSON(t *testing.T) {
	//lint:ignore SA1026 TLS is nil here, as it is when the module compares
	_, err := json.Marshal(Options{URL: "redis://localhost"}) //nolint:staticcheck // TLS is nil here
	require.NoError(t, err)
}
