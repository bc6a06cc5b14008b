// SPDX-License-Identifier: MIT

package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// client calls a sandbox in the same process.
type client struct {
	t       *testing.T
	handler http.Handler
}

func (c client) do(method, target, token, body string) (int, map[string]any) {
	c.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("Content-Type", "application/json")
	r.Host = "meet.example.org"
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	var v map[string]any
	if w.Header().Get("Content-Type") == "application/json" {
		require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &v))
	}
	return w.Code, v
}

func (c client) exchange(id, secret, mail string) (int, map[string]any) {
	c.t.Helper()
	body, err := json.Marshal(map[string]string{
		"client_id": id, "client_secret": secret, "grant_type": "client_credentials", "scope": mail,
	})
	require.NoError(c.t, err)
	return c.do(http.MethodPost, "/external-api/v1.0/application/token/", "", string(body))
}

// token exchanges the credentials of the fixture app-full.
func (c client) token(mail string) string {
	c.t.Helper()
	status, body := c.exchange("app-full", "test-secret-full-0001", mail)
	require.Equal(c.t, http.StatusOK, status, body)
	return body["access_token"].(string)
}

func (c client) list(token, query string) (int, map[string]any) {
	c.t.Helper()
	return c.do(http.MethodGet, "/external-api/v1.0/rooms/"+query, token, "")
}

func fixtures(t *testing.T, s sandbox.Settings, options ...sandbox.Option) (*sandbox.Meet, client) {
	t.Helper()
	m := sandbox.New(s, append(options, sandbox.WithParser(exactJSON))...)
	m.LoadFixtures()
	return m, client{t, m}
}

func TestMeet_AdminChanges(t *testing.T) {
	tests := map[string]struct {
		change func(*sandbox.Meet)
		status int
		detail string
	}{
		"application deactivated": {
			func(m *sandbox.Meet) { m.SetApplicationActive("app-full", false) },
			http.StatusUnauthorized, "Application is disabled.",
		},
		"application activated again": {
			func(m *sandbox.Meet) {
				m.SetApplicationActive("app-full", false)
				m.SetApplicationActive("app-full", true)
			},
			http.StatusOK, "",
		},
		"unknown application deactivated": {
			func(m *sandbox.Meet) { m.SetApplicationActive("nobody", false) },
			http.StatusOK, "",
		},
		"user deactivated": {
			func(m *sandbox.Meet) { m.SetUserActive("BOB@example.com", false) },
			http.StatusUnauthorized, "User account is disabled.",
		},
		"user removed": {
			func(m *sandbox.Meet) { m.RemoveUser("bob@example.com") },
			http.StatusUnauthorized, "User not found.",
		},
		"user merged": {
			func(m *sandbox.Meet) { m.MergeUsers("bob@example.com") },
			http.StatusUnauthorized, "User not found.",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m, c := fixtures(t, sandbox.Production())
			token := c.token("bob@example.com")
			test.change(m)
			status, body := c.list(token, "")
			require.Equal(t, test.status, status)
			if test.detail != "" {
				require.Equal(t, test.detail, body["detail"])
			}
		})
	}
}

func TestMergeUsers_KeepsRooms(t *testing.T) {
	m, c := fixtures(t, sandbox.Production())
	id := m.MergeUsers("bob@example.com")
	require.NotEmpty(t, id)
	require.NotEqual(t, "b0b00000-0000-4000-8000-00000000000b", id)
	_, body := c.list(c.token("bob@example.com"), "")
	require.EqualValues(t, 3, body["count"])
	require.Empty(t, m.MergeUsers("nobody@example.com"))
}

func TestMergeUsers_KeepsNewest(t *testing.T) {
	m, c := fixtures(t, sandbox.Production())
	status, _ := c.exchange("app-full", "test-secret-full-0001", "dup@example.com")
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "d0bb1e00-0000-4000-8000-000000000011", m.MergeUsers("DUP@example.com"))
	c.token("dup@example.com")
}

func TestRemoveUser_ProvisionsAgain(t *testing.T) {
	s := sandbox.Quickstart()
	m, c := fixtures(t, s)
	m.RemoveUser("alice@example.com")
	status, body := c.list(c.token("alice@example.com"), "")
	require.Equal(t, http.StatusOK, status)
	require.EqualValues(t, 0, body["count"])
}

func TestWith_SharesDataAndCounters(t *testing.T) {
	m, c := fixtures(t, sandbox.Production())
	s := m.Settings()
	s.JWTIssuer = "elsewhere"
	other := m.With(s)
	oldToken := c.token("bob@example.com")
	c.handler = other
	status, body := c.list(oldToken, "")
	require.Equal(t, http.StatusUnauthorized, status)
	require.Equal(t, "Invalid token.", body["detail"])
	_, body = c.list(c.token("bob@example.com"), "")
	require.EqualValues(t, 3, body["count"])
	require.Equal(t, 2, m.Exchanges())
	require.Len(t, m.Requests(), 4)
}

func TestList_PageSizeAndSlugFilter(t *testing.T) {
	s := sandbox.Production()
	s.HonourPageSize = true
	s.SlugFilter = true
	_, c := fixtures(t, s)
	alice := c.token("alice@example.com")
	tests := []struct {
		query   string
		results int
		count   int
		next    any
	}{
		{"", 20, 45, "https://meet.example.org/external-api/v1.0/rooms/?page=2"},
		{"?page_size=5&page=9", 5, 45, nil},
		{"?page_size=5&page=8", 5, 45, "https://meet.example.org/external-api/v1.0/rooms/?page=9&page_size=5"},
		{"?page_size=1000", 45, 45, nil},
		{"?page_size=0", 20, 45, "https://meet.example.org/external-api/v1.0/rooms/?page=2&page_size=0"},
		{"?slug=alice-room-07", 1, 1, nil},
		{"?slug=bob-private", 0, 0, nil},
	}
	for _, test := range tests {
		t.Run(test.query, func(t *testing.T) {
			_, body := c.list(alice, test.query)
			require.Len(t, body["results"], test.results)
			require.EqualValues(t, test.count, body["count"])
			require.Equal(t, test.next, body["next"])
		})
	}
}

// A full last page has no next page. The recording has no such list.
func TestList_FullLastPage(t *testing.T) {
	s := sandbox.Production()
	s.PageSize = 3
	_, c := fixtures(t, s)
	bob := c.token("bob@example.com")
	_, body := c.list(bob, "")
	require.Len(t, body["results"], 3)
	require.Nil(t, body["next"])
	status, _ := c.list(bob, "?page=2")
	require.Equal(t, http.StatusNotFound, status)
}

func TestAnyApplication(t *testing.T) {
	_, c := fixtures(t, sandbox.Quickstart())
	status, _ := c.exchange("unheard-of", "anything", "ada@example.com")
	require.Equal(t, http.StatusUnauthorized, status)

	s := sandbox.Quickstart()
	s.AnyApplication = true
	_, c = fixtures(t, s)
	status, body := c.exchange("unheard-of", "anything", "ada@example.com")
	require.Equal(t, http.StatusOK, status)
	status, _ = c.list(body["access_token"].(string), "")
	require.Equal(t, http.StatusOK, status)
	status, _ = c.exchange("app-full", "not its secret", "ada@example.com")
	require.Equal(t, http.StatusUnauthorized, status, "a registered application keeps its secret")
}

func TestExchange_EndsWithRequest(t *testing.T) {
	s := sandbox.Quickstart()
	s.ExchangeDelay = time.Hour
	m, _ := fixtures(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	body := `{"client_id":"app-full","client_secret":"test-secret-full-0001","grant_type":"client_credentials","scope":"bob@example.com"}`
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/external-api/v1.0/application/token/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	done := make(chan int)
	go func() {
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		done <- w.Code
	}()
	require.Eventually(t, func() bool { return m.Exchanges() == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	require.NotEqual(t, http.StatusOK, <-done)
}

func TestRecorder_KeepsLast(t *testing.T) {
	m, c := fixtures(t, sandbox.Production(), sandbox.WithRecorder(3))
	for n := range 5 {
		c.do(http.MethodGet, fmt.Sprintf("/external-api/v1.0/rooms/?page=%d", n), "some.token", "")
	}
	var queries []string
	for _, r := range m.Requests() {
		queries = append(queries, r.Query)
		require.Equal(t, "Bearer some.token", r.Header.Get("Authorization"))
		require.Equal(t, "/external-api/v1.0/rooms/", r.Path)
	}
	require.Equal(t, []string{"page=2", "page=3", "page=4"}, queries)
	c.do(http.MethodPost, "/external-api/v1.0/rooms", "", "{}")
	last := m.Requests()[2]
	require.Equal(t, "{}", string(last.Body))
	require.Equal(t, "/external-api/v1.0/rooms", last.Target)
	require.EqualValues(t, 2, last.ContentLength)
	m.ForgetRequests()
	require.Empty(t, m.Requests())
}

func TestLimits(t *testing.T) {
	m, c := fixtures(t, sandbox.Production(), sandbox.WithRecorder(1))
	token := c.token("carol@example.com")
	tests := map[string]struct {
		body   string
		status int
	}{
		"body too large":    {`{"x":"` + strings.Repeat("x", 8<<20) + `"}`, http.StatusBadRequest},
		"lists too deep":    {strings.Repeat("[", 1<<20), http.StatusInternalServerError},
		"objects too deep":  {strings.Repeat(`{"a":`, 1<<20), http.StatusInternalServerError},
		"integer too long":  {strings.Repeat("1", 4301), http.StatusBadRequest},
		"integer just long": {`{"x":` + strings.Repeat("1", 4300) + `}`, http.StatusCreated},
		"many numbers":      {`{"x":[` + strings.Repeat("1,", 1<<20) + `1]}`, http.StatusCreated},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status, _ := c.do(http.MethodPost, "/external-api/v1.0/rooms/", token, test.body)
			require.Equal(t, test.status, status)
		})
	}
	require.LessOrEqual(t, len(m.Requests()[0].Body), 64<<10)
}

func TestKeepAlive(t *testing.T) {
	for _, keep := range []bool{false, true} {
		s := sandbox.Quickstart()
		s.KeepAlive = keep
		w := httptest.NewRecorder()
		sandbox.New(s).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/__heartbeat__", nil))
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, keep, w.Header().Get("Connection") == "")
	}
}

// The test is for the race detector. It also counts the exchanges and rooms.
func TestConcurrentUse(t *testing.T) {
	s := sandbox.Quickstart()
	m, c := fixtures(t, s)
	const users, rooms = 4, 5
	var wg sync.WaitGroup
	for u := range users {
		mail := fmt.Sprintf("user-%d@example.com", u%2) // two each, provisioned at once
		wg.Go(func() {
			form := url.Values{
				"client_id": {"app-full"}, "client_secret": {"test-secret-full-0001"},
				"grant_type": {"client_credentials"}, "scope": {mail},
			}
			r := httptest.NewRequest(http.MethodPost, "/external-api/v1.0/application/token/", bytes.NewBufferString(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			m.ServeHTTP(w, r)
			var answer struct {
				AccessToken string `json:"access_token"`
			}
			if json.Unmarshal(w.Body.Bytes(), &answer) != nil {
				return
			}
			for range rooms {
				for _, method := range []string{http.MethodPost, http.MethodGet} {
					r := httptest.NewRequest(method, "/external-api/v1.0/rooms/", nil)
					r.Header.Set("Authorization", "Bearer "+answer.AccessToken)
					m.ServeHTTP(httptest.NewRecorder(), r)
				}
				m.SetApplicationActive("app-list", true)
				m.Requests()
			}
		})
	}
	wg.Wait()
	require.Equal(t, users, m.Exchanges())
	for u := range 2 {
		_, body := c.list(c.token(fmt.Sprintf("user-%d@example.com", u)), "")
		require.EqualValues(t, users/2*rooms, body["count"])
	}
}
