// SPDX-License-Identifier: MIT

// Package seed chooses the seeds of random tests. By default they are fixed, so that a
// failure comes from the change under test. In a soak they are drawn, to find rare
// failures.
//
// Importing it also seeds the properties of pgregory.net/rapid.
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

// Soak is the environment variable that makes tests draw their seeds if it is not
// empty. `make soak` sets it.
const Soak = "MEET_GATEWAY_SOAK"

// fixed is the default seed.
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

// Of returns the seed from an environment variable, or the fixed one, or in a soak a
// drawn one. It logs the choice.
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
