// SPDX-License-Identifier: MIT

package backendclient_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const host = "meet.example.org"

var (
	full  = backendclient.Credentials{ClientID: "app-full", ClientSecret: "test-secret-full-0001"}
	alice = backendclient.Caller{Credentials: full, Mail: "alice@example.com"}
	bob   = backendclient.Caller{Credentials: full, Mail: "bob@example.com"}
	carol = backendclient.Caller{Credentials: full, Mail: "carol@example.com"}
)

// inProcess returns a transport that calls the handler without a socket.
func inProcess(h http.Handler) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		in := r.Clone(r.Context())
		in.RequestURI = r.URL.RequestURI()
		in.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
		in.RemoteAddr = "127.0.0.1:1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, in)
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		return w.Result(), nil
	})
}

// overTCP returns a transport that connects to a server for h and ignores the host of the URL.
func overTCP(t *testing.T, h http.Handler) http.RoundTripper {
	server := httptest.NewServer(h)
	pool := &http.Transport{}
	t.Cleanup(func() {
		pool.CloseIdleConnections()
		server.Close()
	})
	address := server.Listener.Addr().String()
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host = "http", address
		return pool.RoundTrip(out)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// clock is a clock that a test advances.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newMeet returns a sandbox with the fixtures of the recorded contract.
func newMeet(s sandbox.Settings, options ...sandbox.Option) *sandbox.Meet {
	meet := sandbox.New(s, options...)
	meet.LoadFixtures()
	return meet
}

// newClient returns a client of h. The functions edit its options.
func newClient(t *testing.T, h http.Handler, change ...func(*backendclient.Options)) *backendclient.Client {
	t.Helper()
	o := backendclient.Options{Transport: inProcess(h), Host: host}
	for _, f := range change {
		f(&o)
	}
	c, err := backendclient.New(o)
	require.NoError(t, err)
	return c
}

func withClock(c *clock) func(*backendclient.Options) {
	return func(o *backendclient.Options) { o.Now = c.Now }
}

func TestNew_InvalidOptions(t *testing.T) {
	t.Parallel()
	transport := inProcess(http.NotFoundHandler())
	for name, o := range map[string]backendclient.Options{
		"no transport":       {Host: host},
		"no host":            {Transport: transport},
		"host with path":     {Transport: transport, Host: "meet.example.org/x"},
		"host with line":     {Transport: transport, Host: "meet.example.org\r\nX: y"},
		"base path relative": {Transport: transport, Host: host, BasePath: "external-api"},
		"base path with dot": {Transport: transport, Host: host, BasePath: "/external-api/../x"},
		"base path escaped":  {Transport: transport, Host: host, BasePath: "/external%2Fapi"},
		"negative exchanges": {Transport: transport, Host: host, MaxExchanges: -1},
		"negative timeout":   {Transport: transport, Host: host, RequestTimeout: -1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := backendclient.New(o)
			require.Error(t, err)
		})
	}
}

func TestClient_TokenAndRoom(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	c := newClient(t, meet)
	ctx := context.Background()

	token, err := c.Token(ctx, alice)
	require.NoError(t, err)
	require.Equal(t, "a11ce000-0000-4000-8000-00000000000a", token.UserID())
	require.Equal(t, []string{"rooms:list", "rooms:retrieve", "rooms:create", "rooms:update", "rooms:delete"}, token.Scopes())
	require.Equal(t, time.Hour, token.Expires().Sub(token.Received()))

	created, err := c.CreateRoom(ctx, alice, []byte(`{"access_level": "restricted"}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, created.Status)
	require.Contains(t, string(created.Body), `"restricted"`)
	require.NotEmpty(t, created.Location)

	room, err := c.RetrieveRoom(ctx, alice, "5eed0000-0000-4000-8000-000000000001")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, room.Status)
	require.Contains(t, string(room.Body), `"alice-room-01"`)

	require.Equal(t, 1, meet.Exchanges())
	require.NoError(t, c.Healthy(ctx))
}
