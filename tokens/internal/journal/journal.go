// SPDX-License-Identifier: MIT

// Package journal remembers what was just written to Redis, so that it can be
// written again to a server that has lost it.
//
// An entry is a script with its arguments that changes nothing where nothing was
// lost. Entries are written again by rank, and in order of time within one.
package journal

import (
	"slices"
	"sync"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Rank is the order in which entries are written again, so that each finds what it
// needs and nothing that was revoked is valid for a moment.
type Rank uint8

// The ranks, first to last.
const (
	Users           Rank = iota // that tokens were issued for
	Edits                       // of applications, and new applications
	Fallbacks                   // for edits that are remembered no more
	Revocations                 // of everything but a single edit
	Families                    // of refresh tokens
	IdempotencyKeys             // and the answers under them
	Records                     // of access tokens
	ranks
)

// bound is how much of a rank is remembered. The oldest goes first.
type bound struct {
	entries, bytes int
	// own is true for what only the gateway remembers that wrote it, and for no longer
	// than Memory.
	own bool
}

// Told reports whether other gateways remember such entries as well.
func (r Rank) Told() bool { return !bounds[r].own }

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
	// Memory is how far Redis is expected to be behind what it acknowledged. It counts
	// back from when Redis was last found to be the primary, so an outage of any length
	// does not use it up.
	Memory = time.Minute
	// History is how many changes of all gateways are remembered.
	History = 4096
)

// Entry is one write.
type Entry struct {
	Rank Rank
	// Name is what the entry is about. A later one of the same name replaces it, unless
	// its version is lower; entries without a name stay side by side.
	Name    string
	Version int64
	Key     string
	Script  *redisdb.Script
	Args    []any
	// Expires is when the written value ends, if it does. What remains of that time, in
	// milliseconds, is then put before Args; an entry whose time is over is left out.
	Expires time.Time
	// Stays keeps the entry when that time is over: the script is told 0.
	Stays bool

	at time.Time
}

// args are Args as the script gets them at an instant, and false if the entry's time is over.
// An empty Redis is told that the time of what stays is over.
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

// Journal is what a gateway remembers. The zero value is empty.
type Journal struct {
	mu      sync.Mutex
	shelves [ranks]shelf
	heard   map[uint64]bool
	numbers []uint64 // the last that were heard, oldest first
}

// shelf holds the entries of one rank, oldest first. One that was replaced leaves an
// empty place.
type shelf struct {
	entries []Entry
	gone    int            // how many were taken from the front, ever
	named   map[string]int // place of an entry, counting those that are gone
	bytes   int
	empty   int
}

// Add remembers entries.
func (j *Journal) Add(entries ...Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range entries {
		e.at = time.Now()
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

// Complete reports whether all changes with numbers above from, up to and with to,
// were heard and are remembered.
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

// Forget drops what this gateway alone remembers and wrote before an instant.
func (j *Journal) Forget(before time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for rank := range j.shelves {
		s := &j.shelves[rank]
		for !Rank(rank).Told() && len(s.entries) > 0 && s.entries[0].at.Before(before) {
			s.dropOldest()
		}
	}
}

// Age is for tests: it makes it so much longer since everything was added.
func (j *Journal) Age(d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for rank := range j.shelves {
		for i := range j.shelves[rank].entries {
			e := &j.shelves[rank].entries[i]
			e.at = e.at.Add(-d)
		}
	}
}

// Idle reports whether this gateway has written nothing that it still remembers.
func (j *Journal) Idle() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for rank := range j.shelves {
		if !Rank(rank).Told() && len(j.shelves[rank].entries) > j.shelves[rank].empty {
			return false
		}
	}
	return true
}

// All returns what is remembered of the ranks, by rank; of none given, of all.
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

// compact closes the places that are empty.
func (s *shelf) compact() {
	s.entries = slices.DeleteFunc(slices.Clone(s.entries), func(e Entry) bool { return e.Script == nil })
	s.gone, s.empty = 0, 0
	for i, e := range s.entries {
		if e.Name != "" {
			s.named[e.Name] = i
		}
	}
}

// size is about what an entry takes.
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
