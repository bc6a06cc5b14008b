// SPDX-License-Identifier: MIT

package tests

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/django/djangotest"
)

// wire returns the bytes of an HTTP/1.1 request.
func wire(g *gatewaytest.Gateway, method, path, body string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", method, path, strings.TrimPrefix(g.URL, "http://"), len(body))
	for i := 0; i+1 < len(headers); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", headers[i], headers[i+1])
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

func dial(t *testing.T, g *gatewaytest.Gateway) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn.(*net.TCPConn)
}

// hangUp sends a request and closes the connection after a delay.
func hangUp(t *testing.T, g *gatewaytest.Gateway, request string, after time.Duration) {
	t.Helper()
	conn := dial(t, g)
	_, err := io.WriteString(conn, request)
	require.NoError(t, err)
	time.Sleep(after) // when the caller disconnects; the result does not depend on it
	require.NoError(t, conn.Close())
}

// halfClosed sends a request, closes the sending half at once, and reads the response.
func halfClosed(t *testing.T, g *gatewaytest.Gateway, request string) *http.Response {
	t.Helper()
	conn := dial(t, g)
	defer conn.Close()
	_, err := io.WriteString(conn, request)
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res
}

// handled waits until the access log has this many lines for a path.
func handled(t *testing.T, g *gatewaytest.Gateway, path string, n int) (lines []string) {
	t.Helper()
	require.Eventually(t, func() bool {
		lines = lines[:0]
		for line := range strings.Lines(g.Logs()) {
			if strings.Contains(line, `"logger":"http.log.access`) && strings.Contains(line, `"uri":"`+path) {
				lines = append(lines, line)
			}
		}
		return len(lines) >= n
	}, 30*time.Second, 20*time.Millisecond)
	return lines
}

// slowRedis starts a gateway with a slow Redis, so that a caller can disconnect between
// any two commands.
func slowRedis(t *testing.T, global, gate string) *gatewaytest.Gateway {
	t.Helper()
	proxy := redistest.Proxied(t, redistest.Standalone(t))
	proxy.Latency(t, 2*time.Millisecond)
	return gatewaytest.Start(t, gatewaytest.Config{
		Global: "store redis " + proxy.URL() + " {\ntimeout 5s\n}\nsecret 0123456789abcdef0123456789abcdef\n" + global, Gate: gate,
	})
}

const hangUps = 40

// A disconnected caller does not count as an outage in the log, the metrics or the access log.
func TestHangUp_IsNoOutage(t *testing.T) {
	g := slowRedis(t, "limit failed off\nlimit failed_source off\nlimit create_user off", "backend sandbox\nroute PATCH /rooms/{id} rooms:update")
	app := g.AddApplication(nil)
	token := g.Token(app, "ada@example.org")
	random := rand.New(rand.NewPCG(1, 2))
	form := url.Values{"token": {token}}.Encode()
	for _, tc := range []struct{ method, path, body, kind, auth string }{
		{"POST", base + "/application/token", gatewaytest.TokenBody(app.ID, app.Secret, "ada@example.org"), jsonType, ""},
		{"POST", base + "/application/introspect", form, formType, basicOf(app.ID, app.Secret)},
		{"GET", base + "/identity", "", jsonType, basicOf(app.ID, app.Secret)},
		{"GET", base + "/identity", "", jsonType, gatewaytest.Bearer(token)},
		{"GET", base + "/rooms", "", jsonType, gatewaytest.Bearer(token)},
		{"POST", base + "/application/revoke", "token=unknown", formType, basicOf(app.ID, app.Secret)},
		{"PATCH", base + "/rooms/" + roomID(1), "{}", jsonType, gatewaytest.Bearer(token)},
	} {
		before := len(handled(t, g, tc.path, 0))
		for range hangUps {
			hangUp(t, g, wire(g, tc.method, tc.path, tc.body, "Content-Type", tc.kind, "Authorization", tc.auth), time.Duration(random.IntN(25))*time.Millisecond)
		}
		for _, line := range handled(t, g, tc.path, before+hangUps) {
			require.NotRegexp(t, `"status":5`, line)
		}
	}
	for line := range strings.Lines(g.Logs()) {
		require.NotContains(t, line, `"level":"error"`)
		require.NotContains(t, line, "store_unavailable")
	}
}

// Every guess counts, even if the caller does not read the response.
func TestHangUp_GuessesCount(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded\nlimit failed 3/1h\ngateways 1"})
	imported, err := g.Authority().ImportApplication(t.Context(), tokens.Application{
		Name: "Imported", Active: true, Aliases: []string{"at-meet"}, Domains: []string{"*"},
	}, tokens.ImportedSecret{Hash: djangotest.Hash("right", "salt", 20_000)})
	require.NoError(t, err)
	for _, tc := range []struct{ name, id string }{{"its own", g.AddApplication(nil).ID}, {"imported", imported.ID}} {
		guess := wire(g, "POST", base+"/application/token", gatewaytest.TokenBody(tc.id, "wrong", "ada@example.org"), "Content-Type", jsonType)
		var statuses []int
		for range 5 {
			statuses = append(statuses, halfClosed(t, g, guess).StatusCode)
		}
		require.Equal(t, []int{401, 401, 401, 429, 429}, statuses, tc.name)
	}
}

// A started request completes even if its caller closes the sending half of the
// connection at once, as some clients do.
func TestHangUp_HalfClosedIsAnswered(t *testing.T) {
	g := slowRedis(t, "", "backend sandbox")
	app := g.AddApplication(refreshing)
	body := gatewaytest.TokenBody(app.ID, app.Secret, "ada@example.org")
	require.Equal(t, http.StatusOK, halfClosed(t, g, wire(g, "POST", base+"/application/token", body, "Content-Type", jsonType)).StatusCode)
	require.Equal(t, http.StatusOK, halfClosed(t, g, wire(g, "GET", base+"/identity", "", "Authorization", basicOf(app.ID, app.Secret))).StatusCode)
}

// The reuse of a refresh token revokes the whole family even if the thief disconnects.
func TestHangUp_RevokesTheFamily(t *testing.T) {
	g := slowRedis(t, "", "backend sandbox")
	app := g.AddApplication(refreshing)
	random := rand.New(rand.NewPCG(3, 4))
	type family struct{ access, refresh string }
	var stolen []family
	for range 12 {
		pair := g.TokenRequest(app, "ada@example.org").JSON(t)
		first := pair["refresh_token"].(string)
		next := asClient(g, app, "/application/token", "grant_type", "refresh_token", "refresh_token", first).JSON(t)
		// Rotate twice, so that the first token is neither the current nor the previous one.
		last := asClient(g, app, "/application/token", "grant_type", "refresh_token", "refresh_token", next["refresh_token"].(string)).JSON(t)
		stolen = append(stolen, family{last["access_token"].(string), first})
	}
	path := base + "/application/token"
	before := len(handled(t, g, path, 0))
	for _, f := range stolen {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {f.refresh}}.Encode()
		hangUp(t, g, wire(g, "POST", path, form, "Content-Type", formType, "Authorization", basicOf(app.ID, app.Secret)), time.Duration(random.IntN(30))*time.Millisecond)
	}
	lines := handled(t, g, path, before+len(stolen))
	for _, line := range lines[before:] {
		require.Contains(t, line, `"status":400`, "the refusal is logged as one")
	}
	for _, f := range stolen {
		require.Equal(t, http.StatusUnauthorized, g.Do("GET", base+"/rooms", "", "Authorization", gatewaytest.Bearer(f.access)).Status)
	}
}

// An administrative change completes even if the administrator disconnects.
func TestHangUp_AdministrationCompletes(t *testing.T) {
	g := slowRedis(t, "", "backend sandbox")
	random := rand.New(rand.NewPCG(5, 6))
	for range 12 {
		app := g.AddApplication(func(a *tokens.Application) { a.Aliases = []string{"stays", "goes"} })
		version := app.Version
		conn, err := net.Dial("tcp", g.Admin)
		require.NoError(t, err)
		body := `{"aliases":["stays"]}`
		_, err = fmt.Fprintf(conn, "PATCH /meet-gateway/applications/%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", app.ID, g.Admin, len(body), body)
		require.NoError(t, err)
		time.Sleep(time.Duration(random.IntN(25)) * time.Millisecond) // when the caller disconnects; the result does not depend on it
		require.NoError(t, conn.Close())
		require.Eventually(t, func() bool {
			now, err := g.Authority().CurrentApplication(t.Context(), app.ID)
			return err == nil && now.Version > version
		}, 20*time.Second, 5*time.Millisecond)
		require.Equal(t, http.StatusOK, g.TokenRequest(&gatewaytest.Client{Application: &tokens.Application{ID: "stays"}, Secret: app.Secret}, "ada@example.org").Status)
		require.Equal(t, http.StatusUnauthorized, g.TokenRequest(&gatewaytest.Client{Application: &tokens.Application{ID: "goes"}, Secret: app.Secret}, "ada@example.org").Status)
		require.NoError(t, g.Authority().DeleteApplication(t.Context(), app.ID, 0))
	}
}

// If the caller disconnects before the end of the body, the request counts as canceled and not as
// malformed, with every protocol.
func TestHangUp_InTheBody(t *testing.T) {
	meet := strictMeet(t, nil)
	config := gatewaytest.Config{
		Global: "store embedded\nlimit failed off\nlimit failed_source off", Gate: meet.Backend() + "\nroute PATCH /rooms/{id} rooms:update",
	}
	g := gatewaytest.Start(t, config)
	app := g.AddApplication(nil)
	token := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
	const half = `{"access_level":`
	requests := []struct{ method, path, kind, auth string }{
		{"POST", base + "/application/token", jsonType, ""},
		{"POST", base + "/application/revoke", formType, basicOf(app.ID, app.Secret)},
		{"POST", base + "/application/introspect", formType, basicOf(app.ID, app.Secret)},
		{"POST", base + "/rooms", jsonType, token},
		{"PATCH", base + "/rooms/" + roomID(1), jsonType, token},
	}
	// canceled waits for the n-th line of a path and checks it.
	canceled := func(t *testing.T, path string, n int) {
		t.Helper()
		lines := handled(t, g, path+`"`, n)
		require.Contains(t, lines[n-1], `"status":499`)
		require.Contains(t, lines[n-1], `"outcome":"canceled"`)
	}

	for _, framing := range []string{"Content-Length: 100\r\n\r\n" + half, "Transfer-Encoding: chunked\r\n\r\n10\r\n" + half + "\r\n", "Transfer-Encoding: chunked\r\n\r\n40\r\n" + half} {
		for _, r := range requests {
			n := len(handled(t, g, r.path+`"`, 0)) + 1
			conn := dial(t, g)
			_, err := io.WriteString(conn, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nAuthorization: %s\r\n%s", r.method, r.path, r.kind, r.auth, framing))
			require.NoError(t, err)
			require.NoError(t, conn.Close())
			canceled(t, r.path, n)
		}
	}
	// A wrongly framed request is malformed, and its caller gets an error.
	answer := g.Raw("POST " + base + "/rooms HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: " + token + "\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n")
	require.True(t, strings.HasPrefix(answer, "HTTP/1.1 400 "), answer)

	inFlight := regexp.MustCompile(`(?m)^caddy_http_requests_in_flight\{.*\} [1-9]`)
	secure := newEarlyClient(t, g, config)
	over2 := secure.plain.Transport.(*http.Transport).Clone()
	over2.ForceAttemptHTTP2 = true
	t.Cleanup(over2.CloseIdleConnections)
	over3 := &http3.Transport{TLSClientConfig: secure.tls}
	t.Cleanup(func() { _ = over3.Close() })
	for _, protocol := range []struct {
		name string
		by   http.RoundTripper
	}{{"HTTP/2.0", over2}, {"HTTP/3.0", over3}} {
		for _, r := range requests {
			n := len(handled(t, g, r.path+`"`, 0)) + 1
			ctx, cancel := context.WithCancel(t.Context())
			body, rest := io.Pipe()
			request, err := http.NewRequestWithContext(ctx, r.method, secure.url+r.path, body)
			require.NoError(t, err)
			request.Header.Set("Content-Type", r.kind)
			if r.auth != "" {
				request.Header.Set("Authorization", r.auth)
			}
			ended := make(chan error, 1)
			go func() {
				res, err := protocol.by.RoundTrip(request)
				if err == nil {
					_ = res.Body.Close()
				}
				ended <- err
			}()
			_, err = io.WriteString(rest, half)
			require.NoError(t, err)
			// If the body ended earlier, HTTP/3 would not send the head.
			require.Eventually(t, func() bool { return inFlight.MatchString(g.Metrics()) }, 20*time.Second, 5*time.Millisecond)
			cancel()
			require.Error(t, <-ended, protocol.name)
			canceled(t, r.path, n)
			require.Contains(t, handled(t, g, r.path+`"`, n)[n-1], `"proto":"`+protocol.name+`"`)
		}
	}
	for line := range strings.Lines(g.Logs()) {
		require.NotContains(t, line, `"level":"error"`)
		require.NotContains(t, line, `"level":"info","logger":"http.handlers.meet_gateway","msg":"request refused","reason":"canceled"`)
	}
}
