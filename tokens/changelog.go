// SPDX-License-Identifier: MIT

package tokens

import (
	"slices"
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

// complete reports whether no change is missing of those with numbers above from,
// up to and with to.
func (l *changeLog) complete(from, to uint64) bool {
	numbers := map[uint64]bool{}
	for _, n := range l.ring {
		if n.number > from && n.number <= to {
			numbers[n.number] = true
		}
	}
	return uint64(len(numbers)) == to-from
}

const (
	// maxEdits is how many edited applications are remembered as a whole.
	maxEdits = 512
	// maxEditBytes bounds what they take: an application may have a thousand domains.
	maxEditBytes = 16 << 20
)

// editLog remembers what applications were last edited to, here and by the other
// gateways, so that whoever is first to find an edit lost can write it again. The
// zero value is empty.
type editLog struct {
	byID  map[string]edit
	order []string // ids as they were first edited
	size  int      // of the documents
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

// heard notes an edit or a deletion made by any gateway.
func (l *editLog) heard(c change, document string) {
	version := c.version()
	switch {
	case c.kind != changedApplication:
	case c.value == deletedVersion:
		l.forget(c.id)
	case document != "" && version > 0:
		l.put(c.id, edit{version, document})
	}
}

// put notes an edit unless a later one is known already.
func (l *editLog) put(id string, e edit) {
	last, known := l.byID[id]
	if e.version < last.version {
		return
	}
	if l.byID == nil {
		l.byID = map[string]edit{}
	}
	if !known {
		l.order = append(l.order, id)
	}
	l.byID[id] = e
	l.size += len(e.document) - len(last.document)
	for len(l.order) > maxEdits || l.size > maxEditBytes && len(l.order) > 1 {
		l.forget(l.order[0])
	}
}

func (l *editLog) forget(id string) {
	e, known := l.byID[id]
	if !known {
		return
	}
	delete(l.byID, id)
	l.size -= len(e.document)
	i := slices.Index(l.order, id)
	l.order = slices.Delete(l.order, i, i+1)
}
