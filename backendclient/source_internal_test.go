// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWithSource(t *testing.T) {
	var w waiters
	caller := Caller{Credentials: Credentials{ClientID: "a", ClientSecret: "b"}, Mail: "alice@example.com", Source: "192.0.2.1"}
	source := func() string { return Source(w.withSource(context.Background(), caller)) }
	w.enter(caller.identity())
	require.Equal(t, "192.0.2.1", source())
	w.enter(caller.identity())
	require.Empty(t, source(), "two callers wait, so there is no single source")
	w.leave(caller.identity())
	require.Equal(t, "192.0.2.1", source())
	w.leave(caller.identity())
	require.Empty(t, w.counts)
	require.Empty(t, Source(context.Background()))
}
