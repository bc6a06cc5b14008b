// SPDX-License-Identifier: MIT

//go:build !race

package backendclient_test

const dayUsers = 100_000
