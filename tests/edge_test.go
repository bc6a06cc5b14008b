// SPDX-License-Identifier: MIT

package tests

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// A response that does not depend on the body is sent at once to a client that waits for
// permission to send its body (Expect: 100-continue) or never sends it. The connection is closed
// afterwards.
func TestBody_RefusedWithoutIt(t *testing.T) {
	meet := strictMeet(t, nil)
	g := gatewaytest.Start(t, gatewaytest.Config{Global: "store embedded\nlimit create_user 1/1h\ngateways 1", Gate: meet.Backend()})
	app := g.AddApplication(nil)
	narrow := g.AddApplication(func(a *tokens.Application) { a.Scopes = tokens.Scopes{"rooms:list"} })
	used := gatewaytest.Bearer(g.Token(app, "alice@example.com"))
	scopeless := gatewaytest.Bearer(g.Token(narrow, "alice@example.com"))
	require.Equal(t, 201, g.Do("POST", roomsPath, "{}", "Authorization", used, "Content-Type", jsonType).Status)
	for _, expect := range []string{"Expect: 100-continue\r\n", ""} {
		for _, tc := range []struct{ name, request, want string }{
			{"401", "POST " + roomsPath + " HTTP/1.1\r\nContent-Length: 10\r\n", "401"},
			{"403", "POST " + roomsPath + " HTTP/1.1\r\nContent-Length: 10\r\nAuthorization: " + scopeless + "\r\n", "403"},
			{"404", "POST /nothing HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", "404"},
			{"405", "PUT " + roomsPath + " HTTP/1.1\r\nContent-Length: 10\r\n", "405"},
			{"413", "POST " + tokenPath + " HTTP/1.1\r\nContent-Length: 1000000\r\n", "413"},
			{"429", "POST " + roomsPath + " HTTP/1.1\r\nContent-Length: 2\r\nAuthorization: " + used + "\r\n", "429"},
			{"a read with a body", "GET " + roomsPath + " HTTP/1.1\r\nContent-Length: 10\r\nAuthorization: " + used + "\r\n", "200"},
		} {
			t.Run(tc.name+" "+expect, func(t *testing.T) {
				conn := dialGateway(t, g)
				_, err := io.WriteString(conn, tc.request+expect+"Host: x\r\n\r\n")
				require.NoError(t, err)
				r := bufio.NewReader(conn)
				res, err := http.ReadResponse(r, nil)
				require.NoError(t, err, "no answer within the deadline")
				require.True(t, strings.HasPrefix(res.Status, tc.want), res.Status)
				require.True(t, res.Close, "the next request would be read as the body")
				var object map[string]any
				require.NoError(t, json.NewDecoder(res.Body).Decode(&object))
				_, err = r.ReadByte()
				require.ErrorIs(t, err, io.EOF, "the server closes the connection after the answer")
			})
		}
	}
}

// If the body is needed, a waiting client gets permission to send it, and the
// connection stays open.
func TestBody_ContinueIfNeeded(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "ada@example.org"))
	conn := dialGateway(t, g)
	r := bufio.NewReader(conn)
	for range 2 {
		_, err := io.WriteString(conn, "POST "+roomsPath+" HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 2\r\nAuthorization: "+token+"\r\n\r\n")
		require.NoError(t, err)
		res, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.Equal(t, 100, res.StatusCode)
		_, err = io.WriteString(conn, "{}")
		require.NoError(t, err)
		res, err = http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.Equal(t, 201, res.StatusCode)
		require.False(t, res.Close)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
	}
}

// unjudged makes a request without checking it against the description, which does not cover
// sites below a path.
func unjudged(t *testing.T, g *gatewaytest.Gateway, method, path, body string, headers ...string) *gatewaytest.Answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return &gatewaytest.Answer{Status: res.StatusCode, Header: res.Header, Body: string(read)}
}

func dialGateway(t *testing.T, g *gatewaytest.Gateway) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn
}

// The caller's address is the one that the last trusted proxy appended. Entries before it are
// ignored, with and without trusted_proxies_strict.
func TestTrustedProxies_ReadFromTheRight(t *testing.T) {
	for name, servers := range map[string]string{
		"as it is":           "trusted_proxies static 127.0.0.0/8 10.0.0.0/8",
		"strict":             "trusted_proxies static 127.0.0.0/8 10.0.0.0/8\ntrusted_proxies_strict",
		"of another header":  "trusted_proxies static 127.0.0.0/8 10.0.0.0/8\nclient_ip_headers X-Client-Chain",
		"every private host": "trusted_proxies static private_ranges",
	} {
		t.Run(name, func(t *testing.T) {
			meet := strictMeet(t, nil)
			g := gatewaytest.Start(t, gatewaytest.Config{
				Global: "store embedded\nlimit failed 2/1h\nlimit failed_source 4/1h\ngateways 1", Gate: meet.Backend(), Servers: servers,
				Site: "handle_path /below/* {\nmeet_gateway {\n" + meet.Backend() + "\n}\n}",
			})
			header := "X-Forwarded-For"
			if strings.Contains(servers, "X-Client-Chain") {
				header = "X-Client-Chain"
			}
			app := g.AddApplication(func(a *tokens.Application) { a.Networks = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")} })
			token := func(base, secret, chain string) int {
				return unjudged(t, g, "POST", base+tokenPath, gatewaytest.TokenBody(app.ID, secret, "alice@example.com"), "Content-Type", jsonType, header, chain).Status
			}
			for _, base := range []string{"", "/below"} {
				require.Equal(t, 200, token(base, app.Secret, "203.0.113.7"))
				require.Equal(t, 200, token(base, app.Secret, "198.51.100.1, 203.0.113.7, 10.1.2.3"))
				require.Equal(t, 403, token(base, app.Secret, "203.0.113.7, 198.51.100.1"), "the caller's own entry")
			}

			room := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
			meet.ForgetRequests()
			require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", room, header, "192.0.2.1, 203.0.113.9").Status)
			require.NotEmpty(t, meet.Requests())
			for _, r := range meet.Requests() {
				require.Equal(t, "203.0.113.9, 127.0.0.1", r.Header.Get("X-Forwarded-For"), "the address that Meet gets")
			}

			// Both limits of failures use this address.
			other := g.AddApplication(nil)
			guess := func(id, chain string) int {
				return g.Do("POST", tokenPath, gatewaytest.TokenBody(id, "wrong", "alice@example.com"), "Content-Type", jsonType, header, chain).Status
			}
			require.Equal(t, 401, guess(other.ID, "192.0.2.1, 198.51.100.9"))
			require.Equal(t, 401, guess(other.ID, "192.0.3.1, 198.51.100.9"))
			require.Equal(t, 429, guess(other.ID, "192.0.4.1, 198.51.100.9"), "failed")
			require.Equal(t, 401, guess("nobody-1", "192.0.5.1, 198.51.100.9"))
			require.Equal(t, 401, guess("nobody-2", "192.0.6.1, 198.51.100.9"))
			require.Equal(t, 429, guess("nobody-3", "192.0.7.1, 198.51.100.9"), "failed_source")
		})
	}
}

// Links contain the caller's path, even if a prefix was removed.
func TestPrefix_IsInLinks(t *testing.T) {
	meet := strictMeet(t, nil)
	roomsOfAlice(meet, 3)
	site := func(strip string) string { return strip + " {\nmeet_gateway {\n" + meet.Backend() + "\n}\n}" }
	g := gatewaytest.Start(t, gatewaytest.Config{
		Gate: meet.Backend(), Servers: "trusted_proxies static 127.0.0.0/8",
		Site: site("handle_path /meet/*") + "\n" + site("handle /a/b/* {\nuri strip_prefix /a/b\nroute") + "\n}\n" + site("handle /other/* {\nrewrite * /external-api/v1.0/rooms\nroute") + "\n}",
	})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	untrusted := gatewaytest.Config{Gate: meet.Backend()}
	check := func(path, prefix string, headers ...string) {
		t.Helper()
		list := unjudged(t, g, "GET", path+roomsPath+"?page_size=2", "", append(headers, "Authorization", token)...)
		require.Equal(t, 200, list.Status, list.Body)
		require.Equal(t, g.URL+prefix+roomsPath+"?page=2&page_size=2", list.JSON(t)["next"])
		for _, name := range []string{"oauth-authorization-server", "oauth-protected-resource"} {
			base := g.URL + prefix + "/external-api/v1.0"
			for _, at := range []string{"/external-api/v1.0/.well-known/" + name, "/.well-known/" + name + "/external-api/v1.0"} {
				for key, value := range unjudged(t, g, "GET", path+at, "", headers...).JSON(t) {
					if text, isText := value.(string); isText && strings.HasPrefix(text, "http") {
						require.True(t, text == base || strings.HasPrefix(text, base+"/"), "%s %s: %s", name, key, text)
					}
				}
			}
		}
		refused := unjudged(t, g, "GET", path+roomsPath, "", headers...)
		require.Contains(t, refused.Header.Get("WWW-Authenticate"), `resource_metadata="`+g.URL+prefix+`/external-api/v1.0/.well-known/oauth-protected-resource"`)
	}
	check("", "")
	check("/meet", "/meet")
	check("/a/b", "/a/b")
	check("", "/gw", "X-Forwarded-Prefix", "/gw")
	check("", "/gw", "X-Forwarded-Prefix", "/evil, /gw/")
	check("/meet", "/gw/meet", "X-Forwarded-Prefix", "/gw")
	for _, bad := range []string{"", "gw", "//evil.example", "/a/../b", "/a?b", `/a"b`, "/a#b", "https://evil.example", "/a b", "/%2e%2e"} {
		check("", "", "X-Forwarded-Prefix", bad)
	}
	g.Reload(untrusted)
	token = gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	check("", "", "X-Forwarded-Prefix", "/evil")
}

// Entries left of an invalid address come from the caller or an untrusted proxy. All checks then
// use the address of the proxy.
func TestTrustedProxies_InvalidAddress(t *testing.T) {
	const proxy = "127.0.0.1"
	meet := strictMeet(t, nil)
	trail := filepath.Join(t.TempDir(), "audit.log")
	g := gatewaytest.Start(t, gatewaytest.Config{
		Global: "store embedded\nsecret " + auditSecret + "\naudit {\noutput file " + trail + "\n}\nlimit failed 1/1h\nlimit failed_source off\nlimit create_user off\ngateways 1", Gate: meet.Backend(),
		Servers: "trusted_proxies static 127.0.0.0/8 10.0.0.0/8 2001:db8:ffff::/48",
	})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "alice@example.com"))
	for _, tc := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"none", nil, proxy},
		{"one", []string{"203.0.113.7"}, "203.0.113.7"},
		{"an entry of the caller", []string{"192.0.2.1, 203.0.113.7"}, "203.0.113.7"},
		{"a chain of trusted ones", []string{"192.0.2.1, 203.0.113.7, 10.0.0.1, 10.0.0.2"}, "203.0.113.7"},
		{"in lines", []string{"192.0.2.1", "203.0.113.7", "10.0.0.1"}, "203.0.113.7"},
		{"trusted alone", []string{"10.0.0.1, 10.0.0.2"}, proxy},
		{"unknown", []string{"192.0.2.1, unknown"}, proxy},
		{"unknown before a trusted one", []string{"192.0.2.1, unknown, 10.0.0.1"}, proxy},
		{"unknown in a line", []string{"192.0.2.1", "unknown"}, proxy},
		{"unknown to the left", []string{"unknown, 203.0.113.7"}, "203.0.113.7"},
		{"a name", []string{"192.0.2.1, client.example"}, proxy},
		{"hidden", []string{"192.0.2.1, _hidden"}, proxy},
		{"of a Unix socket", []string{"192.0.2.1, unix:"}, proxy},
		{"empty", []string{"192.0.2.1,"}, proxy},
		{"blank", []string{"192.0.2.1, , 10.0.0.1"}, proxy},
		{"an empty line", []string{"192.0.2.1", ""}, proxy},
		{"empty to the left", []string{"192.0.2.1,, 203.0.113.7"}, "203.0.113.7"},
		{"port", []string{"192.0.2.1, 203.0.113.7:4711"}, "203.0.113.7"},
		{"port of a trusted one", []string{"203.0.113.7, 10.0.0.1:80"}, "203.0.113.7"},
		{"port alone", []string{"192.0.2.1, :4711"}, proxy},
		{"port twice", []string{"192.0.2.1, 203.0.113.7:1:2"}, proxy},
		{"IPv6", []string{"192.0.2.1, 2001:db8::7"}, "2001:db8::7"},
		{"IPv6 and port", []string{"192.0.2.1", "[2001:db8::7]:4711"}, "2001:db8::7"},
		{"IPv6 and port that Caddy does not read", []string{"192.0.2.1, [2001:db8::7]:4711"}, proxy},
		{"IPv6 in brackets", []string{"192.0.2.1, [2001:db8::7]"}, proxy},
		{"IPv6 with zone", []string{"192.0.2.1, fe80::7%eth0"}, "fe80::7"},
		{"IPv6 with zone and port", []string{"192.0.2.1", "[fe80::7%eth0]:4711"}, "fe80::7"},
		{"IPv6 of a trusted one", []string{"203.0.113.7, 2001:db8:ffff::1"}, "203.0.113.7"},
		{"quoted", []string{`192.0.2.1, "203.0.113.7"`}, proxy},
		{"leading zeros", []string{"192.0.2.1, 203.0.113.07"}, proxy},
		{"a prefix", []string{"192.0.2.1, 203.0.113.0/24"}, proxy},
		{"semicolon", []string{"192.0.2.1, 203.0.113.7;10.0.0.1"}, proxy},
	} {
		t.Run(tc.name, func(t *testing.T) {
			headers := func(more ...string) []string {
				for _, line := range tc.lines {
					more = append(more, "X-Forwarded-For", line)
				}
				return append(more, "Content-Type", jsonType)
			}

			id := strings.ReplaceAll(tc.name, " ", "-")
			meet.ForgetRequests()
			require.Equal(t, 201, g.Do("POST", roomsPath, "{}", headers("Authorization", token, "X-Request-Id", id)...).Status)
			forwarded := tc.want + ", " + proxy
			if tc.want == proxy {
				forwarded = proxy
			}
			require.NotEmpty(t, meet.Requests())
			for _, r := range meet.Requests() {
				require.Equal(t, forwarded, r.Header.Get("X-Forwarded-For"), "Meet")
			}
			line := regexp.MustCompile(`"source_ip":"` + regexp.QuoteMeta(tc.want) + `".*"request_id":"` + id + `"`)
			require.Eventually(t, func() bool {
				content, err := os.ReadFile(trail)
				return err == nil && line.Match(content)
			}, 20*time.Second, time.Millisecond, "the audit trail, which is written after the answer")
			logged := regexp.MustCompile(`"client_ip":"` + regexp.QuoteMeta(tc.want) + `".*"request_id":"` + id + `"`)
			require.Eventually(t, func() bool { return logged.MatchString(g.Logs()) }, 20*time.Second, time.Millisecond, "the access log")

			for address, want := range map[string]int{tc.want: 200, "192.0.2.1": 403} {
				network, err := netip.MustParseAddr(address).Prefix(32)
				require.NoError(t, err)
				fenced := g.AddApplication(func(a *tokens.Application) { a.Networks = []netip.Prefix{network} })
				require.Equal(t, want, g.Do("POST", tokenPath, gatewaytest.TokenBody(fenced.ID, fenced.Secret, "alice@example.com"), headers()...).Status, address)
			}

			// A forged address on the left does not evade the limit of failures.
			app := g.AddApplication(nil)
			guess := func(left string) int {
				h := headers()
				for i, value := range h {
					h[i] = strings.ReplaceAll(value, "192.0.2.1", left)
				}
				return g.Do("POST", tokenPath, gatewaytest.TokenBody(app.ID, "wrong", "alice@example.com"), h...).Status
			}
			require.Equal(t, []int{401, 429}, []int{guess("198.51.100.1"), guess("198.51.101.1")})
		})
	}
}
