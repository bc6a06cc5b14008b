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

// renewal is the time to consider the renewal of a token.
type renewal struct {
	key      tokenKey
	at       uint32 // unix seconds, which fit until 2106
	received uint32 // the end of Token.received, which tells whether the token was replaced
}

// renewalOf returns a renewal of a token.
func renewalOf(key tokenKey, t *Token, at time.Time) renewal {
	return renewal{key, uint32(at.Unix()), uint32(t.received)}
}

// renewalQueue holds the tokens that Renew considers, earliest first. A token that is
// replaced stays in the queue until its time, so the reader has to check that it is kept.
type renewalQueue struct {
	mu      sync.Mutex
	limit   int
	entries renewalHeap

	resumeAt time.Time // nothing is due before
	backoff  time.Duration
}

// add queues a renewal. If the queue is full the token is not renewed, and the user's next
// request exchanges.
func (q *renewalQueue) add(r renewal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.entries) < q.limit {
		heap.Push(&q.entries, r)
	}
}

// next removes and returns a renewal that is due.
func (q *renewalQueue) next(now time.Time) (r renewal, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Before(q.resumeAt) || len(q.entries) == 0 || now.Unix() < int64(q.entries[0].at) {
		return renewal{}, false
	}
	return heap.Pop(&q.entries).(renewal), true
}

// backOff pauses the queue after a failure and returns for how long.
func (q *renewalQueue) backOff(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !now.Before(q.resumeAt) { // else several failed at once
		q.backoff = min(max(2*q.backoff, firstPause), longestPause)
		q.resumeAt = now.Add(q.backoff)
	}
	return q.resumeAt.Sub(now)
}

// resetBackOff makes the next pause the shortest again.
func (q *renewalQueue) resetBackOff() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.backoff = 0
}

// renewAt returns when to renew a token: after 70 to 90 % of its use, or soon if that time
// is past. The token's hash decides when exactly, so that all processes agree and tokens
// issued together are renewed one by one.
func (t *Token) renewAt(now time.Time) time.Time {
	sum := sha256.Sum256([]byte(t.Value()))
	share := float64(binary.BigEndian.Uint64(sum[:])) / math.MaxUint64
	until := t.usableUntil()
	usable := float64(until.Sub(t.Received()))
	at := t.Received().Add(time.Duration(usable * (0.7 + 0.2*share)))
	if at.Before(now) {
		at = now.Add(time.Duration(share * float64(until.Sub(now)) / 2))
	}
	return at
}

// renewalHeap implements heap.Interface.
type renewalHeap []renewal

func (h renewalHeap) Len() int           { return len(h) }
func (h renewalHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h renewalHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *renewalHeap) Push(x any)        { *h = append(*h, x.(renewal)) }
func (h *renewalHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = renewal{}
	*h = (*h)[:last]
	return x
}
