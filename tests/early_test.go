// SPDX-License-Identifier: MIT

package tests

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// Early data over HTTP/3 can be replayed, and with a forged source address. Until the handshake
// is complete, the gateway serves only reads that do not depend on the address (RFC 8470).
func TestEarlyData(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	c := newEarlyClient(t, g, gatewaytest.Config{})
	app := g.AddApplication(nil)
	local := g.AddApplication(func(a *tokens.Application) { a.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	token, localToken := c.token(app), c.token(local)
	bearer := func(token string) []string { return []string{"Authorization", gatewaytest.Bearer(token)} }

	for _, tc := range []struct {
		name, method, path, body string
		headers                  []string
		want                     int
	}{
		{"creation", "POST", roomsPath, "{}", append(bearer(token), "Content-Type", jsonType), 425},
		{"creation without a token", "POST", roomsPath, "{}", nil, 425},
		{"token request", "POST", tokenPath, gatewaytest.TokenBody(app.ID, app.Secret, "ada@example.org"), []string{"Content-Type", jsonType}, 425},
		{"revocation", "POST", "/external-api/v1.0/application/revoke", "token=x", []string{"Content-Type", formType}, 425},
		{"list", "GET", roomsPath, "", bearer(token), 200},
		{"list of an application with networks", "GET", roomsPath, "", bearer(localToken), 425},
		{"identity", "GET", identityPath, "", bearer(token), 200},
		{"identity of an application with networks", "GET", identityPath, "", bearer(localToken), 425},
		{"identity by Basic, which counts guesses", "GET", identityPath, "", []string{"Authorization", basicOf(app.ID, app.Secret)}, 425},
		{"metadata", "GET", "/external-api/v1.0/.well-known/oauth-authorization-server", "", nil, 200},
		{"no such path", "POST", "/external-api/v1.0/nothing", "{}", nil, 404},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, body := c.early(t, tc.method, tc.path, tc.body, tc.headers...)
			require.Equal(t, tc.want, status, body)
			if status == 425 {
				require.Contains(t, body, "too_early")
			}
		})
	}
	require.Equal(t, float64(0), c.do("GET", roomsPath, "", bearer(token)...)["count"], "no room was created")
	require.NotEmpty(t, c.do("POST", roomsPath, "{}", append(bearer(localToken), "Content-Type", jsonType)...)["id"], "after the handshake")
}

// A proxy marks early data with a header (RFC 8470 §5.1).
func TestEarlyData_AtAProxy(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	token := gatewaytest.Bearer(g.Token(g.AddApplication(nil), "ada@example.org"))
	require.Equal(t, 425, g.Do("POST", roomsPath, "{}", "Authorization", token, "Content-Type", jsonType, "Early-Data", "1").Status)
	require.Equal(t, 200, g.Do("GET", roomsPath, "", "Authorization", token, "Early-Data", "1").Status)
}

// earlyClient speaks HTTP/3 with a gateway and can keep a handshake from completing.
type earlyClient struct {
	t       *testing.T
	g       *gatewaytest.Gateway
	url     string
	tls     *tls.Config
	plain   *http.Client
	address *net.UDPAddr
}

// newEarlyClient serves the gateway over TLS with a test certificate, and obtains a
// session ticket.
func newEarlyClient(t *testing.T, g *gatewaytest.Gateway, c gatewaytest.Config) *earlyClient {
	t.Helper()
	_, port, _ := strings.Cut(strings.TrimPrefix(g.URL, "http://"), ":")
	certificate, key, roots := selfSigned(t)
	config := g.Caddyfile(c)
	secure := strings.Replace(config, "http://:"+port+" {", "https://localhost:"+port+" {\n\ttls "+certificate+" "+key, 1)
	require.NotEqual(t, config, secure)
	require.NoError(t, g.Load(secure))
	client := &earlyClient{
		t: t, g: g, url: "https://localhost:" + port,
		tls: &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{http3.NextProtoH3}, ClientSessionCache: tls.NewLRUClientSessionCache(8)},
	}
	var err error
	client.address, err = net.ResolveUDPAddr("udp", "127.0.0.1:"+port)
	require.NoError(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	client.plain = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	return client
}

// do makes a request after a handshake, over TCP.
func (c *earlyClient) do(method, path, body string, headers ...string) map[string]any {
	c.t.Helper()
	res, err := c.plain.Do(c.request(method, path, body, headers))
	require.NoError(c.t, err)
	defer res.Body.Close()
	var object map[string]any
	require.NoError(c.t, json.NewDecoder(res.Body).Decode(&object))
	return object
}

func (c *earlyClient) token(app *gatewaytest.Client) string {
	c.t.Helper()
	token, _ := c.do("POST", tokenPath, gatewaytest.TokenBody(app.ID, app.Secret, "ada@example.org"), "Content-Type", jsonType)["access_token"].(string)
	require.NotEmpty(c.t, token)
	return token
}

func (c *earlyClient) request(method, path, body string, headers []string) *http.Request {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, c.url+path, content)
	require.NoError(c.t, err)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// early makes a request in early data. It holds back the server's packets until the server has
// answered, so that the handshake cannot complete earlier.
func (c *earlyClient) early(t *testing.T, method, path, body string, headers ...string) (status int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c.ticket(ctx, t)

	conn, socket := c.dial(ctx, t, true)
	defer conn.CloseWithError(0, "")
	id := strings.NewReplacer(" ", "-", ",", "").Replace(t.Name()[strings.LastIndex(t.Name(), "/")+1:])
	r := c.request(method, path, "", append(headers, "X-Request-Id", id)) // the body follows on the stream
	transport := new(http3.Transport)
	defer transport.Close()
	stream, err := transport.NewClientConn(conn).OpenRequestStream(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.SendRequestHeader(r))
	_, err = io.WriteString(stream, body)
	require.NoError(t, err)
	require.NoError(t, stream.Close())
	require.Eventually(t, func() bool { return strings.Contains(c.g.Logs(), `"X-Request-Id":["`+id+`"]`) }, 20*time.Second, 5*time.Millisecond)
	socket.release()
	res, err := stream.ReadResponse()
	require.NoError(t, err)
	read, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.True(t, conn.ConnectionState().Used0RTT)
	return res.StatusCode, string(read)
}

// ticket completes a handshake, so that the next one can carry early data.
func (c *earlyClient) ticket(ctx context.Context, t *testing.T) {
	t.Helper()
	conn, _ := c.dial(ctx, t, false)
	select { // quic-go 0.63 has a data race if a stream is opened meanwhile
	case <-conn.HandshakeComplete():
	case <-ctx.Done():
		require.NoError(t, ctx.Err())
	}
	transport := new(http3.Transport)
	defer transport.Close()
	res, err := transport.NewClientConn(conn).RoundTrip(c.request("GET", "/external-api/v1.0/.well-known/jwks.json", "", nil).WithContext(ctx))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	require.NoError(t, conn.CloseWithError(0, ""))
}

func (c *earlyClient) dial(ctx context.Context, t *testing.T, held bool) (*quic.Conn, *heldSocket) {
	t.Helper()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	socket := &heldSocket{PacketConn: udp, open: make(chan struct{})}
	if !held {
		socket.release()
	}
	transport := &quic.Transport{Conn: socket}
	t.Cleanup(func() {
		socket.release()
		_ = transport.Close()
		_ = udp.Close()
	})
	conn, err := transport.DialEarly(ctx, c.address, c.tls, &quic.Config{})
	require.NoError(t, err)
	return conn, socket
}

// heldSocket returns no packet until it is released.
type heldSocket struct {
	net.PacketConn
	once sync.Once
	open chan struct{}
}

func (s *heldSocket) release() { s.once.Do(func() { close(s.open) }) }

// ReadFrom implements net.PacketConn.
func (s *heldSocket) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := s.PacketConn.ReadFrom(p)
	<-s.open
	return n, from, err
}

// selfSigned writes a certificate for localhost and its key into files.
func selfSigned(t *testing.T) (certificate, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	return certificate, key, roots
}
