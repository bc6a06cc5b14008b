// SPDX-License-Identifier: MIT

package tests

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A gateway that is stopped takes itself off the list: it is not taken for one that is
// cut off, or counted among those that share the limits. Once would prove little, since
// Caddy cleans modules up in any order.
func TestStop_TakesTheGatewayOffTheList(t *testing.T) {
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
