// SPDX-License-Identifier: MIT

package cluster

import (
	"os"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/meet-gateway/meet-gateway/caddymodule"
)

// beGateway is the environment variable that makes the test binary run as the gateway.
const beGateway = "CLUSTER_TEST_BE_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(beGateway) != "" {
		caddycmd.Main()
		return
	}
	os.Exit(m.Run())
}
