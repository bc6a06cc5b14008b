// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"runtime"
	"runtime/trace"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadTrace: a trace of this process shows the collections in it.
func TestReadTrace(t *testing.T) {
	const cycles = 3
	var recorded bytes.Buffer
	require.NoError(t, trace.Start(&recorded))
	for range cycles {
		runtime.GC()
	}
	trace.Stop()
	r, err := readTrace(&recorded)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(r.Marks), cycles)
	require.Positive(t, r.Marks[0])
	require.Less(t, sum(r.Marks), r.Took)
	count := map[string]int{}
	for _, s := range r.Stops {
		count[s.Reason]++
		require.Positive(t, s.Took)
		require.GreaterOrEqual(t, s.Took, s.Stopping)
	}
	require.GreaterOrEqual(t, count[sweepTermination], cycles)
	require.GreaterOrEqual(t, count[markTermination], cycles)
	require.Positive(t, r.longest())
	require.NotEmpty(t, r.Waits)

	_, err = readTrace(strings.NewReader("no trace"))
	require.Error(t, err)
}
