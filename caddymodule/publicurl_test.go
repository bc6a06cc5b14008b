// SPDX-License-Identifier: MIT

package caddymodule

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPublicURL_Page(t *testing.T) {
	u := publicURL("https://a/rooms/")
	require.Equal(t, "https://a/rooms/", u.page(1, 20, false))
	require.Equal(t, "https://a/rooms/?page_size=7", u.page(1, 7, true))
	require.Equal(t, "https://a/rooms/?page=3", u.page(3, 20, false))
	require.Equal(t, "https://a/rooms/?page=3&page_size=20", u.page(3, 20, true))
}
