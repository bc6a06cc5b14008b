// SPDX-License-Identifier: MIT

package backendclient

import (
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"sync"
	"time"
)

// due is a token and when to think of renewing it.
type due struct {
	at    time.Time
	id    *identity // of the entry of the cache
	token *Token
}

// agenda is what Renew has before it, the next first. A token that is replaced stays
// on it until it is due: who takes it from there has to look.
type agenda struct {
	mu      sync.Mutex
	limit   int
	entries dues

	resume time.Time     // nothing is due before
	wait   time.Duration // that led to it
}

// add puts an entry on the agenda. Where there are too many it is left out, and the
// user's next request exchanges.
func (a *agenda) add(d due) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.entries) < a.limit {
		heap.Push(&a.entries, d)
	}
}

// next takes an entry that is due off the agenda.
func (a *agenda) next(now time.Time) (d due, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Before(a.resume) || len(a.entries) == 0 || now.Before(a.entries[0].at) {
		return due{}, false
	}
	return heap.Pop(&a.entries).(due), true
}

// pause has nothing be due for a while, and says how long.
func (a *agenda) pause(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !now.Before(a.resume) { // else several failed at once
		a.wait = min(max(2*a.wait, firstPause), longestPause)
		a.resume = now.Add(a.wait)
	}
	return a.resume.Sub(now)
}

// recover makes the next pause a short one.
func (a *agenda) recover() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wait = 0
}

// renewAt is when to renew a token that is here now: between seven and nine tenths of
// its use, or soon if that is past. Which, the token decides: all processes look at
// about the same time, and tokens that came together are renewed one by one.
func (t *Token) renewAt(now time.Time) time.Time {
	sum := sha256.Sum256([]byte(t.Value))
	share := float64(binary.BigEndian.Uint64(sum[:])) / math.MaxUint64
	until := t.usableUntil()
	usable := float64(until.Sub(t.Received))
	at := t.Received.Add(time.Duration(usable * (0.7 + 0.2*share)))
	if at.Before(now) {
		at = now.Add(time.Duration(share * float64(until.Sub(now)) / 2))
	}
	return at
}

// dues is a heap.
type dues []due

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d dues) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *dues) Push(x any)        { *d = append(*d, x.(due)) }
func (d *dues) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	(*d)[last] = due{}
	*d = (*d)[:last]
	return x
}
