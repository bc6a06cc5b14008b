// SPDX-License-Identifier: MIT

package backendclient

import (
	"container/list"
	"sync"
)

// maxQueued is how many exchanges of one application may wait. At Meet's pace of a
// second each they are more than ExchangeTimeout lets wait anyway.
const maxQueued = 1000

// fairQueue lets a few exchanges run at a time. Waiters are served round-robin by
// application, so a burst from one application delays only itself. Asking and leaving
// take the same time however many wait.
type fairQueue struct {
	mu      sync.Mutex
	size    int // how many run at a time
	free    int
	order   list.List // of *queue, those with waiters, the next one first
	waiting map[string]*queue
}

// queue holds the waiters of one application.
type queue struct {
	application string
	turns       list.List     // of *ticket, first come first
	place       *list.Element // in the order
}

// ticket is a place in a queue, or a turn that was granted.
type ticket struct {
	application string
	granted     chan struct{} // closed when it is its turn
	place       *list.Element // in its queue
}

func newFairQueue(n int) *fairQueue {
	return &fairQueue{size: n, free: n, waiting: map[string]*queue{}}
}

// ask takes a turn, or queues for one. It must be left in either case, once. Where
// too many wait already the answer is nil.
func (t *fairQueue) ask(application string) *ticket {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := &ticket{application: application, granted: make(chan struct{})}
	if t.free > 0 { // then there are no waiters
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

// spare takes a turn if at least half of them stay free; else the answer is nil.
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

// leave gives a turn to the next, or stops queueing for it.
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

// next gives a turn to a waiter of the next application.
func (t *fairQueue) next() {
	front := t.order.Front()
	if front == nil {
		t.free++
		return
	}
	q := front.Value.(*queue)
	first := q.turns.Front().Value.(*ticket)
	t.order.MoveToBack(front) // if it has more: behind the others
	t.drop(first)
	close(first.granted)
}

// drop takes one out of the queue of its application.
func (t *fairQueue) drop(mine *ticket) {
	q := t.waiting[mine.application]
	q.turns.Remove(mine.place)
	if q.turns.Len() == 0 {
		t.order.Remove(q.place)
		delete(t.waiting, mine.application)
	}
}
