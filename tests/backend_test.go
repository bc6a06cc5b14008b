// SPDX-License-Identifier: MIT

package tests

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/child"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// whole turns a bare reverse_proxy into one with an option, so that its handler runs
// and not only its transport. It changes nothing else.
const whole = "lb_policy first"

// rawMeet speaks HTTP/1.1 byte by byte. Exchanges succeed. All other requests get the
// bytes that the test has set, and then the connection is closed.
type rawMeet struct {
	address string

	mu     sync.Mutex
	answer string
	seen   []string
}

func startRawMeet(t *testing.T) *rawMeet {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := &rawMeet{address: l.Addr().String()}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { m.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		connections.Wait()
	})
	return m
}

func (m *rawMeet) serve(c net.Conn) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	answer := m.answer
	if strings.HasSuffix(r.URL.Path, "/token/") {
		answer = jsonAnswer("200 OK", `{"access_token":"a.b.c","token_type":"Bearer","expires_in":3600,"scope":"rooms:list rooms:retrieve rooms:create"}`)
	} else {
		var seen bytes.Buffer
		fmt.Fprintf(&seen, "%s %s %s\n%s\n", r.Method, r.RequestURI, r.Host, body)
		_ = r.Header.Write(&seen) // sorted
		m.seen = append(m.seen, seen.String())
	}
	_, _ = io.WriteString(c, answer)
}

// backend returns the backend block for this Meet, with more options.
func (m *rawMeet) backend(more string) string {
	return fmt.Sprintf("backend %s {\nhost meet.example.org\ncredentials %s %s\n%s\n}", m.address, gatewaytest.MeetClientID, gatewaytest.MeetClientSecret, more)
}

// say sets the response and drops the recorded requests.
func (m *rawMeet) say(answer string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer, m.seen = answer, nil
}

func (m *rawMeet) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen
}

func jsonAnswer(status, body string, headers ...string) string {
	return "HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\nConnection: close\r\n" +
		strings.Join(append(headers, ""), "\r\n") + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// A bare backend is called through the transport of reverse_proxy, without its handler. Both
// paths send the same requests to Meet and the same responses to callers.
func TestBackend_BareEqualsHandler(t *testing.T) {
	const (
		room   = `{"id":"5eed0000-0000-4000-8000-000000000001","name":"n","slug":"s","access_level":"trusted","configuration":{}}`
		chunks = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
	)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(room), room)
	meet := startRawMeet(t)
	all := func(t *testing.T, more string) map[string]string {
		answers := map[string]string{}
		g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.backend(more)})
		app := g.AddApplication(nil)
		for i, answer := range []struct{ name, text string }{
			{"room", jsonAnswer("200 OK", room)},
			{"created", jsonAnswer("201 Created", room, "Location: https://meet.example.org/s")},
			{"no content", "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"},
			{"chunks", chunks + "\r\n" + chunk + "0\r\n\r\n"},
			{"chunks and a trailer", chunks + "Trailer: X-T\r\n\r\n" + chunk + "0\r\nX-T: 1\r\n\r\n"},
			{"truncated chunks", chunks + "\r\n" + chunk},
			{"invalid chunk", chunks + "\r\n" + chunk + "zz\r\n"},
			{"until the end", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + room},
			{"until the end, HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + room},
			{"shorter than Content-Length", strings.TrimSuffix(jsonAnswer("200 OK", room), "}")},
			{"longer than Content-Length", jsonAnswer("200 OK", room) + "}"},
			{"no JSON", jsonAnswer("200 OK", "{")},
			{"empty", jsonAnswer("200 OK", "")},
			{"compressed", jsonAnswer("200 OK", room, "Content-Encoding: gzip")},
			{"too large", jsonAnswer("200 OK", `"`+strings.Repeat("x", 5<<20)+`"`)},
			{"endless headers", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 12<<10) + "\r\n"},
			{"early hints", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + jsonAnswer("200 OK", room)},
			{"only early hints", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"},
			{"switching protocols", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
			{"redirect", "HTTP/1.1 301 Moved Permanently\r\nLocation: https://meet.example.org/external-api/v1.0/rooms/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
			{"headers of the gateway", jsonAnswer("200 OK", room, "X-Request-Id: theirs", "Cache-Control: public", "Set-Cookie: a=b", "Via: 1.1 theirs", "Ratelimit: x", "Server: gunicorn")},
			{"hop-by-hop headers", jsonAnswer("200 OK", room, "Keep-Alive: timeout=5", "Upgrade: h2c", "Proxy-Authenticate: Basic")},
			{"repeated header", jsonAnswer("405 Method Not Allowed", `{"detail":"no"}`, "Allow: GET", "Allow: PUT")},
			{"not found", jsonAnswer("404 Not Found", `{"detail":"No Room matches the given query."}`)},
			{"forbidden", jsonAnswer("403 Forbidden", `{"detail":"You do not have permission to perform this action."}`)},
			{"unauthorized", jsonAnswer("401 Unauthorized", `{"detail":"Token expired."}`, "WWW-Authenticate: Bearer")},
			{"user disabled", jsonAnswer("401 Unauthorized", `{"detail":"User account is disabled."}`)},
			{"too many requests", jsonAnswer("429 Too Many Requests", `{"detail":"slow"}`, "Retry-After: 7")},
			{"unavailable", jsonAnswer("503 Service Unavailable", `{"detail":"unavailable"}`, "Retry-After: 7")},
			{"500 in HTML", "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/html\r\nContent-Length: 5\r\nConnection: close\r\n\r\n<html"},
			{"400 in HTML", "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 5\r\nConnection: close\r\n\r\n<html"},
			{"unknown status", jsonAnswer("799 Odd", `{}`)},
			{"invalid status", "HTTP/1.1 20 Odd\r\n\r\n"},
			{"no HTTP", "SSH-2.0-OpenSSH\r\n"},
			{"nothing", ""},
			{"truncated status line", "HTTP/1.1 200"},
			{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"},
			{"length and chunks at once", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunk + "0\r\n\r\n"},
		} {
			for _, r := range []struct{ method, path, body string }{
				{"GET", roomsPath + "/" + roomID(1), ""},
				{"HEAD", roomsPath + "/" + roomID(1), ""},
				{"GET", roomsPath + "?page=2&page_size=20", ""},
				{"POST", roomsPath, `{"access_level":"restricted"}`},
			} {
				what := answer.name + ": " + r.method + " " + r.path
				// Another user for each case, since some answers are cached.
				token := g.Token(app, fmt.Sprintf("%s-%d-%d@example.org", strings.ToLower(r.method), len(r.path), i))
				meet.say(answer.text)
				answers[what] = ask(t, g, r.method, r.path, r.body, token)
				asked := meet.asked()
				require.NotEmpty(t, asked)
				answers[what] += strings.Join(asked, "\n")
			}
		}
		require.Equal(t, more == whole, strings.Contains(g.Logs(), `"logger":"http.handlers.reverse_proxy","msg":"upstream roundtrip"`))
		require.Equal(t, more == "", strings.Contains(g.Logs(), `"logger":"http.handlers.meet_gateway","msg":"upstream roundtrip"`))
		require.NotContains(t, g.Logs(), "a.b.c", "Meet's token")
		return answers
	}
	var direct, byHandler map[string]string
	t.Run("bare", func(t *testing.T) { direct = all(t, "") })
	t.Run("whole", func(t *testing.T) { byHandler = all(t, whole) })
	for what, want := range byHandler {
		require.Equal(t, want, direct[what], what)
	}
	require.Len(t, direct, len(byHandler))
	require.Contains(t, direct["room: GET "+roomsPath+"/"+roomID(1)], "200 OK")
}

// Both paths also fail alike if Meet cannot be reached or does not answer.
func TestBackend_BareFailsLikeHandler(t *testing.T) {
	gone := startRawMeet(t)
	closed, err := child.ClaimPort()
	require.NoError(t, err)
	t.Cleanup(closed.Release)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	for _, tc := range []struct {
		name, upstream, options string
		status                  string
	}{
		{"refused", closed.Addr(), "", "503"},
		{"silent", silent.Addr().String(), "transport http {\nresponse_header_timeout 100ms\n}", "504"},
		{"unknown name", "meet.invalid:80", "", "503"},
		{"no TLS", gone.address, "transport http {\ntls\n}", "503"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var answers []string
			for _, more := range []string{"", whole} {
				g := gatewaytest.Start(t, gatewaytest.Config{Gate: fmt.Sprintf("backend %s {\nhost meet.example.org\ncredentials %s %s\n}",
					gone.address, gatewaytest.MeetClientID, gatewaytest.MeetClientSecret)})
				token := g.Token(g.AddApplication(nil), "ada@example.org")
				g.Reload(gatewaytest.Config{Gate: fmt.Sprintf("backend %s {\nhost meet.example.org\ncredentials %s %s\n%s\n%s\n}",
					tc.upstream, gatewaytest.MeetClientID, gatewaytest.MeetClientSecret, tc.options, more)})
				for _, method := range []string{"GET", "POST"} {
					answers = append(answers, ask(t, g, method, roomsPath, "", token))
				}
			}
			require.Equal(t, answers[2:], answers[:2])
			require.Contains(t, answers[0], tc.status)
		})
	}
}

// ask makes a request without checking the response against the description, and returns the
// response without its variable parts.
func ask(t *testing.T, g *gatewaytest.Gateway, method, path, body, token string) string {
	t.Helper()
	r, err := http.NewRequest(method, g.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", gatewaytest.Bearer(token))
	r.Header.Set("X-Request-Id", "the-same")
	if body != "" {
		r.Header.Set("Content-Type", jsonType)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	for tries := 0; err != nil && tries < 5; tries++ { // a reload resets connections to the old socket
		r.Body, _ = r.GetBody()
		res, err = http.DefaultTransport.RoundTrip(r)
	}
	require.NoError(t, err)
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	for _, name := range []string{"Date", "Ratelimit"} {
		res.Header.Del(name)
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, res.Status)
	require.NoError(t, res.Header.Write(&b))
	return strings.ReplaceAll(fmt.Sprintf("%s\n%s\n", &b, said), g.URL, "")
}
