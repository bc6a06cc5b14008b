// SPDX-License-Identifier: MIT

package backendclient

import (
	"container/list"
	"sync"
)

// maxQueued bounds the waiting exchanges of one application. At one second each, the
// last of them would wait longer than ExchangeTimeout anyway.
const maxQueued = 1000

// fairQueue limits how many exchanges run at a time. Waiters are served round-robin by
// application, so a burst from one application delays only itself. All operations take
// constant time.
type fairQueue struct {
	mu      sync.Mutex
	size    int // slots
	free    int
	order   list.List // of *queue with waiters, next one first
	waiting map[string]*queue
}

// queue holds the waiters of one application.
type queue struct {
	application string
	turns       list.List     // of *ticket, oldest first
	place       *list.Element // in fairQueue.order
}

// ticket is a waiter, or a slot that was granted to it.
type ticket struct {
	application string
	granted     chan struct{} // closed when the slot is granted
	place       *list.Element // in queue.turns
}

func newFairQueue(n int) *fairQueue {
	return &fairQueue{size: n, free: n, waiting: map[string]*queue{}}
}

// ask takes a slot or queues for one. The caller must call leave exactly once. ask
// returns nil if too many of the application wait already.
func (t *fairQueue) ask(application string) *ticket {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := &ticket{application: application, granted: make(chan struct{})}
	if t.free > 0 { // so there are no waiters
		t.free--
		close(mine.granted)
		return mine
	}
	q := t.waiting[application]
	if q == nil {
		q = &queue{application: application}
		q.place = t.order.PushBack(q)
		t.waiting[application] = q
	}
	if q.turns.Len() >= maxQueued {
		return nil
	}
	mine.place = q.turns.PushBack(mine)
	return mine
}

// spare takes a slot if at least half of all slots stay free, else it returns nil.
func (t *fairQueue) spare() *ticket {
	t.mu.Lock()
	defer t.mu.Unlock()
	if 2*(t.free-1) < t.size {
		return nil
	}
	t.free--
	mine := &ticket{granted: make(chan struct{})}
	close(mine.granted)
	return mine
}

// leave passes a slot on, or leaves the queue.
func (t *fairQueue) leave(mine *ticket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-mine.granted:
		t.next()
	default:
		t.drop(mine)
	}
}

// next grants the slot to a waiter of the next application.
func (t *fairQueue) next() {
	front := t.order.Front()
	if front == nil {
		t.free++
		return
	}
	q := front.Value.(*queue)
	first := q.turns.Front().Value.(*ticket)
	t.order.MoveToBack(front) // behind the other applications
	t.drop(first)
	close(first.granted)
}

// drop removes a ticket from the queue of its application.
func (t *fairQueue) drop(mine *ticket) {
	q := t.waiting[mine.application]
	q.turns.Remove(mine.place)
	if q.turns.Len() == 0 {
		t.order.Remove(q.place)
		delete(t.waiting, mine.application)
	}
}

// count returns how many wait for a slot and how many have one.
func (t *fairQueue) count() (queued, running int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, waiting := range t.waiting {
		queued += waiting.turns.Len()
	}
	return queued, t.size - t.free
}
