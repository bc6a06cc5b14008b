// SPDX-License-Identifier: MIT

package backendclient

import (
	"container/list"
	"sync"
)

// maxQueued is how many exchanges of one application may wait. At Meet's pace of a
// second each they are more than ExchangeTimeout lets wait anyway.
const maxQueued = 1000

// turns lets a few exchanges run at a time. Who waits is served by application, one
// of each in turn, so that one that asks for thousands of users at once makes none
// but its own wait. Asking and leaving take the same time however many wait.
type turns struct {
	mu      sync.Mutex
	size    int // how many run at a time
	free    int
	order   list.List // of *queue, those with waiters, the next one first
	waiting map[string]*queue
}

// queue is who waits of one application.
type queue struct {
	application string
	turns       list.List     // of *turn, who came first in front
	place       *list.Element // in the order
}

// turn is one that is waited for, or taken.
type turn struct {
	application string
	come        chan struct{} // closed when it is taken
	place       *list.Element // in its queue
}

func newTurns(n int) *turns { return &turns{size: n, free: n, waiting: map[string]*queue{}} }

// ask takes a turn, or queues for one. It must be left in either case, once. Where
// too many wait already the answer is nil.
func (t *turns) ask(application string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := &turn{application: application, come: make(chan struct{})}
	if t.free > 0 { // then there are no waiters
		t.free--
		close(mine.come)
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
func (t *turns) spare() *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if 2*(t.free-1) < t.size {
		return nil
	}
	t.free--
	mine := &turn{come: make(chan struct{})}
	close(mine.come)
	return mine
}

// leave gives a turn to the next, or stops queueing for it.
func (t *turns) leave(mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-mine.come:
		t.next()
	default:
		t.drop(mine)
	}
}

// next gives a turn to a waiter of the next application.
func (t *turns) next() {
	front := t.order.Front()
	if front == nil {
		t.free++
		return
	}
	q := front.Value.(*queue)
	first := q.turns.Front().Value.(*turn)
	t.order.MoveToBack(front) // if it has more: behind the others
	t.drop(first)
	close(first.come)
}

// drop takes one out of the queue of its application.
func (t *turns) drop(mine *turn) {
	q := t.waiting[mine.application]
	q.turns.Remove(mine.place)
	if q.turns.Len() == 0 {
		t.order.Remove(q.place)
		delete(t.waiting, mine.application)
	}
}
