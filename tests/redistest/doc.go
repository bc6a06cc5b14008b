// SPDX-License-Identifier: MIT

// Package redistest starts real Redis processes on loopback for tests: a single
// server, a Cluster and a master watched by Sentinel, each with the faults that
// an installation meets: stopped, killed, silent, read-only, flushed, restored
// from an old snapshot, failed over, a slot on the move, and, through a proxy,
// a network that is cut, slow or mute.
//
// Everything ends with the test, and also with the test binary, however it ends.
// Servers keep nothing on disk unless the test asks for it. Any number of test
// packages may run side by side.
//
// A test never skips because Redis is missing: it fails and says what to install.
package redistest
