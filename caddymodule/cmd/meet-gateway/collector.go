// SPDX-License-Identifier: MIT

package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// tuneCollector lowers GOGC while the heap is large, unless the environment has GOGC. A
// memory limit, which Caddy or GOMEMLIMIT sets, holds in both cases.
func tuneCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for now := standardGOGC; ; time.Sleep(time.Second) {
		metrics.Read(live)
		if wanted := gogcFor(live[0].Value.Uint64()); wanted != now {
			debug.SetGCPercent(wanted)
			now = wanted
		}
	}
}

const (
	standardGOGC = 100 // Go's default
	largeGOGC    = 50
	largeHeap    = 64 << 20
)

// gogcFor returns GOGC for the bytes that were in use after the last collection. Below
// largeHeap, a lower value saves little memory and costs p99. docs/decisions.md has the
// measurements.
func gogcFor(live uint64) int {
	if live < largeHeap {
		return standardGOGC
	}
	return largeGOGC
}
