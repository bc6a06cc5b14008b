// SPDX-License-Identifier: MIT

package tokens

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSlugs_KnownSlugsSendNoCommand(t *testing.T) {
	ctx := t.Context()
	a, server := overMiniredis(t)
	now := time.Now()
	a.now = func() time.Time { return now }
	page := map[string]string{}
	for i := range 20 {
		page[fmt.Sprintf("abc-defg-%d", i)] = fmt.Sprint(i)
	}
	a.RememberRooms("meet", maps.All(page))
	a.background.Wait()
	before := server.CommandCount()
	for range 10 {
		a.RememberRooms("meet", maps.All(page))
		room, err := a.FindSlug(ctx, "meet", "abc-defg-7")
		require.NoError(t, err)
		require.Equal(t, "7", room)
	}
	a.background.Wait()
	require.Equal(t, before, server.CommandCount())

	now = now.Add(24 * time.Hour)
	a.RememberRooms("meet", maps.All(page))
	a.background.Wait()
	require.Equal(t, before+20, server.CommandCount(), "the expiry is extended once a day")
	requireExpiring(t, server)
	require.NotContains(t, server.Dump(), "abc-defg")
}
