// SPDX-License-Identifier: MIT

package storetest

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

func testSlugs(t *testing.T, open Opener) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	slug := "abc-" + tokens.NewPassword()[:8]
	find := func(n *tokens.Authority, backend, slug string) string {
		room, err := n.FindSlug(ctx, backend, slug)
		if err != nil {
			require.ErrorIs(t, err, tokens.ErrNotFound)
		}
		return room
	}
	require.Empty(t, find(a, "meet", slug))
	a.RememberRooms("meet", maps.All(map[string]string{slug: "room-1", "not a slug": "room-2", "": "room-3"}))
	Eventually(t, "the other gateway finds the room", func() bool { return find(b, "meet", slug) == "room-1" })
	require.Equal(t, "room-1", find(a, "meet", slug))
	require.Empty(t, find(b, "another meet", slug))
	require.Empty(t, find(b, "meet", "not a slug"))
	require.Empty(t, find(b, "meet", ""))

	// The slug moved to another room.
	a.RememberRooms("meet", maps.All(map[string]string{slug: "room-4"}))
	Eventually(t, "the newer room is found", func() bool { return find(a, "meet", slug) == "room-4" })
	require.NoError(t, b.ForgetSlug(ctx, "meet", slug, "room-1"))
	require.Equal(t, "room-4", find(b, "meet", slug), "only a wrong room is forgotten")
	require.NoError(t, b.ForgetSlug(ctx, "meet", slug, "room-4"))
	require.Empty(t, find(b, "meet", slug))
}
