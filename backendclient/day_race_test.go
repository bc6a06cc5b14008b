// SPDX-License-Identifier: MIT

//go:build race

package backendclient_test

// dayUsers is less where each step costs ten times as much; make day has them all.
const dayUsers = 2_000
