// SPDX-License-Identifier: MIT

// Package seed decides where the randomness of tests begins: at the same place
// each time, so that a change is blamed for nothing but itself, or somewhere new
// in a soak, so that the rare is found by somebody who looks for it.
//
// Importing it does so for the properties of pgregory.net/rapid too.
package seed

import (
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	_ "pgregory.net/rapid" // registers its flags
)

// Soak is the environment variable that has seeds drawn if it is not empty.
// `make soak` sets it.
const Soak = "MEET_GATEWAY_SOAK"

// fixed is the seed otherwise.
const fixed = 1

func init() {
	if os.Getenv(Soak) != "" {
		return
	}
	// Before flags are parsed, so that -rapid.seed still decides.
	if err := flag.Set("rapid.seed", strconv.Itoa(fixed)); err != nil {
		panic(err)
	}
}

// Of returns the seed in an environment variable, if there is one, else the fixed
// one, or in a soak a drawn one. The test's log says which.
func Of(t *testing.T, variable string) uint64 {
	t.Helper()
	seed := uint64(fixed)
	if os.Getenv(Soak) != "" {
		seed = rand.Uint64()
	}
	if text := os.Getenv(variable); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("%s=%d", variable, seed)
	return seed
}
