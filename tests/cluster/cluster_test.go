// SPDX-License-Identifier: MIT

package cluster

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

const (
	basePath     = "/external-api/v1.0"
	tokenPath    = basePath + "/application/token"
	revokePath   = basePath + "/application/revoke"
	identityPath = basePath + "/identity"
	roomsPath    = basePath + "/rooms"
)

// secret is the secret of all gateways.
const secret = "cluster-test-secret-0123456789-0123456789"

// gateways is the number of gateways on one Redis.
const gateways = 3

// cluster is several gateways that share one Redis and one Meet.
type cluster struct {
	nodes []*gateway
	meet  *meet
	// staleness is the staleness bound.
	staleness time.Duration
}

// settings of a cluster. Zero values have defaults.
type settings struct {
	// store is the store line of the i-th gateway.
	store func(i int) string
	// staleness is the bound of all gateways. Default: 2s.
	staleness time.Duration
	// exchange is how long an exchange takes at Meet. Default: 5ms.
	exchange time.Duration
}

func startCluster(t testing.TB, s settings) *cluster {
	t.Helper()
	if s.staleness == 0 {
		s.staleness = 2 * time.Second
	}
	if s.exchange == 0 {
		s.exchange = 5 * time.Millisecond
	}
	c := &cluster{meet: startMeet(t, s.exchange), staleness: s.staleness, nodes: make([]*gateway, gateways)}
	var starting sync.WaitGroup
	for i := range c.nodes {
		starting.Go(func() {
			c.nodes[i] = startGateway(t, fmt.Sprintf("gateway %d", i+1), c.config(s.store(i)))
		})
	}
	starting.Wait()
	require.NotContains(t, c.nodes, (*gateway)(nil))
	return c
}

// config is the configuration of a gateway with the given store.
func (c *cluster) config(store string) config {
	return config{
		global: store + "\nsecret " + secret + "\nstaleness " + c.staleness.String(),
		gate:   c.meet.Backend(),
	}
}

// meet is a Meet whose network and workers can fail.
type meet struct {
	*gatewaytest.Meet
	failing atomic.Pointer[http.HandlerFunc]

	mu      sync.Mutex
	creates map[string]int // by request id
}

func startMeet(t testing.TB, exchange time.Duration) *meet {
	t.Helper()
	m := &meet{creates: map[string]int{}}
	s := sandbox.Production()
	s.AllowUserCreation, s.MailFallback, s.SubImmutable = true, true, false
	s.ExchangeDelay = exchange
	m.Meet = gatewaytest.StartMeet(t, s, func(whole http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && strings.Contains(r.URL.Path, "/rooms") {
				m.mu.Lock()
				m.creates[r.Header.Get("X-Request-Id")]++
				m.mu.Unlock()
			}
			if fail := m.failing.Load(); fail != nil {
				(*fail)(w, r)
				return
			}
			whole.ServeHTTP(w, r)
		})
	})
	return m
}

// fail answers every request with f until repair.
func (m *meet) fail(f http.HandlerFunc) { m.failing.Store(&f) }

func (m *meet) repair() { m.failing.Store(nil) }

// created counts the arrivals of a creation by request id.
func (m *meet) created(requestID string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.creates[requestID]
}

// application is the credentials of an application.
type application struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
}

// addApplication registers an application through the admin API of a gateway.
// fields come on top of a name, all of Meet's scopes and any domain.
func (g *gateway) addApplication(t testing.TB, fields string) application {
	t.Helper()
	if fields != "" {
		fields = "," + fields
	}
	a := g.call(t, http.MethodPost, g.admin+"/meet-gateway/applications",
		`{"name":"Test","scopes":["rooms:list","rooms:retrieve","rooms:create"],"domains":["*"]`+fields+`}`,
		"Content-Type", "application/json")
	require.Equal(t, http.StatusCreated, a.Status, a.Body)
	var app application
	require.NoError(t, json.Unmarshal([]byte(a.Body), &app))
	require.NotEmpty(t, app.Secret)
	return app
}

// patch changes an application through the admin API.
func (g *gateway) patch(t testing.TB, app application, fields string) {
	t.Helper()
	a := g.call(t, http.MethodPatch, g.admin+"/meet-gateway/applications/"+app.ID, fields, "Content-Type", "application/json")
	require.Equal(t, http.StatusOK, a.Status, a.Body)
}

// mint asks for a token.
func (app application) mint(g *gateway, mail string) (*gatewaytest.Answer, error) {
	return g.try(http.MethodPost, tokenPath, gatewaytest.TokenBody(app.ID, app.Secret, mail), "Content-Type", "application/json")
}

// refresh asks for a new pair.
func (app application) refresh(g *gateway, refreshToken string) (*gatewaytest.Answer, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}, "client_id": {app.ID}, "client_secret": {app.Secret}}
	return g.try(http.MethodPost, tokenPath, form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

// revoke ends a token as its holder (RFC 7009).
func (app application) revoke(g *gateway, token string) (*gatewaytest.Answer, error) {
	return g.try(http.MethodPost, revokePath, url.Values{"token": {token}}.Encode(),
		"Content-Type", "application/x-www-form-urlencoded", "Authorization", app.basic())
}

func (app application) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(app.ID+":"+app.Secret))
}

// mustMint returns an access token.
func (app application) mustMint(t testing.TB, g *gateway, mail string) string {
	t.Helper()
	a, err := app.mint(g, mail)
	require.NoError(t, err)
	return accessToken(t, a)
}

// mustRevoke ends a token.
func (app application) mustRevoke(t testing.TB, g *gateway, token string) {
	t.Helper()
	a, err := app.revoke(g, token)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, a.Status, a.Body)
}

func accessToken(t testing.TB, a *gatewaytest.Answer) string {
	t.Helper()
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	token, _ := a.JSON(t)["access_token"].(string)
	require.NotEmpty(t, token)
	return token
}

// rooms lists the rooms with a token and returns the status.
func (g *gateway) rooms(t testing.TB, token string) int {
	t.Helper()
	return g.call(t, http.MethodGet, roomsPath, "", "Authorization", gatewaytest.Bearer(token)).Status
}

// identity calls /identity with a token and returns the status.
func (g *gateway) identity(t testing.TB, token string) int {
	t.Helper()
	return g.call(t, http.MethodGet, identityPath, "", "Authorization", gatewaytest.Bearer(token)).Status
}

// create creates a room. id is the request id; more are headers in pairs.
func (g *gateway) create(token, id string, more ...string) (*gatewaytest.Answer, error) {
	headers := []string{"Content-Type", "application/json", "Authorization", gatewaytest.Bearer(token), "X-Request-Id", id}
	return g.try(http.MethodPost, roomsPath, "{}", append(headers, more...)...)
}
