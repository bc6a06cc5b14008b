// SPDX-License-Identifier: MIT

// Package gatewaytest starts a real Caddy with the gateway's modules inside a test
// process, on free loopback ports. (Caddy's own caddytest uses fixed ports, so two
// packages cannot run at once.)
//
// Caddy has one configuration per process: tests that use this package must not
// run in parallel.
package gatewaytest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // as in the binary
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/caddymodule"
	"github.com/meet-gateway/meet-gateway/tests/child"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// Gateway is a running gateway.
type Gateway struct {
	// URL is scheme, host and port, without a path.
	URL string
	// Admin is the address of the admin endpoint, host and port.
	Admin string

	t      testing.TB
	logs   string
	loaded time.Time
}

// Base returns the URL of the published API.
func (g *Gateway) Base() string { return g.URL + "/external-api/v1.0" }

// Config is a Caddyfile in parts. The zero value is the embedded store with the
// sandbox.
type Config struct {
	// Global goes into the meet_gateway global option. Default: `store embedded`.
	Global string
	// Gate goes into the meet_gateway directive. Default: `backend sandbox`.
	Gate string
	// Servers goes into the global option `servers`.
	Servers string
	// Site goes into the site, next to the directive.
	Site string
}

// Start loads a configuration. It ends with the test.
func Start(t testing.TB, c Config) *Gateway {
	t.Helper()
	isolate(t)
	g := &Gateway{t: t, logs: filepath.Join(t.TempDir(), "caddy.log"), Admin: claimAddress(t)}
	g.URL = "http://" + claimAddress(t)
	g.Reload(c)
	t.Cleanup(func() {
		running.Store(nil)
		_ = caddy.Stop()
	})
	return g
}

// isolate gives a test its own folder for Caddy's data.
func isolate(t testing.TB) {
	dir := t.TempDir()
	for _, name := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		old, had := os.LookupEnv(name)
		require.NoError(t, os.Setenv(name, dir))
		t.Cleanup(func() {
			if had {
				_ = os.Setenv(name, old)
			} else {
				_ = os.Unsetenv(name)
			}
		})
	}
}

// Reload replaces the configuration, as `caddy reload --force` does.
func (g *Gateway) Reload(c Config) {
	g.t.Helper()
	require.NoError(g.t, g.TryReload(c))
}

// TryReload is Reload for configurations that may be refused. The old configuration
// then keeps running.
func (g *Gateway) TryReload(c Config) error {
	g.t.Helper()
	return g.Load(g.Caddyfile(c))
}

// Load replaces the configuration by a whole Caddyfile.
func (g *Gateway) Load(caddyfile string) error {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	err = caddy.Load(config, true)
	httpClient.CloseIdleConnections() // their server is gone
	g.loaded = time.Now()
	if err == nil {
		g.judgeBy(caddyfile)
	}
	return err
}

// Caddyfile assembles a configuration.
func (g *Gateway) Caddyfile(c Config) string {
	if c.Global == "" {
		c.Global = "store embedded"
	}
	if c.Gate == "" {
		c.Gate = "backend sandbox"
	}
	var servers string
	if c.Servers != "" {
		servers = "servers {\n" + c.Servers + "\n}"
	}
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	grace_period 100ms
	log {
		output file %s
		level DEBUG
	}
	metrics
	%s
	meet_gateway {
		%s
	}
}
%s {
	%s
	log
	meet_gateway {
		%s
	}
}
`, g.Admin, g.logs, servers, c.Global, strings.Replace(g.URL, "127.0.0.1", "", 1), c.Site, c.Gate)
}

// Logs returns everything that was logged, access log included.
func (g *Gateway) Logs() string {
	g.t.Helper()
	b, err := os.ReadFile(g.logs)
	require.NoError(g.t, err)
	return string(b)
}

// Authority returns the Authority of the gateway, for white-box checks.
func (g *Gateway) Authority() *tokens.Authority {
	g.t.Helper()
	app, err := caddymodule.ActiveApp()
	require.NoError(g.t, err)
	return app.Authority()
}

// Client is an application with its secret.
type Client struct {
	*tokens.Application
	Secret string
}

// AddApplication registers an application. Defaults: a name, active, all of
// Meet's scopes, any domain.
func (g *Gateway) AddApplication(change func(*tokens.Application)) *Client {
	g.t.Helper()
	app := tokens.Application{
		Name: "Test", Active: true, Domains: []string{"*"},
		Scopes: tokens.Scopes{tokens.ScopeRoomsList, tokens.ScopeRoomsRetrieve, tokens.ScopeRoomsCreate, tokens.ScopeRoomsUpdate, tokens.ScopeRoomsDelete},
	}
	if change != nil {
		change(&app)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	made, secret, err := g.Authority().CreateApplication(ctx, app)
	require.NoError(g.t, err)
	return &Client{Application: made, Secret: secret}
}

// Answer is a response with its whole body.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// JSON decodes the body.
func (a *Answer) JSON(t testing.TB) map[string]any {
	t.Helper()
	var object map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.Body), &object), a.Body)
	return object
}

// httpClient follows no redirects: the gateway must not need any.
var httpClient = &http.Client{
	Transport:     Judged,
	Timeout:       20 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Do makes a request. headers come in pairs.
func (g *Gateway) Do(method, path, body string, headers ...string) *Answer {
	g.t.Helper()
	url := path
	if strings.HasPrefix(path, "/") {
		url = g.URL + path
	}
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, url, reader)
	require.NoError(g.t, err)
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	return g.Send(r)
}

// Send makes a request.
func (g *Gateway) Send(r *http.Request) *Answer {
	g.t.Helper()
	res, err := httpClient.Do(r)
	// A reload closes the old listening socket a moment later, and the kernel resets connections
	// that were not accepted.
	for tries := 0; err != nil && tries < 5 && time.Since(g.loaded) < 5*time.Second; tries++ {
		if r.GetBody != nil {
			r.Body, _ = r.GetBody()
		}
		res, err = httpClient.Do(r)
	}
	require.NoError(g.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(g.t, err)
	return &Answer{Status: res.StatusCode, Header: res.Header, Body: string(b)}
}

// Raw sends bytes unchanged and returns everything that the server sends until it closes the
// connection. Use it for requests that net/http would not write.
func (g *Gateway) Raw(request string) string {
	g.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	require.NoError(g.t, err)
	defer conn.Close()
	require.NoError(g.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, request)
	require.NoError(g.t, err)
	var b bytes.Buffer
	_, _ = io.Copy(&b, conn) // a reset ends the answer too
	return b.String()
}

// TokenRequest requests a token with a JSON body, as most clients do.
func (g *Gateway) TokenRequest(c *Client, mail string) *Answer {
	g.t.Helper()
	return g.Do(http.MethodPost, "/external-api/v1.0/application/token/", TokenBody(c.ID, c.Secret, mail), "Content-Type", "application/json")
}

// TokenBody is the JSON body of a token request.
func TokenBody(id, secret, mail string) string {
	b, err := json.Marshal(map[string]string{"client_id": id, "client_secret": secret, "grant_type": "client_credentials", "scope": mail})
	if err != nil { // strings only
		panic(err)
	}
	return string(b)
}

// Token returns an access token.
func (g *Gateway) Token(c *Client, mail string) string {
	g.t.Helper()
	a := g.TokenRequest(c, mail)
	require.Equal(g.t, http.StatusOK, a.Status, a.Body)
	token, _ := a.JSON(g.t)["access_token"].(string)
	require.NotEmpty(g.t, token)
	return token
}

// Bearer is the value of an Authorization header.
func Bearer(token string) string { return "Bearer " + token }

// Meet is a sandbox served over TCP, like a real Meet.
type Meet struct {
	*sandbox.Meet
	// Address is host and port.
	Address string
}

// Credentials of the application that StartMeet registers.
const (
	MeetClientID     = "gateway-at-meet"
	MeetClientSecret = "gateway-secret-at-meet"
)

// StartMeet serves a sandbox with an application for the gateway. wrap may inject
// faults in front of it.
func StartMeet(t testing.TB, s sandbox.Settings, wrap func(http.Handler) http.Handler) *Meet {
	t.Helper()
	meet := sandbox.New(s)
	meet.AddApplication(sandbox.Application{
		ClientID: MeetClientID, Secret: MeetClientSecret, Active: true,
		Scopes: []string{"rooms:list", "rooms:retrieve", "rooms:create", "rooms:update", "rooms:delete"},
	})
	var handler http.Handler = meet
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &Meet{Meet: meet, Address: strings.TrimPrefix(server.URL, "http://")}
}

// Backend returns the backend block for this Meet.
func (m *Meet) Backend(more ...string) string {
	return fmt.Sprintf("backend %s {\nhost meet.example.org\ncredentials %s %s\n%s\n}", m.Address, MeetClientID, MeetClientSecret, strings.Join(more, "\n"))
}

// claimAddress reserves a loopback address until the test ends, even while nothing
// listens there, and against tests of other packages.
func claimAddress(t testing.TB) string {
	t.Helper()
	claim, err := child.ClaimPort()
	require.NoError(t, err)
	t.Cleanup(claim.Release)
	return claim.Addr()
}

// Metrics returns the metrics in Prometheus' text format.
func (g *Gateway) Metrics() string {
	g.t.Helper()
	res, err := http.Get("http://" + g.Admin + "/metrics")
	require.NoError(g.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(g.t, err)
	return string(b)
}
