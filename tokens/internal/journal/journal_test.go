// SPDX-License-Identifier: MIT

package journal

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

var script = redisdb.NewScript("return 0")

// record is an entry of rank Records.
func record(key, arg string) Entry {
	return Entry{Rank: Records, Key: key, Script: script, Args: []any{arg}, Expires: time.Now().Add(time.Hour)}
}

func keys(entries []Entry) (keys []string) {
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	return keys
}

func TestJournal_OrdersByRankThenTime(t *testing.T) {
	var j Journal
	j.Add(Entry{Rank: IdempotencyKeys, Name: "k", Key: "begun", Script: script})
	j.Add(Entry{Rank: Families, Key: "first", Script: script})
	require.False(t, j.Idle())
	j.Add(
		Entry{Rank: IdempotencyKeys, Name: "k", Key: "answered", Script: script},
		Entry{Rank: Families, Key: "second", Script: script},
		Entry{Rank: Users, Key: "user", Script: script},
		record("record", ""),
		Entry{Rank: Revocations, Key: "revoked", Script: script})
	require.Equal(t, []string{"user", "revoked", "first", "second", "answered", "record"}, keys(j.All()))
	require.Equal(t, []string{"first", "second", "record"}, keys(j.All(Families, Records)))
	j.Drop(IdempotencyKeys, "k")
	j.Drop(IdempotencyKeys, "k")
	j.Drop(Families, "")
	require.Equal(t, []string{"first", "second"}, keys(j.All(Families, IdempotencyKeys)))
}

// Entries of this gateway expire from the journal. Entries that all gateways hold do not.
func TestJournal_Forget(t *testing.T) {
	var j Journal
	j.Add(record("record", ""), Entry{Rank: Users, Name: "u", Key: "user", Script: script},
		Entry{Rank: Revocations, Key: "revoked", Script: script}, Entry{Rank: Edits, Name: "a", Key: "edited", Script: script})
	j.Age(Memory / 2)
	j.Add(Entry{Rank: Users, Name: "u", Key: "user", Script: script})
	j.Forget(time.Now().Add(-Memory))
	require.Equal(t, []string{"user", "edited", "revoked", "record"}, keys(j.All()))
	j.Age(Memory / 2)
	j.Forget(time.Now().Add(-Memory))
	require.Equal(t, []string{"user", "edited", "revoked"}, keys(j.All()), "the user was added again")
	j.Age(Memory / 2)
	j.Forget(time.Now().Add(-Memory))
	require.Equal(t, []string{"edited", "revoked"}, keys(j.All()))
	require.True(t, j.Idle())
}

func TestJournal_IsBounded(t *testing.T) {
	for rank, most := range bounds {
		var j Journal
		rank := Rank(rank)
		add := func(key string, size int) {
			if rank == Records {
				j.Add(record(key, strings.Repeat("x", size)))
				return
			}
			j.Add(Entry{Rank: rank, Key: key, Script: script, Args: []any{make([]byte, size)}})
		}
		bytes := func() int { return j.shelves[rank].bytes + j.records.bytes }
		for i := range most.entries + 10 {
			add(strconv.Itoa(i), 0)
		}
		all := j.All()
		if len(all) < most.entries { // the limit in bytes applies first
			require.Greater(t, bytes()+200, most.bytes)
		}
		require.LessOrEqual(t, len(all), most.entries)
		require.Equal(t, strconv.Itoa(most.entries+10-len(all)), all[0].Key, "the oldest entry is dropped first")
		for i := range 10 {
			add(strconv.Itoa(i), most.bytes/4)
		}
		require.Equal(t, []string{"7", "8", "9"}, keys(j.All()))
		require.LessOrEqual(t, bytes(), most.bytes)
		add("alone", 2*most.bytes)
		require.Equal(t, []string{"alone"}, keys(j.All()), "the newest entry is never dropped")
	}
}

// The journal keeps one entry per name, and a late older version does not replace a newer
// one.
func TestJournal_Names(t *testing.T) {
	var j Journal
	for v := range int64(1000) {
		j.Add(Entry{Rank: Edits, Name: "first", Key: "first", Script: script})
		j.Add(Entry{Rank: Edits, Name: "x", Version: v, Key: fmt.Sprint("v", v), Script: script})
		j.Add(Entry{Rank: Edits, Name: "x", Version: v - 1, Key: "older", Script: script})
	}
	require.Equal(t, []string{"first", "v999"}, keys(j.All()))
	require.Less(t, len(j.shelves[Edits].entries), 200, "replaced entries are removed")
	e, known := j.Get(Edits, "x")
	require.True(t, known)
	require.Equal(t, "v999", e.Key)
	size := e.size()
	e, _ = j.Get(Edits, "first")
	require.Equal(t, size+e.size(), j.shelves[Edits].bytes)
	for range 200 {
		j.Add(Entry{Rank: Edits, Name: "first", Key: "first", Script: script, Args: []any{strings.Repeat("x", 100)}})
	}
	e, known = j.Get(Edits, "x")
	require.True(t, known, "the entry is found after compaction")
	require.Equal(t, "v999", e.Key)
	_, known = j.Get(Records, "x")
	require.False(t, known)
}

func TestJournal_Complete(t *testing.T) {
	var j Journal
	for n := range uint64(History + 10) {
		j.Heard(n + 1)
		j.Heard(n + 1)
	}
	require.Len(t, j.heard, History)
	require.True(t, j.Complete(10, History+10))
	require.True(t, j.Complete(History, History+10))
	require.False(t, j.Complete(9, History+10), "the oldest entries are dropped")
	require.False(t, j.Complete(History+10, History+20))
	require.False(t, j.Complete(0, 1<<63))
}

// The remaining lifetime of an entry decreases while it is in the journal.
func TestEntry_Life(t *testing.T) {
	now := time.Unix(1000, 0)
	e := Entry{Args: []any{"x"}}
	args, due := e.args(now, false)
	require.True(t, due)
	require.Equal(t, []any{"x"}, args)
	e.Expires = now.Add(time.Minute)
	for _, emptied := range []bool{false, true} {
		args, due = e.args(now.Add(time.Second), emptied)
		require.True(t, due)
		require.Equal(t, []any{int64(59000), "x"}, args)
	}
	_, due = e.args(now.Add(time.Hour), false)
	require.False(t, due)
	e.Stays = true
	for left, emptied := range map[int64]bool{60000: false, 0: true} {
		args, due = e.args(now, emptied)
		require.True(t, due)
		require.Equal(t, []any{left, "x"}, args, "an emptied key is not restored")
	}
	args, due = e.args(now.Add(time.Hour), false)
	require.True(t, due)
	require.Equal(t, []any{int64(0), "x"}, args)
}
