// SPDX-License-Identifier: MIT

package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient"
)

// handlerFunc is a function that is used as a handler.
type handlerFunc func(http.ResponseWriter, *http.Request) error

func (f handlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	return f(w, r)
}

func meetRequest(ctx context.Context, t testing.TB) *http.Request {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://meet.example.org/external-api/v1.0/rooms/?page=1", nil)
	require.NoError(t, err)
	r.Header.Set("X-Forwarded-Proto", "https")
	return r
}

func TestUpstream_AnswerIsRecorded(t *testing.T) {
	transport := New(handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		assert.Equal(t, "/external-api/v1.0/rooms/?page=1", r.RequestURI)
		assert.Equal(t, "meet.example.org", r.Host)
		assert.Empty(t, r.URL.Host+r.URL.Scheme)
		assert.Equal(t, true, caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey))
		assert.NotNil(t, r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server))
		r.Header.Set("X-Forwarded-Proto", "changed by a handler")
		r.URL.Path = "/changed"

		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusMovedPermanently)
		w.WriteHeader(http.StatusOK)
		_, err := io.WriteString(w, "body")
		assert.NoError(t, err)
		assert.NoError(t, http.NewResponseController(w).Flush())
		return nil
	}), nil, nil)
	r := meetRequest(context.Background(), t)
	res, err := transport.RoundTrip(r)
	require.NoError(t, err)
	require.Equal(t, 301, res.StatusCode, "never followed")
	require.Equal(t, "/elsewhere", res.Header.Get("Location"))
	require.EqualValues(t, 4, res.ContentLength)
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "body", string(b))
	require.NoError(t, res.Body.Close())
	require.NoError(t, res.Body.Close())
	_, err = res.Body.Read(b)
	require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
}

func TestUpstream_ForwardedFor(t *testing.T) {
	for _, tc := range []struct{ peer, clientIP, want string }{
		{"192.0.2.1:1234", "192.0.2.1", ""}, // reverse_proxy adds the peer
		{"192.0.2.1:1234", "203.0.113.9", "203.0.113.9"},
		{"@", "", ""},
	} {
		ctx := context.WithValue(context.Background(), caddyhttp.OriginalRequestCtxKey, http.Request{RemoteAddr: tc.peer})
		ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: tc.clientIP})
		_, err := New(handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			assert.Equal(t, tc.want, r.Header.Get("X-Forwarded-For"))
			assert.Equal(t, tc.peer, r.RemoteAddr)
			assert.Equal(t, tc.clientIP, caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey))
			w.WriteHeader(http.StatusNoContent)
			return nil
		}), nil, nil).RoundTrip(meetRequest(ctx, t))
		require.NoError(t, err)
	}
}

func TestUpstream_Failures(t *testing.T) {
	refused := reverseproxy.NewDialError(errors.New("connection refused"))
	for _, tc := range []struct {
		name    string
		guest   handlerFunc
		status  int
		notSent bool
	}{
		{"no answer", func(http.ResponseWriter, *http.Request) error { return nil }, 502, false},
		{"plain error", func(http.ResponseWriter, *http.Request) error { return errors.New("broken") }, 502, false},
		{"refused", func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(502, refused) }, 502, true},
		{"no upstream", func(http.ResponseWriter, *http.Request) error {
			return caddyhttp.Error(503, errors.New("no upstreams available"))
		}, 503, false},
		{"timeout", func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(504, errors.New("timeout")) }, 504, false},
		{"other status", func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(418, errors.New("teapot")) }, 502, false},
		{"retries ended after an answer", func(_ http.ResponseWriter, r *http.Request) error {
			r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set("http.reverse_proxy.status_code", 503)
			return caddyhttp.Error(503, errors.New("matched retry_match"))
		}, 502, false},
		{"panic", func(http.ResponseWriter, *http.Request) error { panic("at the disco") }, 502, false},
		{"abort", func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) }, 502, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(tc.guest, nil, nil).RoundTrip(meetRequest(context.Background(), t))
			te, ok := errors.AsType[*backendclient.TransportError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, tc.status, te.Status)
			require.Equal(t, tc.notSent, te.NotSent)
		})
	}
}

func TestUpstream_TruncatedAnswer(t *testing.T) {
	for name, guest := range map[string]handlerFunc{
		"abort": func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "half")
			panic(http.ErrAbortHandler)
		},
		"error": func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "half")
			return errors.New("lost")
		},
		"endless": func(w http.ResponseWriter, _ *http.Request) error {
			for chunk := strings.Repeat("x", 1<<20); ; {
				if _, err := io.WriteString(w, chunk); err != nil {
					panic(http.ErrAbortHandler)
				}
			}
		},
	} {
		res, err := New(guest, nil, nil).RoundTrip(meetRequest(context.Background(), t))
		require.NoError(t, err, name)
		b, err := io.ReadAll(res.Body)
		require.Error(t, err, name)
		require.LessOrEqual(t, len(b), maxRecorded, name)
		require.EqualValues(t, -1, res.ContentLength)
		require.NoError(t, res.Body.Close())
	}
}

func TestUpstream_CallerLeaves(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	_, err := New(handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		cancel()
		<-r.Context().Done()
		w.WriteHeader(499) // as reverse_proxy does
		return nil
	}), nil, nil).RoundTrip(meetRequest(ctx, t))
	require.ErrorIs(t, err, context.Canceled)

	res, err := New(handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(499)
		return nil
	}), nil, nil).RoundTrip(meetRequest(context.Background(), t))
	require.NoError(t, err)
	require.Equal(t, 499, res.StatusCode, "the upstream itself answered 499")
}

// Calls for one client run concurrently with one context. Each call has its own replacer and
// variables.
func TestUpstream_ConcurrentCalls(t *testing.T) {
	transport := New(handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		page := r.URL.Query().Get("page")
		repl.Set("test.page", page)
		caddyhttp.SetVar(r.Context(), "page", page)
		r.Header.Set("X-Page", page)
		got, _ := repl.GetString("test.page")
		_, err := fmt.Fprint(w, got, caddyhttp.GetVar(r.Context(), "page"), r.Header.Get("X-Page"))
		return err
	}), nil, nil)
	ctx := context.WithValue(context.Background(), caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: "192.0.2.1"})
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewReplacer())
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			r := meetRequest(ctx, t)
			r.URL.RawQuery = fmt.Sprintf("page=%d", i)
			res, err := transport.RoundTrip(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if want := strings.Repeat(fmt.Sprint(i), 3); err != nil || string(b) != want {
				t.Errorf("got %q, %v, want %q", b, err, want)
			}
		})
	}
	wg.Wait()
}

func BenchmarkUpstream(b *testing.B) {
	body := []byte(`{"id":"7c9e6679-7425-40de-944b-e07fc1f90ae7","name":"aae-erez-aaz","slug":"aae-erez-aaz","access_level":"trusted","configuration":{},"url":"https://meet.example.org/aae-erez-aaz"}`)
	transport := New(handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header()["Content-Type"] = []string{"application/json"}
		_, err := w.Write(body)
		return err
	}), nil, nil)
	r := meetRequest(context.Background(), b)
	b.ReportAllocs()
	for b.Loop() {
		res, err := transport.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		_ = res.Body.Close()
	}
}
