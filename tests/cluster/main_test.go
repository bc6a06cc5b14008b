// SPDX-License-Identifier: MIT

package cluster

import (
	"os"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/meet-gateway/meet-gateway/caddymodule"
)

// beGateway in the environment turns the test binary into the gateway.
const beGateway = "CLUSTER_TEST_BE_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(beGateway) != "" {
		caddycmd.Main()
		return
	}
	os.Exit(m.Run())
}
