// SPDX-License-Identifier: MIT

package backendclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// PageLast is the last page, whatever its number.
	PageLast = -1

	// MaxPageSize is the published API's largest page.
	MaxPageSize = 100

	// DefaultPageSize is what the published API puts on a page unless asked for another size.
	DefaultPageSize = 20

	// meetPageSize is what Meet puts on a page, whatever page_size asks for.
	meetPageSize = 20

	// maxPasses bounds how often a list is read when rooms move in the meantime.
	maxPasses = 3

	// maxPageNumber keeps offsets within an int; no list gets near it.
	maxPageNumber = 1 << 30

	// keepCount is how long the count of a user's rooms is remembered. It only says
	// which pages to ask for; what Meet answers to them decides.
	keepCount = 5 * time.Second
)

// ListOptions says which part of a caller's rooms ListRooms reads.
type ListOptions struct {
	// Page counts from 1; 0 is 1, PageLast the last one.
	Page int

	// PageSize is from 1 to MaxPageSize; 0 is DefaultPageSize.
	PageSize int

	// Link makes next and previous: the address of another page of the same size.
	// Without it both are null.
	Link func(page int) string

	// Room, if set, sees every room of the answer in order and returns what takes
	// its place. What it gets and gives is one JSON object.
	Room func(room json.RawMessage) json.RawMessage
}

// ListRooms reads one page of the rooms in which the user has a role, by name,
// in pages of any size up to MaxPageSize. The answer has Meet's form: 200 with
// count, next, previous and results, each room byte for byte as Meet wrote it;
// 404 past the end; else Meet's own refusal.
//
// Meet's pages have a fixed size, so several are read, at most PageWorkers at
// once. Rooms may come, go and move while that happens: if Meet's pages do not
// fit together they are read again, three times at most, and no room is ever
// given twice. Their number is known from the user's last list if that was read in
// the last seconds; then all are asked for at once, else the first one tells it. A
// Meet that honours page_size is recognised by its first page and from then on
// asked for the page as it is.
func (c *Client) ListRooms(ctx context.Context, caller Caller, o ListOptions) (*Response, error) {
	if o.PageSize == 0 {
		o.PageSize = DefaultPageSize
	}
	if o.PageSize < 1 || o.PageSize > MaxPageSize {
		return nil, &Error{Kind: ErrInvalidRequest, Op: "list rooms"}
	}
	if o.Page == 0 {
		o.Page = 1
	}
	if o.Page < PageLast || o.Page > maxPageNumber {
		return invalidPage(), nil
	}

	l := lister{c: c, caller: caller, ListOptions: o}
	s, refusal, err := l.whole(ctx)
	if s == nil && refusal == nil && err == nil {
		s, refusal, err = l.byLastCount(ctx)
	}
	for pass := 0; pass < maxPasses && refusal == nil && err == nil && (s == nil || !s.consistent); pass++ {
		s, refusal, err = l.sliced(ctx)
	}
	if refusal != nil || err != nil {
		return refusal, err
	}
	c.counts.put(caller.identity(), s.count, c.now().Add(keepCount))
	return l.compose(s)
}

func invalidPage() *Response {
	return jsonAnswer(http.StatusNotFound, []byte(`{"detail":"Invalid page."}`))
}

func jsonAnswer(status int, body []byte) *Response {
	return &Response{Status: status, Body: body}
}

// lister reads one page for one caller.
type lister struct {
	c      *Client
	caller Caller
	ListOptions
}

// slice is the page that was asked for.
type slice struct {
	page       int
	count      int
	rooms      []json.RawMessage
	consistent bool
}

// whole asks Meet for the very page, if Meet has pages of this size: because it
// is Meet's own, or because Meet honours page_size. It gives nothing if the
// answer shows that it does not.
func (l *lister) whole(ctx context.Context) (*slice, *Response, error) {
	query := pageQuery{page: l.Page}
	if l.PageSize != l.c.backendPageSize() {
		if !l.c.honoursPageSize.Load() {
			return nil, nil, nil
		}
		query.size = l.PageSize
	}
	p, refusal, err := l.c.page(ctx, l.caller, query)
	if err != nil {
		return nil, nil, err
	}
	if refusal != nil {
		if refusal.Status == http.StatusNotFound && query.size != 0 {
			// Past the end, or a Meet that has stopped to honour page_size.
			return nil, nil, nil
		}
		return nil, refusal, nil
	}
	number := l.Page
	if number == PageLast {
		number = pages(p.count, l.PageSize)
	}
	if len(p.rooms) != expected(p.count, l.PageSize, number) {
		if query.size != 0 {
			l.c.honoursPageSize.Store(false)
		}
		return nil, nil, nil
	}
	return &slice{page: number, count: p.count, rooms: p.rooms, consistent: true}, nil, nil
}

// byLastCount cuts the page out of Meet's own pages, asking for all of them at once:
// those that the last count calls for. It gives nothing if that count is not known
// or no longer true.
func (l *lister) byLastCount(ctx context.Context) (*slice, *Response, error) {
	count, known := l.c.counts.get(l.caller.identity(), l.c.now())
	if !known {
		return nil, nil, nil
	}
	size := l.c.backendPageSize()
	w := l.window(count, size)
	if w.number > 1 && w.empty() || w.pages() < 2 && l.Page != PageLast {
		return nil, nil, nil // sliced asks for no more than one page
	}
	parts, refusal, err := l.parts(ctx, nil, 0, w.first, w.last)
	if err != nil || refusal != nil {
		return nil, refusal, err
	}
	s := w.cut(parts, count, size)
	if !s.consistent || s.count != count {
		return nil, nil, nil
	}
	return s, nil, nil
}

// window is where the page that was asked for lies in Meet's pages.
type window struct {
	number      int // of the page that was asked for
	size        int // of that page
	from, to    int // its rooms, by their place in the whole list; to is not one of them
	first, last int // Meet's pages that hold them
}

func (l *lister) window(count, size int) window {
	w := window{number: l.Page, size: l.PageSize}
	if w.number == PageLast {
		w.number = pages(count, l.PageSize)
	}
	w.from = (w.number - 1) * l.PageSize
	w.to = min(w.from+l.PageSize, count)
	w.first, w.last = w.from/size+1, pages(w.to, size)
	return w
}

func (w window) empty() bool { return w.from >= w.to }

func (w window) pages() int { return w.last - w.first + 1 }

// cut joins Meet's pages and takes the rooms in the window out of them.
func (w window) cut(parts []*page, count, size int) *slice {
	s := join(parts, count, size, w.first)
	s.page = w.number
	s.rooms = s.rooms[min(w.from%size, len(s.rooms)):]
	s.rooms = s.rooms[:min(w.size, len(s.rooms))]
	return s
}

// sliced cuts the page out of Meet's own pages, in one pass: the first one it
// needs, which tells the count, then the others at once.
func (l *lister) sliced(ctx context.Context) (*slice, *Response, error) {
	first, refusal, err := l.first(ctx)
	if err != nil || refusal != nil {
		return nil, refusal, err
	}
	if first.asked {
		return &slice{page: 1, count: first.count, rooms: first.rooms, consistent: true}, nil, nil
	}
	w := l.window(first.count, first.size)
	if w.empty() && w.number > 1 {
		return nil, invalidPage(), nil
	}
	parts, refusal, err := l.parts(ctx, &first.page, first.number, w.first, w.last)
	if err != nil || refusal != nil {
		return nil, refusal, err
	}
	return w.cut(parts, first.count, first.size), nil, nil
}

// firstPage is the first of Meet's pages that is needed.
type firstPage struct {
	page
	number int
	size   int  // of Meet's pages
	asked  bool // it is the page that was asked for: Meet honours page_size
}

// first reads it, for PageLast page 1, which tells the count. It notices when
// Meet's pages have another size than they had.
func (l *lister) first(ctx context.Context) (*firstPage, *Response, error) {
	f := &firstPage{number: 1, size: l.c.backendPageSize()}
	if l.Page == 1 && l.PageSize != f.size {
		p, refusal, err := l.c.page(ctx, l.caller, l.query(1))
		if err != nil || refusal != nil {
			return nil, refusal, err
		}
		f.page = *p
		switch len(p.rooms) {
		case expected(p.count, f.size, 1):
			return f, nil, nil
		case expected(p.count, l.PageSize, 1):
			l.c.honoursPageSize.Store(true)
			f.asked = true
			return f, nil, nil
		}
	}
	for range 2 {
		if l.Page > 1 {
			f.number = (l.Page-1)*l.PageSize/f.size + 1
		}
		p, refusal, err := l.c.page(ctx, l.caller, pageQuery{page: f.number})
		if err != nil || refusal != nil {
			return nil, refusal, err
		}
		f.page = *p
		actual := p.sizeOfPages(f.number, f.size)
		if actual == f.size {
			break
		}
		l.c.pageSize.Store(int64(actual))
		f.size = actual
		if f.number == 1 {
			break // by any size the first page is where it begins
		}
	}
	return f, nil, nil
}

// query asks for one of Meet's own pages. With the first of a first page it asks for
// the size as well: that costs nothing where it is ignored, and shows where it is
// not. Only there do both readings begin with the same room.
func (l *lister) query(number int) pageQuery {
	q := pageQuery{page: number}
	if number == 1 && l.Page == 1 {
		q.size = l.PageSize
	}
	return q
}

// join puts Meet's pages together, the first of them with the given number. It
// leaves out duplicates of a room, and says whether the pages are of one
// list: same count, full, no room twice.
func join(parts []*page, count, size, number int) *slice {
	s := &slice{count: count, consistent: true}
	if len(parts) == 1 && parts[0] != nil {
		s.rooms = parts[0].rooms
		s.consistent = len(s.rooms) == expected(count, size, number)
		return s
	}
	seen := make(map[string]bool, len(parts)*size)
	for i, p := range parts {
		if p == nil {
			s.consistent = false
			continue
		}
		if p.count != count || len(p.rooms) != expected(count, size, number+i) {
			s.consistent = false
			s.count = p.count
		}
		for _, room := range p.rooms {
			id := roomID(room)
			if seen[id] {
				s.consistent = false
				continue
			}
			seen[id] = true
			s.rooms = append(s.rooms, room)
		}
	}
	return s
}

// roomID is the room's id as it is written, or the room if it has none.
func roomID(room json.RawMessage) string {
	if id := member(room, "id"); id != nil {
		return string(id)
	}
	return string(room)
}

// pages is how many pages a list has: one even if it is empty.
func pages(count, size int) int { return max(1, (count+size-1)/size) }

// expected is how many rooms page number has.
func expected(count, size, number int) int {
	return max(0, min(size, count-(number-1)*size))
}

// compose writes the list as Meet does.
func (l *lister) compose(s *slice) (*Response, error) {
	size := 256
	for _, room := range s.rooms {
		size += len(room) + 1
	}
	var b bytes.Buffer
	b.Grow(size)
	b.WriteString(`{"count":`)
	b.WriteString(strconv.Itoa(s.count))
	b.WriteString(`,"next":`)
	if err := l.link(&b, s.page+1, s.page < pages(s.count, l.PageSize)); err != nil {
		return nil, err
	}
	b.WriteString(`,"previous":`)
	if err := l.link(&b, s.page-1, s.page > 1); err != nil {
		return nil, err
	}
	b.WriteString(`,"results":[`)
	for i, room := range s.rooms {
		if i > 0 {
			b.WriteByte(',')
		}
		if l.Room != nil {
			room = l.Room(room)
		}
		b.Write(room)
	}
	b.WriteString(`]}`)
	return jsonAnswer(http.StatusOK, b.Bytes()), nil
}

func (l *lister) link(b *bytes.Buffer, page int, exists bool) error {
	if !exists || l.Link == nil {
		b.WriteString("null")
		return nil
	}
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false) // "&" as Meet writes it
	if err := enc.Encode(l.Link(page)); err != nil {
		return &Error{Kind: ErrInvalidRequest, Op: "list rooms", Err: err}
	}
	b.Truncate(b.Len() - 1) // the encoder's line feed
	return nil
}

// page is one page as Meet gave it.
type page struct {
	count int
	next  bool
	rooms []json.RawMessage
}

// sizeOfPages is the size of Meet's pages as this one shows it, given its
// number; assumed if it shows nothing else.
func (p *page) sizeOfPages(number, assumed int) int {
	n := len(p.rooms)
	switch {
	case p.next && n > 0:
		return n
	case number == 1:
		return max(assumed, n)
	case n < p.count && (p.count-n)%(number-1) == 0:
		return (p.count - n) / (number - 1)
	}
	return assumed
}

// pageQuery asks for a page; what is zero is not asked for.
type pageQuery struct {
	page int
	size int
	slug string
}

func (q pageQuery) values() url.Values {
	v := url.Values{}
	switch {
	case q.page == PageLast:
		v.Set("page", "last")
	case q.page > 1:
		v.Set("page", strconv.Itoa(q.page))
	}
	if q.size != 0 {
		v.Set("page_size", strconv.Itoa(q.size))
	}
	if q.slug != "" {
		v.Set("slug", q.slug)
	}
	return v
}

// page reads one of Meet's pages. It gives the page, or Meet's refusal.
func (c *Client) page(ctx context.Context, caller Caller, q pageQuery) (*page, *Response, error) {
	a, err := c.Send(ctx, caller, Request{Method: http.MethodGet, Path: roomsPath, Query: q.values()})
	if err != nil {
		return nil, nil, err
	}
	if a.Status != http.StatusOK {
		return nil, a, nil
	}
	p := &page{count: -1}
	for key, value := range Members(a.Body) {
		switch key {
		case "count":
			if n, err := strconv.Atoi(string(value)); err == nil {
				p.count = n
			}
		case "next":
			p.next = string(value) != "null"
		case "results":
			p.rooms = elements(value)
		}
	}
	if p.count < 0 || p.rooms == nil {
		return nil, nil, &Error{Kind: ErrBadAnswer, Op: "list rooms", Status: a.Status, Hint: hintNotJSON}
	}
	return p, nil, nil
}

// parts reads Meet's pages from to to, at most pageWorkers at once; known is
// there already. A page that has gone since is nil.
func (l *lister) parts(ctx context.Context, known *page, knownNumber, from, to int) ([]*page, *Response, error) {
	parts := make([]*page, max(0, to-from+1))
	var refusal atomic.Pointer[Response]
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(l.c.pageWorkers)
	for i := range parts {
		if from+i == knownNumber {
			parts[i] = known
			continue
		}
		group.Go(func() error {
			p, a, err := l.c.page(ctx, l.caller, l.query(from+i))
			if err == nil && a != nil && a.Status != http.StatusNotFound {
				refusal.CompareAndSwap(nil, a)
				err = errPageRefused
			}
			parts[i] = p
			return err
		})
	}
	if err := group.Wait(); !errors.Is(err, errPageRefused) {
		return parts, nil, err //nolint:wrapcheck // an *Error
	}
	return parts, refusal.Load(), nil
}

// errPageRefused ends the reading of other pages.
var errPageRefused = errors.New("meet refused a page")

func (c *Client) backendPageSize() int { return int(c.pageSize.Load()) }
