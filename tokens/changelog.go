package tokens

import (
	"strconv"
	"strings"
)

// changeLog remembers the last changes in the order they were heard of. Numbers
// are not unique: a Redis that lost changes gives theirs to others.
// The zero value is empty.
type changeLog struct {
	ring []numbered
	next int
	has  map[numbered]bool
}

type numbered struct {
	number uint64
	change change
}

// add remembers a change, once however often it is heard of.
func (l *changeLog) add(number uint64, c change) {
	n := numbered{number, c}
	if l.has[n] {
		return
	}
	if l.has == nil {
		l.has = map[numbered]bool{}
	}
	l.has[n] = true
	if len(l.ring) < history {
		l.ring = append(l.ring, n)
		return
	}
	delete(l.has, l.ring[l.next])
	l.ring[l.next] = n
	l.next = (l.next + 1) % history
}

// all returns the remembered changes, oldest first.
func (l *changeLog) all() []change {
	out := make([]change, 0, len(l.ring))
	for i := range l.ring {
		out = append(out, l.ring[(l.next+i)%len(l.ring)].change)
	}
	return out
}

// between returns the changes with numbers above from and up to to, and whether
// none is missing.
func (l *changeLog) between(from, to uint64) (out []change, complete bool) {
	numbers := map[uint64]bool{}
	for i := range l.ring {
		if n := l.ring[(l.next+i)%len(l.ring)]; n.number > from && n.number <= to {
			out = append(out, n.change)
			numbers[n.number] = true
		}
	}
	return out, uint64(len(numbers)) == to-from
}

// maxEdits is how many edited applications are remembered as a whole.
const maxEdits = 512

// editLog remembers what applications were last edited to, here and by the other
// gateways, so that whoever is first to find an edit lost can write it again. The
// zero value is empty.
type editLog struct {
	byID  map[string]edit
	order []string
}

type edit struct {
	version  int64
	document string // as stored
}

// noteEdit remembers what was stored of an application that was edited here.
func (f *feed) noteEdit(id string, e edit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.edits.put(id, e)
}

// version is the version of an application after a change that is an edit; 0 for
// what is none.
func (c change) version() int64 {
	if c.kind != changedApplication {
		return 0
	}
	text, _, _ := strings.Cut(c.value, "/")
	n, _ := strconv.ParseInt(text, 10, 64) // a later form of it is none that can be written again
	return n
}

// of returns what the application was edited to by a change; "" if that is not
// known, or it is no edit.
func (l *editLog) of(c change) string {
	if e, known := l.byID[c.id]; known && c.version() == e.version {
		return e.document
	}
	return ""
}

// heard notes an edit or a deletion made by any gateway. An own edit of later may
// be known already.
func (l *editLog) heard(c change, document string) {
	version := c.version()
	switch {
	case c.kind != changedApplication:
	case c.value == deletedVersion:
		delete(l.byID, c.id)
	case document != "" && version > 0 && version >= l.byID[c.id].version:
		l.put(c.id, edit{version, document})
	}
}

func (l *editLog) put(id string, e edit) {
	if l.byID == nil {
		l.byID = map[string]edit{}
	}
	if _, known := l.byID[id]; !known {
		l.order = append(l.order, id)
		if len(l.order) > maxEdits {
			delete(l.byID, l.order[0])
			l.order = l.order[1:]
		}
	}
	l.byID[id] = e
}
