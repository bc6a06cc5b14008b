// SPDX-License-Identifier: MIT

// Package cluster holds black-box tests of several gateways that share one
// Redis. The gateways and Redis are real processes on loopback, Meet is a
// sandbox in the test process. The tests inject faults into Redis, the network,
// Meet and the gateways.
//
// A gateway process is the test binary itself, started as Caddy, so that the
// race detector covers the gateways.
package cluster
