// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/caddymodule/upstream"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/django"
	"github.com/meet-gateway/meet-gateway/tokens/django/djangotest"
	"github.com/meet-gateway/meet-gateway/tokens/embedded"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

const sampleRoom = `{"id":"` + sampleID + `","name":"aae-erez-aaz","slug":"aae-erez-aaz","access_level":"trusted","configuration":{},` +
	`"url":"https://meet.example.org/aae-erez-aaz","telephony":{"enabled":true,"phone_number":"+33100000000","pin_code":"8850791761","default_country":"FR"}}`

// newGate returns a gate over a guest handler, and an application.
func newGate(t testing.TB, guest caddyhttp.MiddlewareHandler) (h *Handler, app *tokens.Application) {
	t.Helper()
	store, err := embedded.Open()
	require.NoError(t, err)
	h, app, _ = newGateOver(t, store, guest)
	return h, app
}

// newGateOver is newGate with the given store, which it closes.
func newGateOver(t testing.TB, store *tokens.Store, guest caddyhttp.MiddlewareHandler) (h *Handler, app *tokens.Application, secret string) {
	t.Helper()
	authority, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{[]byte("0123456789-0123456789-0123456789")}})
	require.NoError(t, err)
	authority.Start()
	require.Eventually(t, authority.Fresh, 30*time.Second, time.Millisecond)
	limiter := limit.New(limit.Options{Shared: authority})
	t.Cleanup(func() {
		limiter.Close()
		require.NoError(t, authority.Close())
		require.NoError(t, store.Close())
	})
	app, secret, err = authority.CreateApplication(context.Background(), tokens.Application{
		Name: "Test", Active: true, Domains: []string{"*"}, Scopes: tokens.Scopes{tokens.ScopeRoomsList, tokens.ScopeRoomsRetrieve},
	})
	require.NoError(t, err)
	h = &Handler{logger: zap.NewNop(), app: &App{outages: new(throttle), authority: &pooledAuthority{Authority: authority, limiter: limiter}}, upstream: upstream.New(guest, nil, nil)}
	h.setDefaults()
	h.basePath, err = sortedBasePaths(h.BasePaths)
	require.NoError(t, err)
	h.routes, err = newRouteTable(nil)
	require.NoError(t, err)
	h.fallback = backendclient.Credentials{ClientID: "id", ClientSecret: "secret"}
	h.client, err = backendclient.New(backendclient.Options{Transport: h.upstream, Context: h.upstream.Context, Host: "meet.example.org", Store: authority})
	require.NoError(t, err)
	return h, app, secret
}

// meetGuest answers every exchange and every request for a room.
var meetGuest = handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
	w.Header()["Content-Type"] = headerTypeJSON
	body := sampleRoom
	if strings.HasSuffix(r.URL.Path, "/token/") {
		body = `{"access_token":"a.b.c","token_type":"Bearer","expires_in":3600,"scope":"rooms:list rooms:retrieve"}`
	}
	_, err := w.Write([]byte(body))
	return err
})

// discard is a ResponseWriter that does nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// BenchmarkGate_RetrieveHot measures a request with a verified token, without servers and
// sockets: the cost of the gate in addition to reverse_proxy.
func BenchmarkGate_RetrieveHot(b *testing.B) {
	benchmarkRead(b, meetGuest, "/external-api/v1.0/rooms/"+sampleID)
}

// BenchmarkGate_List is BenchmarkGate_RetrieveHot for lists: one of Meet's pages, and one that is
// assembled from three.
func BenchmarkGate_List(b *testing.B) {
	const rooms, size = 45, 20
	pages := map[string]string{}
	for from := 0; from < rooms; from += size {
		var results []string
		for n := from; n < min(from+size, rooms); n++ {
			results = append(results, strings.NewReplacer(sampleID, fmt.Sprintf("%s%02d", sampleID[:len(sampleID)-2], n), "aae-erez-aaz", fmt.Sprintf("aae-erez-%03d", n)).Replace(sampleRoom))
		}
		pages[strconv.Itoa(from/size+1)] = fmt.Sprintf(`{"count":%d,"next":null,"previous":null,"results":[%s]}`, rooms, strings.Join(results, ","))
	}
	guest := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if strings.HasSuffix(r.URL.Path, "/token/") {
			return meetGuest(w, r)
		}
		w.Header()["Content-Type"] = headerTypeJSON
		_, err := w.Write([]byte(pages[cmp.Or(r.URL.Query().Get("page"), "1")]))
		return err
	})
	for name, query := range map[string]string{"page_size=20": "", "page_size=50": "?page_size=50"} {
		b.Run(name, func(b *testing.B) { benchmarkRead(b, guest, "/external-api/v1.0/rooms/"+query) })
	}
}

func benchmarkRead(b *testing.B, guest caddyhttp.MiddlewareHandler, target string) {
	h, app := newGate(b, guest)
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header.Set("Authorization", "Bearer "+issue(b, h, app))
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), discard{}, new(caddyhttp.Server))
	w := discard{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		if err := h.ServeHTTP(w, r, noNext); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGate_Contention reads with 1,000 known tokens from eight goroutines for each core
// of -cpu. It reports the share of time for which goroutines wait for mutexes.
func BenchmarkGate_Contention(b *testing.B) {
	h, app := newGate(b, meetGuest)
	h.app.authority.limiter.Rates().Set(limit.Read, limit.Rate{Count: 1_000_000_000, Per: time.Second})
	h.app.authority.limiter.Rates().Set(limit.ReadUser, limit.Rate{Count: 1_000_000_000, Per: time.Second})
	authorizations := make([]string, 1000)
	for i := range authorizations {
		authorizations[i] = "Bearer " + issue(b, h, app)
	}
	waited := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	metrics.Read(waited)
	before := waited[0].Value.Float64()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		w := discard{make(http.Header)}
		for i := 0; pb.Next(); i++ {
			clear(w.header)
			r := httptest.NewRequest(http.MethodGet, "/external-api/v1.0/rooms/"+sampleID, nil)
			r.Header.Set("Authorization", authorizations[i%len(authorizations)])
			if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server)), noNext); err != nil {
				b.Error(err)
				return
			}
		}
	})
	metrics.Read(waited)
	goroutines := 8 * float64(runtime.GOMAXPROCS(0))
	b.ReportMetric(100*(waited[0].Value.Float64()-before)/(b.Elapsed().Seconds()*goroutines), "%-waiting")
}

// A read with a known token allocates 24 times, eleven of them for the request to Meet.
// The race detector empties pools at random, which makes it 26, hence the slack.
func TestGate_AllocationBudget(t *testing.T) {
	h, app := newGate(t, meetGuest)
	r := httptest.NewRequest(http.MethodGet, "/external-api/v1.0/rooms/"+sampleID, nil)
	r.Header.Set("Authorization", "Bearer "+issue(t, h, app))
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), discard{}, new(caddyhttp.Server))
	w := discard{make(http.Header)}
	least := math.Inf(1) // of several runs, since heartbeats allocate meanwhile
	for range 10 {
		least = min(least, testing.AllocsPerRun(100, func() {
			clear(w.header)
			if err := h.ServeHTTP(w, r, noNext); err != nil {
				t.Error(err)
			}
		}))
	}
	require.LessOrEqual(t, least, 27.0)
}

// BenchmarkTokenRequest_Cached serves token requests for one user on all cores, with a Redis
// server on the same cores. It then measures checks of Django's hash of a secret (PBKDF2 with
// 1,000,000 iterations) on all cores: in Python, as Django does, if there is a python3, and
// with this gateway's check of imported secrets. It reports all rates, and the ratio of the
// first rate to each of the others.
func BenchmarkTokenRequest_Cached(b *testing.B) {
	store, err := tokens.OpenRedis(tokens.RedisOptions{URL: redistest.Standalone(b).URL()})
	require.NoError(b, err)
	h, app, secret := newGateOver(b, store, meetGuest)
	h.app.authority.limiter.Rates().Set(limit.Token, limit.Rate{})
	h.app.authority.limiter.Rates().Set(limit.TokenUser, limit.Rate{})
	body := `{"client_id":"` + app.ID + `","client_secret":"` + secret + `","grant_type":"client_credentials","scope":"ada@example.org"}`
	serve := func(w http.ResponseWriter) error {
		r := httptest.NewRequest(http.MethodPost, "/external-api/v1.0/application/token/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		return h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server)), noNext)
	}
	w := httptest.NewRecorder()
	require.NoError(b, serve(w))
	require.Equal(b, http.StatusOK, w.Code, w.Body.String())

	b.ReportAllocs()
	b.SetParallelism(8) // most of the time is waiting for Redis
	b.ResetTimer()
	began := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w := httptest.NewRecorder()
			if err := serve(w); err != nil || w.Code != http.StatusOK {
				b.Error(w.Code, err)
				return
			}
		}
	})
	served := float64(b.N) / time.Since(began).Seconds()
	b.StopTimer()

	hash := djangotest.Hash("secret", "salt", 1_000_000)
	imported := onAllCores(b, func() float64 {
		began := time.Now()
		if ok, err := django.Verify(hash, "secret"); err != nil || !ok {
			b.Error(ok, err)
		}
		return 1 / time.Since(began).Seconds()
	})
	b.ReportMetric(served, "tokens/s")
	b.ReportMetric(imported, "imported-checks/s")
	b.ReportMetric(served/imported, "x-imported")
	if _, err := exec.LookPath("python3"); err == nil {
		rate := onAllCores(b, func() float64 { return djangoChecks(b) })
		b.ReportMetric(rate, "django-checks/s")
		b.ReportMetric(served/rate, "x-django")
	}
}

// onAllCores returns the sum of the rates that all cores reach at the same time.
func onAllCores(b *testing.B, rate func() float64) (sum float64) {
	b.Helper()
	rates := make(chan float64)
	for range runtime.GOMAXPROCS(0) {
		go func() { rates <- rate() }()
	}
	for range runtime.GOMAXPROCS(0) {
		sum += <-rates
	}
	return sum
}

// djangoChecks returns how many hashes a second Django's PBKDF2PasswordHasher computes. It makes
// the same call as pbkdf2() of django.utils.crypto.
func djangoChecks(b *testing.B) float64 {
	b.Helper()
	out, err := exec.Command("python3", "-c", `
import hashlib, time
began = time.perf_counter()
for _ in range(3): hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 1_000_000)
print(3 / (time.perf_counter() - began))`).Output()
	if err != nil {
		b.Error(err)
		return 0
	}
	rate, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		b.Error(err)
	}
	return rate
}

func issue(t testing.TB, h *Handler, app *tokens.Application) string {
	t.Helper()
	token, err := h.app.Authority().Issue(context.Background(), tokens.Grant{
		Application: app, Mail: "ada@example.org", BackendUserID: sampleID, Scopes: app.Scopes,
	})
	require.NoError(t, err)
	return token.Value
}

// handlerFunc is a function that is used as a handler.
type handlerFunc func(http.ResponseWriter, *http.Request) error

func (f handlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	return f(w, r)
}

// noNext is the next handler in these tests. It does nothing.
var noNext = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

// BenchmarkHeaders measures reading the headers of a request and setting the headers of its
// answer.
func BenchmarkHeaders(b *testing.B) {
	in := http.Header{
		"Accept":        {"application/json"},
		"Authorization": {"Bearer " + strings.Repeat("eyJhbGciOiJIUzI1NiJ9.", 25)},
		"User-Agent":    {"test"},
		"X-Request-Id":  {"0123456789abcdef"},
	}
	w, r := discard{make(http.Header)}, httptest.NewRequest(http.MethodGet, "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		c := &call{w: w, address: address{r: r}, requestID: parse.RequestID(in)}
		c.setAnswerHeaders()
		if _, err := parse.Authorization(in); err != nil {
			b.Fatal(err)
		}
	}
}
