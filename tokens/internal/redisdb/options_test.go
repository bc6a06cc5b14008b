package redisdb

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// Stores that are reached in the same way are one: the module compares options as
// JSON.
func TestOptions_AreJSON(t *testing.T) {
	_, err := json.Marshal(Options{URL: "redis://localhost"})
	require.NoError(t, err)
}
