// SPDX-License-Identifier: MIT

//go:build race

package backendclient_test

// dayUsers is small because the race detector makes each step ten times slower. "make day" uses
// the full number.
const dayUsers = 2_000
