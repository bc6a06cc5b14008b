// SPDX-License-Identifier: MIT

// Package cluster holds black-box tests of several gateways that share one
// Redis: real processes on loopback, in front of a Meet in memory that is
// reached over TCP, with real faults of Redis, of the network, of Meet and of
// the gateways themselves.
//
// The gateways are this test binary, started again as Caddy, so that the race
// detector watches them too.
package cluster
