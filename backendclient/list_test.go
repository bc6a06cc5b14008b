// SPDX-License-Identifier: MIT

package backendclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	_ "github.com/meet-gateway/meet-gateway/tests/seed" // the same properties each time
)

// list is a page as a caller reads it.
type list struct {
	Count    int
	Next     *string
	Previous *string
	Results  []struct{ ID, Slug string }
}

func (l list) slugs() []string {
	slugs := make([]string, 0, len(l.Results))
	for _, r := range l.Results {
		slugs = append(slugs, r.Slug)
	}
	return slugs
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func link(size int) func(int) string {
	return func(page int) string {
		return fmt.Sprintf("https://api.example.org/rooms?page=%d&page_size=%d", page, size)
	}
}

func readPage(t failer, c *backendclient.Client, caller backendclient.Caller, page, size int) (list, *backendclient.Response) {
	t.Helper()
	a, err := c.ListRooms(context.Background(), caller, backendclient.ListOptions{Page: page, PageSize: size, Link: link(size)})
	if err != nil {
		t.Fatalf("page %d of %d: %v", page, size, err)
	}
	var l list
	if a.Status == http.StatusOK {
		if err := json.Unmarshal(a.Body, &l); err != nil {
			t.Fatalf("page %d of %d: %v in %s", page, size, err, a.Body)
		}
	}
	return l, a
}

// meetWithRooms returns a Meet with one user who has n rooms, and the slugs of the rooms in order.
func meetWithRooms(n int, s sandbox.Settings) (*sandbox.Meet, []string) {
	meet := newMeet(s, sandbox.WithRecorder(1000))
	u := meet.AddUser(sandbox.User{Email: "rooms@example.com", Active: true})
	var slugs []string
	for i := range n {
		slug := fmt.Sprintf("room-%04d", i)
		slugs = append(slugs, slug)
		meet.AddRoom(sandbox.Room{Slug: slug, Roles: map[string]sandbox.Role{u.ID: sandbox.Owner}})
	}
	return meet, slugs
}

var roomsUser = backendclient.Caller{Credentials: full, Mail: "rooms@example.com"}

// listRequests returns the sorted queries of the requests for lists that Meet received.
func listRequests(meet *sandbox.Meet) []string {
	var queries []string
	for _, r := range meet.Requests() {
		if r.Path == roomsPath {
			queries = append(queries, r.Query)
		}
	}
	slices.Sort(queries)
	return queries
}

// For any number of rooms and any page sizes of the caller and of Meet, the pages hold each
// room once and in order. Counts and links are correct, and there is no page past the end.
func TestListRooms_EveryRoomOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 130).Draw(t, "rooms")
		size := rapid.IntRange(1, 100).Draw(t, "page size")
		settings := sandbox.Production()
		settings.HonourPageSize = rapid.Bool().Draw(t, "honoured")
		if rapid.Bool().Draw(t, "other page size at Meet") {
			settings.PageSize = rapid.IntRange(1, 50).Draw(t, "size at Meet")
		}
		meet, want := meetWithRooms(n, settings)
		c, err := backendclient.New(backendclient.Options{Transport: inProcess(meet), Host: host})
		if err != nil {
			t.Fatal(err)
		}
		last := max(1, (n+size-1)/size)
		var got []string
		for page := 1; page <= last; page++ {
			l, a := readPage(t, c, roomsUser, page, size)
			if a.Status != 200 || l.Count != n {
				t.Fatalf("page %d: status %d, count %d: %s", page, a.Status, l.Count, a.Body)
			}
			if (l.Next != nil) != (page < last) || l.Next != nil && *l.Next != link(size)(page+1) {
				t.Fatalf("page %d: next %v", page, l.Next)
			}
			if (l.Previous != nil) != (page > 1) || l.Previous != nil && *l.Previous != link(size)(page-1) {
				t.Fatalf("page %d: previous %v", page, l.Previous)
			}
			got = append(got, l.slugs()...)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if _, a := readPage(t, c, roomsUser, last+1, size); a.Status != 404 || string(a.Body) != `{"detail":"Invalid page."}` {
			t.Fatalf("past the end: %d %s", a.Status, a.Body)
		}
		l, _ := readPage(t, c, roomsUser, backendclient.PageLast, size)
		if !slices.Equal(l.slugs(), want[(last-1)*size:]) {
			t.Fatalf("last page: %v", l.slugs())
		}
		if (l.Previous != nil) != (last > 1) || l.Next != nil {
			t.Fatalf("last page: previous %v, next %v", l.Previous, l.Next)
		}
	})
}

// Every page size lists all 45 rooms of the recording.
func TestListRooms_EveryPageSize(t *testing.T) {
	t.Parallel()
	c := newClient(t, newMeet(sandbox.Production()))
	for size := 1; size <= 100; size++ {
		var got []string
		for page := 1; page <= (45+size-1)/size; page++ {
			l, _ := readPage(t, c, alice, page, size)
			got = append(got, l.slugs()...)
		}
		require.Len(t, got, 45)
		require.True(t, slices.IsSorted(got))
		require.Len(t, slices.Compact(got), 45)
	}
}

// A page costs the expected requests to a Meet that ignores page_size, and to one that honours
// it.
func TestListRooms_BackendRequests(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		page, size int
		ignoring   []string
		honouring  []string // the same page once the client knows that page_size is honoured
	}{
		"default":               {0, 0, []string{""}, []string{""}},
		"page of Meet's size":   {3, 20, []string{"page=3"}, []string{"page=3"}},
		"last of Meet's size":   {backendclient.PageLast, 20, []string{"page=last"}, []string{"page=last"}},
		"past the end":          {99, 20, []string{"page=99"}, []string{"page=99"}},
		"first, smaller":        {1, 5, []string{"page_size=5"}, []string{"page_size=5"}},
		"first, larger":         {1, 50, []string{"page=2", "page=3", "page_size=50"}, []string{"page_size=50"}},
		"first, all":            {1, 100, []string{"page=2", "page=3", "page=4", "page=5", "page_size=100"}, []string{"page_size=100"}},
		"second, within a page": {2, 5, []string{""}, []string{"page=2&page_size=5"}},
		"second, across pages":  {2, 30, []string{"page=2", "page=3"}, []string{"page=2&page_size=30"}},
		"third":                 {3, 50, []string{"page=6", "page=7"}, []string{"page=3&page_size=50"}},
		"last":                  {backendclient.PageLast, 50, []string{"", "page=6", "page=7"}, []string{"page=last&page_size=50"}},
		"past the end, larger":  {9, 50, []string{"page=21"}, []string{"page=21", "page=9&page_size=50"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meet, _ := meetWithRooms(130, sandbox.Production())
			c := newClient(t, meet)
			ignoring, a := readPage(t, c, roomsUser, row.page, row.size)
			require.Equal(t, row.ignoring, listRequests(meet))

			settings := sandbox.Production()
			settings.HonourPageSize = true
			meet, _ = meetWithRooms(130, settings)
			c = newClient(t, meet)
			_, _ = readPage(t, c, roomsUser, 1, 7)
			meet.ForgetRequests()
			honouring, b := readPage(t, c, roomsUser, row.page, row.size)
			require.Equal(t, row.honouring, listRequests(meet))
			require.Equal(t, ignoring.slugs(), honouring.slugs())
			require.Equal(t, a.Status, b.Status)
		})
	}
}

// The count of the last list tells which pages of Meet are needed, so the client requests all
// of them at once.
func TestListRooms_SecondListIsParallel(t *testing.T) {
	t.Parallel()
	meet, want := meetWithRooms(130, sandbox.Production())
	var waiting sync.WaitGroup
	var together atomic.Bool
	c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if together.Load() && r.Method == http.MethodGet {
			waiting.Done()
			waiting.Wait() // hangs unless all requests run at once
		}
		meet.ServeHTTP(w, r)
	}), func(o *backendclient.Options) { o.PageWorkers = 5 })
	_, _ = readPage(t, c, roomsUser, 1, 20)

	together.Store(true)
	for _, row := range []struct{ page, size, asked int }{{1, 50, 3}, {2, 50, 3}, {backendclient.PageLast, 50, 2}, {1, 100, 5}} {
		meet.ForgetRequests()
		waiting.Add(row.asked)
		l, _ := readPage(t, c, roomsUser, row.page, row.size)
		require.Len(t, listRequests(meet), row.asked, "page %d of %d", row.page, row.size)
		require.Equal(t, 130, l.Count)
		from := (max(row.page, 1) - 1) * row.size
		if row.page == backendclient.PageLast {
			from = 100
		}
		require.Equal(t, want[from:min(from+row.size, 130)], l.slugs())
	}
}

// A list is correct although rooms were added or removed since the last one.
func TestListRooms_CountIsOnlyAHint(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before, after := rapid.IntRange(0, 130).Draw(t, "before"), rapid.IntRange(0, 130).Draw(t, "after")
		size, page := rapid.IntRange(1, 100).Draw(t, "size"), rapid.IntRange(1, 4).Draw(t, "page")
		was, _ := meetWithRooms(before, sandbox.Production())
		is, want := meetWithRooms(after, sandbox.Production())
		var current atomic.Pointer[sandbox.Meet]
		current.Store(was)
		c, err := backendclient.New(backendclient.Options{
			Transport: inProcess(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { current.Load().ServeHTTP(w, r) })), Host: host,
		})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = readPage(t, c, roomsUser, 1, 20)
		current.Store(is)
		l, a := readPage(t, c, roomsUser, page, size)
		from := min((page-1)*size, after)
		if page > 1 && from >= after {
			if a.Status != http.StatusNotFound {
				t.Fatalf("past the end: %d", a.Status)
			}
			return
		}
		if l.Count != after || !slices.Equal(l.slugs(), want[from:min(from+size, after)]) {
			t.Fatalf("count %d, rooms %v", l.Count, l.slugs())
		}
	})
}

// The client notices when Meet begins or ceases to honour page_size, and when the size of
// Meet's pages changes.
func TestListRooms_MeetChangesPaging(t *testing.T) {
	t.Parallel()
	settings := sandbox.Production()
	meet, want := meetWithRooms(130, settings)
	var current atomic.Pointer[sandbox.Meet]
	c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { current.Load().ServeHTTP(w, r) }))
	for _, change := range []func(*sandbox.Settings){
		func(s *sandbox.Settings) {},
		func(s *sandbox.Settings) { s.HonourPageSize = true },
		func(s *sandbox.Settings) {},
		func(s *sandbox.Settings) { s.PageSize = 50 },
		func(s *sandbox.Settings) { s.PageSize = 7 },
		func(s *sandbox.Settings) {},
	} {
		s := settings
		change(&s)
		current.Store(meet.With(s))
		for _, size := range []int{20, 50, 30, 7, 5} {
			for page := 1; (page-1)*size < len(want); page++ {
				l, _ := readPage(t, c, roomsUser, page, size)
				require.Equal(t, want[(page-1)*size:min(page*size, len(want))], l.slugs(), "page %d of %d at %+v", page, size, s.PageSize)
			}
		}
	}
}

func TestListRooms_PassesRoomsThrough(t *testing.T) {
	t.Parallel()
	room := `{ "id" : "x", "name":"caf\u00e9 & <b>", "n": 1e2, "unknown": [ {} ] }`
	s := newScript(respond(200, "application/json", ` { "results" : [ `+room+` ] , "previous":null,"next":null, "count" : 1 , "later": {"x":[]} } `))
	c := newClient(t, s)
	a, err := c.ListRooms(context.Background(), alice, backendclient.ListOptions{PageSize: 100})
	require.NoError(t, err)
	require.Equal(t, `{"count":1,"next":null,"previous":null,"results":[`+room+`]}`, string(a.Body))
	require.Equal(t, http.StatusOK, a.Status)

	var seen []string
	a, err = c.ListRooms(context.Background(), alice, backendclient.ListOptions{Room: func(r backendclient.Room) json.RawMessage {
		seen = append(seen, string(r.JSON))
		return json.RawMessage(`{"url":"filled"}`)
	}})
	require.NoError(t, err)
	require.Equal(t, []string{room}, seen)
	require.Equal(t, `{"count":1,"next":null,"previous":null,"results":[{"url":"filled"}]}`, string(a.Body))
}

func TestListRooms_Links(t *testing.T) {
	t.Parallel()
	c := newClient(t, newMeet(sandbox.Production()))
	a, err := c.ListRooms(context.Background(), alice, backendclient.ListOptions{Page: 2, Link: func(page int) string {
		return `https://api.example.org/rooms?a="&page=` + strconv.Itoa(page)
	}})
	require.NoError(t, err)
	require.Contains(t, string(a.Body), `"next":"https://api.example.org/rooms?a=\"&page=3","previous":"https://api.example.org/rooms?a=\"&page=1"`)

	a, err = c.ListRooms(context.Background(), alice, backendclient.ListOptions{Page: 2})
	require.NoError(t, err)
	require.Contains(t, string(a.Body), `"next":null,"previous":null`)
}

// A malformed list is an error. A refusal of Meet is passed on.
func TestListRooms_Refusals(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, handler := range map[string]http.Handler{
		"no count":       respond(200, "application/json", `{"results":[]}`),
		"negative count": respond(200, "application/json", `{"count":-1,"results":[]}`),
		"count no int":   respond(200, "application/json", `{"count":1.5,"results":[]}`),
		"no results":     respond(200, "application/json", `{"count":1}`),
		"null results":   respond(200, "application/json", `{"count":1,"results":null}`),
		"array":          respond(200, "application/json", `[]`),
		"two lists":      respond(200, "application/json", `{"count":1,"results":[{"id":"a"}],"results":[{"id":"b"}]}`),
		"too many rooms": respond(200, "application/json", `{"count":1001,"results":[`+strings.Repeat("{},", 1000)+`{}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newClient(t, newScript(handler)).ListRooms(ctx, alice, backendclient.ListOptions{PageSize: 50})
			require.ErrorIs(t, err, backendclient.ErrBadAnswer)
		})
	}
	t.Run("scope", func(t *testing.T) {
		t.Parallel()
		caller := backendclient.Caller{Credentials: backendclient.Credentials{ClientID: "app-create", ClientSecret: "test-secret-create-0004"}, Mail: alice.Mail}
		for _, size := range []int{20, 50} {
			a, err := newClient(t, newMeet(sandbox.Production())).ListRooms(ctx, caller, backendclient.ListOptions{PageSize: size})
			require.NoError(t, err)
			require.Equal(t, 403, a.Status)
			require.Contains(t, string(a.Body), "rooms:list")
		}
	})
	t.Run("options", func(t *testing.T) {
		t.Parallel()
		c := newClient(t, newMeet(sandbox.Production()))
		for _, size := range []int{-1, 101} {
			_, err := c.ListRooms(ctx, alice, backendclient.ListOptions{PageSize: size})
			require.ErrorIs(t, err, backendclient.ErrInvalidRequest)
		}
		for _, page := range []int{-2, math.MaxInt} {
			a, err := c.ListRooms(ctx, alice, backendclient.ListOptions{Page: page, PageSize: 50})
			require.NoError(t, err)
			require.Equal(t, 404, a.Status)
		}
	})
	t.Run("one of the pages fails", func(t *testing.T) {
		t.Parallel()
		meet, _ := meetWithRooms(130, sandbox.Production())
		for status, kind := range map[int]error{503: backendclient.ErrUnavailable, 504: backendclient.ErrTimeout, 500: backendclient.ErrBadAnswer} {
			c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("page") == "3" {
					respond(status, "text/html", htmlPage).ServeHTTP(w, r)
					return
				}
				meet.ServeHTTP(w, r)
			}))
			_, err := c.ListRooms(ctx, roomsUser, backendclient.ListOptions{PageSize: 100})
			require.ErrorIs(t, err, kind)
		}
	})
}

// changingList is a list of rooms that the function change may edit before each request.
type changingList struct {
	mu       sync.Mutex
	rooms    []string
	requests int
	change   func(request int, rooms []string) []string
}

func (m *changingList) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/token/") {
		respond(200, "application/json", `{"access_token":"a.b.c","expires_in":3600}`).ServeHTTP(w, r)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests++
	m.rooms = m.change(m.requests, slices.Clone(m.rooms))

	page := 1
	if q := r.URL.Query().Get("page"); q != "" {
		page, _ = strconv.Atoi(q)
	}
	from := (page - 1) * 20
	if from >= len(m.rooms) && page > 1 {
		detail(404, "Invalid page.").ServeHTTP(w, r)
		return
	}
	rooms := make([]map[string]string, 0, 20)
	for _, slug := range m.rooms[from:min(from+20, len(m.rooms))] {
		rooms = append(rooms, map[string]string{"id": "id of " + slug, "slug": slug})
	}
	body := map[string]any{"count": len(m.rooms), "next": nil, "previous": nil, "results": rooms}
	if from+20 < len(m.rooms) {
		body["next"] = "https://meet.example.org/"
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func numbered(n int) []string {
	var rooms []string
	for i := range n {
		rooms = append(rooms, fmt.Sprintf("room-%04d", i))
	}
	return rooms
}

// Pages are fetched one at a time, so that each case has a fixed order of events.
func TestListRooms_ChangeDuringList(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(request int, rooms []string) []string
		want   func() []string
	}{
		// A room created before the others moves one from page 1 to page 2.
		"created at the start": {
			func(request int, rooms []string) []string {
				if request == 2 {
					return append([]string{"a-new-one"}, rooms...)
				}
				return rooms
			},
			func() []string { return append([]string{"a-new-one"}, numbered(60)...) },
		},
		// A room created after the others moves none, but changes the count.
		"created at the end": {
			func(request int, rooms []string) []string {
				if request == 3 {
					return append(rooms, "z-new-one")
				}
				return rooms
			},
			func() []string { return append(numbered(60), "z-new-one") },
		},
		// A deleted room moves one from page 2 to page 1, which has been read already.
		"deleted at the start": {
			func(request int, rooms []string) []string {
				if request == 2 {
					return rooms[1:]
				}
				return rooms
			},
			func() []string { return numbered(60)[1:] },
		},
		// The count stays the same, but the pages overlap.
		"created and deleted": {
			func(request int, rooms []string) []string {
				if request == 2 {
					return append([]string{"a-new-one"}, rooms[:59]...)
				}
				return rooms
			},
			func() []string { return append([]string{"a-new-one"}, numbered(59)...) },
		},
		"most deleted": {
			func(request int, rooms []string) []string {
				if request == 2 {
					return rooms[:5]
				}
				return rooms
			},
			func() []string { return numbered(5) },
		},
		"deleted twice": {
			func(request int, rooms []string) []string {
				if request == 2 || request == 5 {
					return rooms[1:]
				}
				return rooms
			},
			func() []string { return numbered(60)[2:] },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &changingList{rooms: numbered(60), change: row.change}
			c := newClient(t, m, func(o *backendclient.Options) { o.PageWorkers = 1 })
			l, a := readPage(t, c, alice, 1, 100)
			require.Equal(t, 200, a.Status)
			require.Equal(t, row.want(), l.slugs())
			require.Equal(t, len(row.want()), l.Count)
			require.LessOrEqual(t, m.requests, 12)
		})
	}
}

// If the list changes at every request, a page may lack a room. It is not too long and has no
// duplicates, and the number of requests is bounded.
func TestListRooms_ChangeAtEveryRequest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 100).Draw(t, "page size")
		page := rapid.IntRange(1, 4).Draw(t, "page")
		m := &changingList{rooms: numbered(rapid.IntRange(0, 120).Draw(t, "rooms"))}
		created := 0
		m.change = func(_ int, rooms []string) []string {
			if rapid.Bool().Draw(t, "make") || len(rooms) == 0 {
				created++
				rooms = append(rooms, fmt.Sprintf("room-%04d-%d", rapid.IntRange(0, 120).Draw(t, "where"), created))
				slices.Sort(rooms)
				return rooms
			}
			i := rapid.IntRange(0, len(rooms)-1).Draw(t, "delete")
			return slices.Delete(rooms, i, i+1)
		}
		// One worker, because rapid's draws are not safe for concurrent use.
		c, err := backendclient.New(backendclient.Options{Transport: inProcess(m), Host: host, PageWorkers: 1})
		if err != nil {
			t.Fatal(err)
		}
		l, a := readPage(t, c, alice, page, size)
		if a.Status == 404 {
			return
		}
		slugs := l.slugs()
		if len(slugs) > size {
			t.Fatalf("%d rooms on a page of %d", len(slugs), size)
		}
		slices.Sort(slugs)
		if n := len(slugs); len(slices.Compact(slugs)) != n {
			t.Fatalf("duplicate rooms: %v", slugs)
		}
		if m.requests > 30 {
			t.Fatalf("%d requests", m.requests)
		}
	})
}

// At most PageWorkers pages are fetched at once.
func TestListRooms_Parallel(t *testing.T) {
	t.Parallel()
	meet, _ := meetWithRooms(200, sandbox.Production())
	var (
		running, most atomic.Int32
		once          sync.Once
	)
	together := make(chan struct{})
	c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("page") != "" {
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			if n == 3 {
				once.Do(func() { close(together) })
			}
			<-together // hangs unless three requests run at once
		}
		meet.ServeHTTP(w, r)
	}), func(o *backendclient.Options) { o.PageWorkers = 3 })
	a, err := c.ListRooms(context.Background(), roomsUser, backendclient.ListOptions{PageSize: 100})
	require.NoError(t, err)
	require.Equal(t, 200, a.Status)
	require.EqualValues(t, 3, most.Load())
}

func TestFindRoomBySlug(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, filter := range map[string]bool{"today's Meet": false, "a Meet that filters": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := sandbox.Production()
			settings.SlugFilter = filter
			meet, slugs := meetWithRooms(130, settings)
			c := newClient(t, meet)
			for _, i := range []int{0, 19, 20, 77, 129} {
				meet.ForgetRequests()
				a, err := c.FindRoomBySlug(ctx, roomsUser, slugs[i])
				require.NoError(t, err)
				require.Equal(t, 200, a.Status)
				var room struct{ Slug string }
				require.NoError(t, json.Unmarshal(a.Body, &room))
				require.Equal(t, slugs[i], room.Slug)
				require.Equal(t, "slug="+slugs[i], listRequests(meet)[len(listRequests(meet))-1])
				if filter || i < 20 {
					require.Len(t, listRequests(meet), 1)
				}
			}
			for _, slug := range []string{"", "none", "alice-room-01", "ROOM-0001"} {
				a, err := c.FindRoomBySlug(ctx, roomsUser, slug)
				require.NoError(t, err)
				require.Equal(t, 404, a.Status)
				require.JSONEq(t, `{"detail":"No Room matches the given query."}`, string(a.Body))
			}
			meet.ForgetRequests()
			_, err := c.FindRoomBySlug(ctx, backendclient.Caller{Credentials: full, Mail: "provisional-off@example.com"}, "x")
			require.ErrorIs(t, err, backendclient.ErrUserDisabled)
		})
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		caller := backendclient.Caller{Credentials: backendclient.Credentials{ClientID: "app-create", ClientSecret: "test-secret-create-0004"}, Mail: alice.Mail}
		a, err := newClient(t, newMeet(sandbox.Production())).FindRoomBySlug(ctx, caller, "x")
		require.NoError(t, err)
		require.Equal(t, 403, a.Status)
	})
	t.Run("bounded", func(t *testing.T) {
		t.Parallel()
		m := &changingList{rooms: numbered(1001), change: func(_ int, rooms []string) []string { return rooms }}
		c := newClient(t, m)
		_, err := c.FindRoomBySlug(ctx, alice, "none")
		require.ErrorIs(t, err, backendclient.ErrTooManyRooms)
		require.Equal(t, 50, m.requests)
		a, err := c.FindRoomBySlug(ctx, alice, "room-0999")
		require.NoError(t, err)
		require.Equal(t, 200, a.Status)
	})
	t.Run("moves during the search", func(t *testing.T) {
		t.Parallel()
		m := &changingList{rooms: numbered(60), change: func(request int, rooms []string) []string {
			if request == 2 {
				return rooms[1:] // moves room-0020 to page 1
			}
			return rooms
		}}
		a, err := newClient(t, m).FindRoomBySlug(ctx, alice, "room-0020")
		require.NoError(t, err)
		require.Equal(t, 200, a.Status)
	})
}
