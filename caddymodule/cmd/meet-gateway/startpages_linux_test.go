// SPDX-License-Identifier: MIT

package main

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// residentFile returns how much of the program file is resident, in kB.
func residentFile(t *testing.T) int {
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	match := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(t, match)
	size, err := strconv.Atoi(string(match[1]))
	require.NoError(t, err)
	return size
}

func TestReleaseStartPages(t *testing.T) {
	before := residentFile(t)
	releaseStartPages()
	require.Less(t, residentFile(t), before/2)
}
