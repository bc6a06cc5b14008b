// SPDX-License-Identifier: MIT

package tests

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A stopped gateway removes itself from the list. Otherwise it would count as cut off, and in the
// division of limits. The test repeats, because Caddy cleans up modules in random order.
func TestStop_RemovesTheGatewayFromTheList(t *testing.T) {
	path, err := binary()
	require.NoError(t, err)
	in := newInstallation(t)
	redis := in.redis.Client()
	for range 4 {
		g := in.add(0)
		g.start(release{binary: path, caddyfile: "../Caddyfile"})
		listed := func() int64 { return redis.HLen(t.Context(), "mg1:gateways").Val() }
		require.Eventually(t, func() bool { return listed() == 1 }, 20*time.Second, 10*time.Millisecond)
		g.stop()
		require.Zero(t, listed(), g.out.String())
	}
}
