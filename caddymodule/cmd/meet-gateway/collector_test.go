// SPDX-License-Identifier: MIT

package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGOGCFor(t *testing.T) {
	require.Equal(t, 100, gogcFor(0))
	require.Equal(t, 100, gogcFor(largeHeap-1))
	require.Equal(t, 50, gogcFor(largeHeap))
}

func TestTuneCollector_KeepsGOGC(t *testing.T) {
	const own = 123
	before := debug.SetGCPercent(own)
	defer debug.SetGCPercent(before)
	kept := make([]byte, 2*largeHeap)
	runtime.GC()
	t.Setenv("GOGC", "123")
	tuneCollector() // returns
	require.Equal(t, own, debug.SetGCPercent(own))
	runtime.KeepAlive(kept)
}

func TestTuneCollector_LargeHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	kept := make([]byte, 2*largeHeap)
	runtime.GC()
	go tuneCollector() // ends with the process, as in main
	percent := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	require.Eventually(t, func() bool {
		metrics.Read(percent)
		return percent[0].Value.Uint64() == largeGOGC
	}, 20*time.Second, time.Millisecond)
	runtime.KeepAlive(kept)
}
