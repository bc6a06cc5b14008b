// SPDX-License-Identifier: MIT

package journal

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Entries of rank Records come back as they were added, in whatever chunks they are.
func TestRecords(t *testing.T) {
	var j Journal
	expires := time.UnixMilli(1_800_000_000_123)
	sizes := []int{0, 1, 40, recordChunk - recordHeader - 1, recordChunk, 3 * recordChunk, 40}
	for range 3 {
		for i, size := range sizes {
			j.Add(Entry{Rank: Records, Key: fmt.Sprint(i), Script: script, Args: []any{strings.Repeat("\x00", size)}, Expires: expires})
		}
	}
	all := j.All(Records)
	require.Len(t, all, 3*len(sizes))
	for i, e := range all {
		want := Entry{
			Rank: Records, Key: fmt.Sprint(i % len(sizes)), Script: script,
			Args: []any{strings.Repeat("\x00", sizes[i%len(sizes)])}, Expires: expires, at: e.at,
		}
		require.Equal(t, want, e)
		require.Less(t, e.Age(), time.Minute)
	}
	j.Age(time.Hour)
	j.Add(record("new", "x"))
	require.False(t, j.Idle())
	j.Forget(time.Now().Add(-time.Minute))
	require.Equal(t, []string{"new"}, keys(j.All()))
	require.Equal(t, recordHeader+4, j.records.bytes)
	j.Forget(time.Now().Add(time.Minute))
	require.True(t, j.Idle())
	require.Empty(t, j.All())
	require.Zero(t, j.records.bytes)
	require.Empty(t, j.records.chunks)
}

// The collector finds a few objects for thousands of records.
func TestRecords_Objects(t *testing.T) {
	var j Journal
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 50_000 {
		j.Add(record(fmt.Sprintf("mg1:t:%022d", i), strings.Repeat("x", 37)))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapObjects-before.HeapObjects), int64(2_000))
	require.Less(t, int64(after.HeapAlloc-before.HeapAlloc), int64(50_000*110))
	runtime.KeepAlive(&j)
}
