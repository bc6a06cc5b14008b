// SPDX-License-Identifier: MIT

package journal

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func keys(entries []Entry) (keys []string) {
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	return keys
}

func TestJournal_OrdersByRankThenTime(t *testing.T) {
	var j Journal
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	j.Add(Entry{Rank: IdempotencyKeys, Name: "k", Key: "begun", At: at(1)})
	j.Add(Entry{Rank: Families, Key: "first", At: at(2)})
	j.Add(Entry{Rank: IdempotencyKeys, Name: "k", Key: "answered", At: at(3)})
	j.Add(Entry{Rank: Families, Key: "second", At: at(4)})
	require.Equal(t, []string{"first", "second", "answered"}, keys(j.Since(at(0))))
	require.Equal(t, []string{"second", "answered"}, keys(j.Since(at(2))))
	j.Drop("k")
	j.Drop("")
	require.Equal(t, []string{"first", "second"}, keys(j.Since(at(0))))
}

func TestJournal_IsBounded(t *testing.T) {
	var j Journal
	now := time.Now()
	for i := range MaxEntries + 10 {
		j.Add(Entry{Key: strconv.Itoa(i), At: now})
	}
	all := j.Since(time.Time{})
	require.Len(t, all, MaxEntries)
	require.Equal(t, "10", all[0].Key, "the oldest goes first")

	for i := range 10 {
		j.Add(Entry{Key: strconv.Itoa(i), Args: []any{make([]byte, MaxBytes/4)}, At: now})
	}
	require.Equal(t, []string{"7", "8", "9"}, keys(j.Since(time.Time{})))
	require.LessOrEqual(t, j.bytes, MaxBytes)
	j.Add(Entry{Key: "alone", Args: []any{make([]byte, 2*MaxBytes)}})
	require.Len(t, j.entries, 1, "the newest is never forgotten")
}
