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
	// PageLast stands for the last page.
	PageLast = -1

	// MaxPageSize is the largest page of the published API.
	MaxPageSize = 100

	// DefaultPageSize is the page size of the published API.
	DefaultPageSize = 20

	// meetPageSize is the size of Meet's pages, which ignore page_size.
	meetPageSize = 20

	// maxPageRooms bounds the rooms of one of Meet's pages. Each takes memory even if it is
	// only a digit.
	maxPageRooms = 10 * MaxPageSize

	// maxPasses bounds how often a list is read again because rooms moved meanwhile.
	maxPasses = 3

	// maxPageNumber keeps offsets within an int.
	maxPageNumber = 1 << 30

	// keepCount is how long the count of a user's rooms is remembered. The count only
	// decides which pages to request; Meet's answers decide the result.
	keepCount = 5 * time.Second
)

// ListOptions selects a part of a caller's rooms.
type ListOptions struct {
	// Page counts from 1; 0 means 1, PageLast the last page.
	Page int

	// PageSize is 1 to MaxPageSize; 0 means DefaultPageSize.
	PageSize int

	// Link returns the address of another page of the same size, for next and previous.
	// If it is nil, both are null.
	Link func(page int) string

	// Room, if set, is called with each room in order and returns its replacement, a JSON
	// object.
	Room func(room Room) json.RawMessage
}

// ListRooms reads one page of the rooms in which the user has a role, ordered by name.
// The answer has Meet's form: 200 with count, next, previous and results, where each room
// is byte for byte as Meet wrote it; 404 past the end; else Meet's own refusal.
//
// Meet's pages have a fixed size, so several are read, at most PageWorkers at once. Rooms
// may be added, removed and moved meanwhile: if the pages do not fit together they are read
// again, up to three times, and no room is returned twice. If the user's list was read
// a few seconds ago, its count is known and all pages are requested at once; else the
// first page tells it. A Meet that honours page_size is detected by its first page, and
// from then on asked for the page itself.
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
	c.roomCounts.put(caller.identity(), s.count, c.options.Now().Add(keepCount))
	return l.compose(s)
}

func invalidPage() *Response {
	return &Response{Status: http.StatusNotFound, Body: []byte(`{"detail":"Invalid page."}`)}
}

// lister reads one page for one caller.
type lister struct {
	c      *Client
	caller Caller
	ListOptions
}

// slice is the requested page.
type slice struct {
	page       int
	count      int
	rooms      []Room
	consistent bool
}

// whole requests the page itself, which works if it has the size of Meet's own pages or
// if Meet honours page_size. It returns nothing if the answer shows otherwise.
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
			// Past the end, or Meet no longer honours page_size.
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

// byLastCount cuts the page out of Meet's pages. It requests all that the last known count
// calls for at once. It returns nothing if the count is unknown or outdated.
func (l *lister) byLastCount(ctx context.Context) (*slice, *Response, error) {
	count, known := l.c.roomCounts.get(l.caller.identity(), l.c.options.Now())
	if !known {
		return nil, nil, nil
	}
	size := l.c.backendPageSize()
	w := l.window(count, size)
	if w.number > 1 && w.empty() || w.pages() < 2 && l.Page != PageLast {
		return nil, nil, nil // sliced reads no more than one page for this
	}
	parts, refusal, err := l.fetchPages(ctx, nil, 0, w.first, w.last)
	if err != nil || refusal != nil {
		return nil, refusal, err
	}
	s := w.cut(parts, count, size)
	if !s.consistent || s.count != count {
		return nil, nil, nil
	}
	return s, nil, nil
}

// window is the position of the requested page in Meet's pages.
type window struct {
	number      int // of the requested page
	size        int // of the requested page
	from, to    int // offsets of its rooms in the list, to excluded
	first, last int // Meet's pages that contain them
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

// cut joins Meet's pages and returns the rooms in the window.
func (w window) cut(parts []*page, count, size int) *slice {
	s := joinPages(parts, count, size, w.first)
	s.page = w.number
	s.rooms = s.rooms[min(w.from%size, len(s.rooms)):]
	s.rooms = s.rooms[:min(w.size, len(s.rooms))]
	return s
}

// sliced cuts the page out of Meet's pages in one pass: it reads the first page that it
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
	parts, refusal, err := l.fetchPages(ctx, &first.page, first.number, w.first, w.last)
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
	asked  bool // it is the requested page: Meet honours page_size
}

// first reads the first page that is needed; for PageLast that is page 1, which tells the
// count. It detects a changed size of Meet's pages.
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
			break // with any size, page 1 starts at the first room
		}
	}
	return f, nil, nil
}

// query requests one of Meet's pages. Page 1 of a request for page 1 also asks for the
// size, to detect whether Meet honours page_size: only there do both readings start with
// the same room.
func (l *lister) query(number int) pageQuery {
	q := pageQuery{page: number}
	if number == 1 && l.Page == 1 {
		q.size = l.PageSize
	}
	return q
}

// joinPages joins Meet's pages; number is that of the first. It drops repeated rooms, and
// reports whether the pages are of one list: same count, full, no room twice.
func joinPages(parts []*page, count, size, number int) *slice {
	s := &slice{count: count, consistent: true}
	if len(parts) == 1 && parts[0] != nil {
		s.rooms = parts[0].rooms
		s.consistent = len(s.rooms) == expected(count, size, number)
		return s
	}
	seen := make(map[string]bool, len(parts)*size)
	s.rooms = make([]Room, 0, len(parts)*size)
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
			id := room.id // as written
			if id == nil {
				id = room.JSON
			}
			if seen[string(id)] {
				s.consistent = false
				continue
			}
			seen[string(id)] = true
			s.rooms = append(s.rooms, room)
		}
	}
	return s
}

// pages returns the number of pages of a list, which is 1 even if it is empty.
func pages(count, size int) int { return max(1, (count+size-1)/size) }

// expected returns the number of rooms on a page.
func expected(count, size, number int) int {
	return max(0, min(size, count-(number-1)*size))
}

// compose writes the list in Meet's form.
func (l *lister) compose(s *slice) (*Response, error) {
	size := 256
	for _, room := range s.rooms {
		size += len(room.JSON) + 1
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
		text := room.JSON
		if l.Room != nil {
			text = l.Room(room)
		}
		b.Write(text)
	}
	b.WriteString(`]}`)
	return &Response{Status: http.StatusOK, Body: b.Bytes(), Rooms: s.rooms}, nil
}

func (l *lister) link(b *bytes.Buffer, page int, exists bool) error {
	if !exists || l.Link == nil {
		b.WriteString("null")
		return nil
	}
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false) // "&" as in Meet's links
	if err := enc.Encode(l.Link(page)); err != nil {
		return &Error{Kind: ErrInvalidRequest, Op: "list rooms", Err: err}
	}
	b.Truncate(b.Len() - 1) // the encoder's line feed
	return nil
}

// page is one of Meet's pages.
type page struct {
	count int
	next  bool
	rooms []Room
}

// parse reads the body of an answer. It reports whether it is valid JSON, of any kind, and
// has no more rooms than a page can have.
func (p *page) parse(body []byte) bool {
	*p = page{count: -1}
	s := scanner{json: body}
	for name := range s.items {
		switch string(name) {
		case "count":
			if n, err := strconv.Atoi(string(s.value())); err == nil {
				p.count = n
			}
		case "next":
			p.next = string(s.value()) != "null"
		case "results":
			if p.rooms != nil {
				s.fail() // another list takes memory again
			}
			p.rooms = s.rooms()
		default:
			s.value()
		}
	}
	return s.done()
}

// rooms reads an array of rooms. It returns nil if it is none, else not nil. It fails if there
// are more than maxPageRooms.
func (s *scanner) rooms() []Room {
	if s.next() != '[' {
		s.value()
		return nil
	}
	rooms := make([]Room, 0, meetPageSize)
	for range s.items {
		if len(rooms) == maxPageRooms {
			s.fail()
			break
		}
		rooms = append(rooms, s.room())
	}
	return rooms
}

// sizeOfPages returns the size of Meet's pages that a page with this number shows, or
// assumed if it shows none.
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

// pageQuery selects a page; zero fields are not sent.
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

// page reads one of Meet's pages. It returns the page, or Meet's refusal.
func (c *Client) page(ctx context.Context, caller Caller, q pageQuery) (*page, *Response, error) {
	p := new(page)
	a, err := c.Send(ctx, caller, Request{Method: http.MethodGet, Path: roomsPath, Query: q.values(), parse: p.parse})
	if err != nil {
		return nil, nil, err
	}
	if a.Status != http.StatusOK {
		return nil, a, nil
	}
	if p.count < 0 || p.rooms == nil {
		return nil, nil, &Error{Kind: ErrBadAnswer, Op: "list rooms", Status: a.Status, Hint: hintNotJSON}
	}
	return p, nil, nil
}

// fetchPages reads Meet's pages from to to, at most pageWorkers at once; known is used
// instead of reading that page. A page that no longer exists is nil.
func (l *lister) fetchPages(ctx context.Context, known *page, knownNumber, from, to int) ([]*page, *Response, error) {
	parts := make([]*page, max(0, to-from+1))
	var refusal atomic.Pointer[Response]
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(l.c.options.PageWorkers)
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

// errPageRefused stops the reading of other pages.
var errPageRefused = errors.New("meet refused a page")

func (c *Client) backendPageSize() int { return int(c.pageSize.Load()) }
