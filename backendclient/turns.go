package backendclient

import (
	"slices"
	"sync"
)

// turns lets a few exchanges run at a time. Who waits is served by application, one
// of each in turn, so that one that asks for thousands of users at once makes none
// but its own wait.
type turns struct {
	mu      sync.Mutex
	size    int // how many run at a time
	free    int
	order   []string // applications of which somebody waits, the next one first
	waiting map[string][]*turn
}

// turn is one that is waited for, or taken.
type turn struct {
	application string
	come        chan struct{} // closed when it is taken
}

func newTurns(n int) *turns { return &turns{size: n, free: n, waiting: map[string][]*turn{}} }

// ask takes a turn, or queues for one. It must be left in either case, once.
func (t *turns) ask(application string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := &turn{application: application, come: make(chan struct{})}
	if t.free > 0 { // then nobody waits
		t.free--
		close(mine.come)
		return mine
	}
	if len(t.waiting[application]) == 0 {
		t.order = append(t.order, application)
	}
	t.waiting[application] = append(t.waiting[application], mine)
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

// next lets somebody of the application that is next have a turn.
func (t *turns) next() {
	if len(t.order) == 0 {
		t.free++
		return
	}
	first := t.waiting[t.order[0]][0]
	t.drop(first)
	if i := slices.Index(t.order, first.application); i >= 0 { // it has more: behind the others
		t.order = append(slices.Delete(t.order, i, i+1), first.application)
	}
	close(first.come)
}

// drop takes one out of the queue of its application.
func (t *turns) drop(mine *turn) {
	rest := slices.DeleteFunc(t.waiting[mine.application], func(other *turn) bool { return other == mine })
	if len(rest) > 0 {
		t.waiting[mine.application] = rest
		return
	}
	delete(t.waiting, mine.application)
	t.order = slices.DeleteFunc(t.order, func(application string) bool { return application == mine.application })
}
