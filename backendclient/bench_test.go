// SPDX-License-Identifier: MIT

package backendclient_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// BenchmarkToken measures the gateway's hot path: a token that is already kept.
func BenchmarkToken(b *testing.B) {
	c, err := backendclient.New(backendclient.Options{Transport: inProcess(newMeet(sandbox.Production())), Host: host})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	if _, err := c.Token(ctx, alice); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Token(ctx, alice); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTokenParallel(b *testing.B) {
	c, err := backendclient.New(backendclient.Options{Transport: inProcess(newMeet(sandbox.Production())), Host: host})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	if _, err := c.Token(ctx, alice); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Token(ctx, alice); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkTokenOfMany measures the same with the tokens of 100,000 users.
func BenchmarkTokenOfMany(b *testing.B) {
	const users = 100_000
	c, err := backendclient.New(backendclient.Options{Transport: canned{}, Host: host, MaxTokens: users})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	callers := make([]backendclient.Caller, users)
	for i := range callers {
		callers[i] = backendclient.Caller{Credentials: full, Mail: "user" + strconv.Itoa(i) + "@example.com"}
		if _, err := c.Token(ctx, callers[i]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i += 7919 {
			if _, err := c.Token(ctx, callers[i%users]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// canned answers without a server, so that only the client is measured.
type canned struct{ room, list string }

func (t canned) RoundTrip(r *http.Request) (*http.Response, error) {
	body := t.room
	switch {
	case strings.HasSuffix(r.URL.Path, "/token/"):
		body = `{"access_token":"a.eyJ1c2VyX2lkIjoieCJ9.c","expires_in":3600}`
	case strings.HasSuffix(r.URL.Path, "/rooms/"):
		body = t.list
	}
	return &http.Response{
		StatusCode:    http.StatusOK,
		Header:        http.Header{"Content-Type": {"application/json"}},
		ContentLength: int64(len(body)),
		Body:          io.NopCloser(strings.NewReader(body)),
		Request:       r,
	}, nil
}

func newCanned(b *testing.B) *backendclient.Client {
	room := func(n int) string {
		return `{"id":"5eed0000-0000-4000-8000-0000000000` + strconv.Itoa(10+n) + `","name":"alice-room-01","slug":"alice-room-01","access_level":"trusted","configuration":{},` +
			`"url":"https://meet.example.org/alice-room-01","telephony":{"enabled":true,"phone_number":"+33100000000","pin_code":"1000000001","default_country":"FR"}}`
	}
	var rooms []string
	for n := range 20 {
		rooms = append(rooms, room(n))
	}
	t := canned{room: room(0), list: `{"count":20,"next":null,"previous":null,"results":[` + strings.Join(rooms, ",") + `]}`}
	if !json.Valid([]byte(t.list)) {
		b.Fatal("list is no JSON")
	}
	c, err := backendclient.New(backendclient.Options{Transport: t, Host: host})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func BenchmarkRetrieveRoom(b *testing.B) {
	c := newCanned(b)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		a, err := c.RetrieveRoom(ctx, alice, "5eed0000-0000-4000-8000-000000000010")
		if err != nil || a.Status != http.StatusOK {
			b.Fatal(a, err)
		}
	}
}

func BenchmarkListRooms(b *testing.B) {
	c := newCanned(b)
	ctx := context.Background()
	link := func(page int) string { return "https://api.example.org/rooms?page=" + strconv.Itoa(page) }
	b.ReportAllocs()
	for b.Loop() {
		a, err := c.ListRooms(ctx, alice, backendclient.ListOptions{Link: link})
		if err != nil || a.Status != http.StatusOK {
			b.Fatal(a, err)
		}
	}
}
