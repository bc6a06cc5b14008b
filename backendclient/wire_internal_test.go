// SPDX-License-Identifier: MIT

package backendclient

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// The headers that reverse_proxy adds do not make the map grow.
func TestHeaders_HaveRoom(t *testing.T) {
	names := []string{"Accept", "Accept-Encoding", "User-Agent", "X-Forwarded-Proto", "X-Request-Id", "Authorization", "Content-Type"}
	added := []string{"X-Forwarded-For", "X-Forwarded-Host", "Via"}
	value := []string{"value"}
	var header http.Header
	fill := func() {
		h := newHeaders()
		for _, name := range names {
			h.set(name, "value")
		}
		for _, name := range added {
			h.header[name] = value
		}
		header = h.header
	}
	empty := testing.AllocsPerRun(100, func() { header = newHeaders().header })
	require.InDelta(t, empty, testing.AllocsPerRun(100, fill), 0)
	require.Len(t, header, len(names)+len(added))
}
