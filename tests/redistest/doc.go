// SPDX-License-Identifier: MIT

// Package redistest starts real Redis processes on loopback for tests: a single server, a
// Cluster, and a group watched by Sentinels. It injects their faults: stopped, killed,
// silent, read-only, flushed, restored from a snapshot, failed over, a slot on the move,
// and a network that is cut, slow or mute.
//
// Everything ends with the test, or with the test binary. Servers keep nothing on disk
// unless the test asks for it. Test packages may run in parallel. A test fails if Redis is
// not installed.
package redistest
