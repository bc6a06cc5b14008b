// SPDX-License-Identifier: MIT

package caddymodule

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each change of readiness is logged once, and flapping fills no log.
func TestReadinessLog(t *testing.T) {
	var l readinessLog
	now := time.Now()
	after := func(d time.Duration, ready bool) bool {
		now = now.Add(d)
		return l.note(ready, now)
	}
	require.False(t, after(0, true), "it starts ready")
	require.True(t, after(time.Second, false))
	require.False(t, after(time.Minute, false))
	require.True(t, after(time.Second, true))
	require.False(t, after(time.Second, true))

	lines := 0
	for i := range 60 {
		if after(time.Second, i%2 == 1) {
			lines++
		}
	}
	require.LessOrEqual(t, lines, 12, "two lines in ten seconds")

	require.True(t, after(time.Minute, false) || l.notReady)
	after(time.Second, true)
	require.False(t, after(time.Second, false))
	require.True(t, after(outagePeriod, false), "it stays so, and is logged late")
}
