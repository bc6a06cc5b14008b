// SPDX-License-Identifier: MIT

// Package journal remembers what this gateway has just written to Redis, so that it
// can be written again to a server that has lost it.
package journal

import (
	"slices"
	"sync"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Rank is the order in which entries are written again.
type Rank int

// The ranks, first to last.
const (
	Families        Rank = iota // of refresh tokens
	IdempotencyKeys             // and the answers under them
)

// Entry is one write: a script that changes nothing where nothing was lost.
type Entry struct {
	Rank Rank
	// Name is what the entry is about. A later one of the same name replaces it;
	// entries without a name stay side by side.
	Name   string
	Key    string
	Script *redisdb.Script
	Args   []any
	At     time.Time
}

const (
	// MaxEntries bounds how many writes are remembered: the oldest goes first.
	MaxEntries = 16384
	// MaxBytes bounds their size in memory.
	MaxBytes = 32 << 20
)

// Journal is a list of entries, oldest first. The zero value is empty.
type Journal struct {
	mu      sync.Mutex
	entries []Entry
	bytes   int
}

// Add remembers an entry.
func (j *Journal) Add(e Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drop(e.Name)
	j.entries = append(j.entries, e)
	j.bytes += e.size()
	excess := 0
	for len(j.entries)-excess > MaxEntries || j.bytes > MaxBytes && len(j.entries)-excess > 1 {
		j.bytes -= j.entries[excess].size()
		j.entries[excess] = Entry{}
		excess++
	}
	j.entries = j.entries[excess:]
}

// Drop forgets the entry with the name.
func (j *Journal) Drop(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drop(name)
}

func (j *Journal) drop(name string) {
	if name == "" {
		return
	}
	// From the end: what is replaced was mostly added a moment ago.
	for i, e := range slices.Backward(j.entries) {
		if e.Name == name {
			j.bytes -= e.size()
			j.entries = slices.Delete(j.entries, i, i+1)
			return
		}
	}
}

// Since returns what was added after t, by rank, and oldest first within one.
func (j *Journal) Since(t time.Time) []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var since []Entry
	for _, e := range j.entries {
		if e.At.After(t) {
			since = append(since, e)
		}
	}
	slices.SortStableFunc(since, func(a, b Entry) int { return int(a.Rank - b.Rank) })
	return since
}

// size is about what an entry takes.
func (e Entry) size() int {
	size := 128 + len(e.Name) + len(e.Key)
	for _, arg := range e.Args {
		switch v := arg.(type) {
		case string:
			size += len(v)
		case []byte:
			size += len(v)
		}
		size += 16
	}
	return size
}
