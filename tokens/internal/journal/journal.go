// SPDX-License-Identifier: MIT

// Package journal remembers recent writes, to repeat them on a Redis that lost them.
//
// An entry is a script with its arguments. The script is idempotent: it changes nothing
// where nothing was lost. A replay goes by rank, and by time within a rank.
package journal

import (
	"slices"
	"sync"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Rank orders a replay, so that each entry finds what it needs and no revoked token is
// valid for a moment.
type Rank uint8

// The ranks, first to last.
const (
	Users           Rank = iota // that tokens were issued for
	Edits                       // of applications, and new applications
	Fallbacks                   // for edits that were dropped
	Revocations                 // of everything but a single edit
	Families                    // of refresh tokens
	IdempotencyKeys             // and the answers under them
	Records                     // of access tokens; see Journal.Add
	ranks
)

// bound limits how much of a rank is remembered. The oldest entries go first.
type bound struct {
	entries, bytes int
	// own is true for entries that only their writer remembers, for Memory.
	own bool
}

// Shared reports whether all gateways remember entries of the rank.
func (r Rank) Shared() bool { return !bounds[r].own }

var bounds = [ranks]bound{
	Users:           {262_144, 64 << 20, true},
	Edits:           {512, 16 << 20, false},
	Fallbacks:       {History, 4 << 20, false},
	Revocations:     {History, 4 << 20, false},
	Families:        {16_384, 32 << 20, true},
	IdempotencyKeys: {16_384, 32 << 20, true},
	Records:         {131_072, 64 << 20, true},
}

const (
	// Memory bounds how much acknowledged data a failover may lose. It counts back from
	// when Redis was last proven to be the primary, so an outage does not use it up.
	Memory = time.Minute
	// History is how many changes of all gateways each gateway remembers.
	History = 4096
)

// Entry is one write.
type Entry struct {
	Rank Rank
	// Name identifies the subject of the entry. A later entry with the same name replaces
	// it unless its version is lower. Entries without a name are all kept.
	Name    string
	Version int64
	Key     string
	Script  *redisdb.Script
	Args    []any
	// Expires is when the written value expires, if it does. The script then gets the
	// remaining milliseconds before Args. An expired entry is not replayed.
	Expires time.Time
	// Stays keeps an expired entry: its script gets 0.
	Stays bool

	at time.Time
}

// args are the arguments of the script at the given time, and false for an expired entry.
// A server that was emptied gets 0 for entries that stay.
func (e Entry) args(now time.Time, emptied bool) ([]any, bool) {
	if e.Expires.IsZero() {
		return e.Args, true
	}
	left := max(e.Expires.Sub(now).Milliseconds(), 0)
	if left == 0 && !e.Stays {
		return nil, false
	}
	if e.Stays && emptied {
		left = 0
	}
	return append([]any{left}, e.Args...), true
}

// Journal holds the entries of one gateway. The zero value is empty.
type Journal struct {
	mu      sync.Mutex
	shelves [ranks]shelf // not used for Records
	records records
	heard   map[uint64]bool
	numbers []uint64 // of the last changes heard, oldest first
}

// shelf holds the entries of a rank other than Records, oldest first. A replaced entry leaves a gap.
type shelf struct {
	entries []Entry
	gone    int            // how many entries were ever removed from the front
	named   map[string]int // index of an entry plus gone
	bytes   int
	empty   int
}

// Add remembers entries. Those of rank Records have no name, expire, and share one script
// with one argument, a string.
func (j *Journal) Add(entries ...Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range entries {
		e.at = time.Now()
		if e.Rank == Records {
			j.records.add(e, bounds[Records])
			continue
		}
		j.shelves[e.Rank].add(e, bounds[e.Rank])
	}
}

// Heard notes the number of a change.
func (j *Journal) Heard(number uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.heard[number] {
		return
	}
	if j.heard == nil {
		j.heard = map[uint64]bool{}
	}
	j.heard[number] = true
	if j.numbers = append(j.numbers, number); len(j.numbers) > History {
		delete(j.heard, j.numbers[0])
		j.numbers = j.numbers[1:]
	}
}

// Complete reports whether the journal has all changes with numbers in (from, to].
func (j *Journal) Complete(from, to uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if to > from+History {
		return false
	}
	for n := from + 1; n <= to; n++ {
		if !j.heard[n] {
			return false
		}
	}
	return true
}

// Get returns the entry of a rank with the name.
func (j *Journal) Get(rank Rank, name string) (Entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := &j.shelves[rank]
	place, ok := s.named[name]
	if !ok {
		return Entry{}, false
	}
	return s.entries[place-s.gone], true
}

// Age is how long ago the entry was added.
func (e Entry) Age() time.Duration { return time.Since(e.at) }

// Drop forgets the entry of a rank with the name.
func (j *Journal) Drop(rank Rank, name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.shelves[rank].drop(name)
}

// Forget drops this gateway's own entries from before the given time.
func (j *Journal) Forget(before time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records.forget(before)
	for rank := range j.shelves {
		s := &j.shelves[rank]
		for !Rank(rank).Shared() && len(s.entries) > 0 && s.entries[0].at.Before(before) {
			s.dropOldest()
		}
	}
}

// Age makes all entries older, for tests.
func (j *Journal) Age(d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records.age(d)
	for rank := range j.shelves {
		for i := range j.shelves[rank].entries {
			e := &j.shelves[rank].entries[i]
			e.at = e.at.Add(-d)
		}
	}
}

// Idle reports whether there are no entries of this gateway's own.
func (j *Journal) Idle() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for rank := range j.shelves {
		if !Rank(rank).Shared() && len(j.shelves[rank].entries) > j.shelves[rank].empty {
			return false
		}
	}
	return j.records.count == 0
}

// All returns the entries of the given ranks, or of all ranks, in the order of a replay.
func (j *Journal) All(of ...Rank) []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []Entry
	for rank := range j.shelves {
		if len(of) > 0 && !slices.Contains(of, Rank(rank)) {
			continue
		}
		for _, e := range j.shelves[rank].entries {
			if e.Script != nil {
				all = append(all, e)
			}
		}
	}
	if len(of) == 0 || slices.Contains(of, Records) {
		all = append(all, j.records.all()...)
	}
	return all
}

func (s *shelf) add(e Entry, most bound) {
	if e.Name != "" {
		if place, ok := s.named[e.Name]; ok {
			if s.entries[place-s.gone].Version > e.Version {
				return
			}
			s.drop(e.Name)
		}
		if s.named == nil {
			s.named = map[string]int{}
		}
		s.named[e.Name] = s.gone + len(s.entries)
	}
	s.entries = append(s.entries, e)
	s.bytes += e.size()
	for len(s.entries)-s.empty > most.entries || s.bytes > most.bytes && len(s.entries) > 1 {
		s.dropOldest()
	}
}

func (s *shelf) drop(name string) {
	place, ok := s.named[name]
	if !ok {
		return
	}
	e := &s.entries[place-s.gone]
	s.bytes -= e.size()
	delete(s.named, name)
	*e = Entry{at: e.at}
	if s.empty++; s.empty > 64 && s.empty > len(s.entries)/2 {
		s.compact()
	}
}

func (s *shelf) dropOldest() {
	if e := s.entries[0]; e.Script == nil {
		s.empty--
	} else {
		s.bytes -= e.size()
		delete(s.named, e.Name)
	}
	s.entries[0] = Entry{}
	s.entries = s.entries[1:]
	s.gone++
}

// compact removes the gaps.
func (s *shelf) compact() {
	s.entries = slices.DeleteFunc(slices.Clone(s.entries), func(e Entry) bool { return e.Script == nil })
	s.gone, s.empty = 0, 0
	for i, e := range s.entries {
		if e.Name != "" {
			s.named[e.Name] = i
		}
	}
}

// size is roughly the memory that an entry takes.
func (e Entry) size() int {
	size := 160 + len(e.Name) + len(e.Key)
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
