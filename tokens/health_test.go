// SPDX-License-Identifier: MIT

package tokens

import (
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Every error of Ready maps to a word of the closed set.
func TestProblemWord(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		nil: "", redisdb.ErrNotPrimary: "replica", redisdb.ErrUndecided: "sentinels_disagree", redisdb.ErrUnfollowed: "sentinels_silent",
		feed.ErrUnproven: "unproven", installation.ErrMissingKey: "keys_missing", io.EOF: "unreachable",
	} {
		got := problemWord(err)
		require.Equal(t, want, got)
		require.True(t, got == "" || slices.Contains(StoreProblems, got), got)
	}
}
