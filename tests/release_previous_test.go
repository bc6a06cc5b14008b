// SPDX-License-Identifier: MIT

package tests

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
)

// stalenessBound is the default staleness bound. After it, every gateway refuses a revoked token.
const stalenessBound = 5 * time.Second

// The previous release and this one share a Redis during an upgrade or downgrade. Each gives right
// answers about objects that the other one created, changed or revoked. MEET_GATEWAY_PREVIOUS is a
// folder with the previous binary and Caddyfile, which .ci/previous creates.
func TestRelease_MixedVersions(t *testing.T) {
	previous := os.Getenv("MEET_GATEWAY_PREVIOUS")
	if previous == "" {
		t.Skip("make deploy-check builds the previous release and runs this")
	}
	path, err := binary()
	require.NoError(t, err)
	older := release{binary: filepath.Join(previous, "meet-gateway"), caddyfile: filepath.Join(previous, "Caddyfile")}
	newer := release{binary: path, caddyfile: "../Caddyfile"}

	t.Run("server", func(t *testing.T) { testMixedVersions(t, older, newer, "redis") })
	t.Run("Cluster", func(t *testing.T) {
		testMixedVersions(t, older, newer, "redis {\naddress "+strings.Join(redistest.Cluster(t).Addrs(), " ")+"\ncluster\n}")
	})
}

func testMixedVersions(t *testing.T, older, newer release, store string) {
	const workers = 4
	mails := make([]string, workers)
	for w := range mails {
		mails[w] = fmt.Sprintf("user-%d@example.com", w)
	}
	in := newInstallation(t, mails...)
	in.store = store
	one, two := in.add(0), in.add(0)
	one.start(older)
	two.start(older)
	m := &mixed{t: t, gateways: []*member{one, two}}
	t.Cleanup(m.close)
	for _, phase := range []struct {
		name    string
		changed *member
		to      release
	}{
		{name: "previous alone"},
		{"one upgraded", one, newer},
		{"both upgraded", two, newer},
		{"one downgraded", two, older},
		{"both downgraded", one, older},
	} {
		if phase.changed != nil {
			phase.changed.stop()
			phase.changed.start(phase.to)
		}
		m.phase(phase.name, mails)
		if t.Failed() {
			return
		}
	}
}

// mixed is a change made at one gateway that must be visible at the other.
type mixed struct {
	t        *testing.T
	gateways []*member

	mu      sync.Mutex
	live    []string // tokens
	revoked []string
	asked   int
}

// client returns a new client. Phases do not share one, because a replaced gateway closes its
// connections.
func (m *mixed) client() *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Second}}
}

func (m *mixed) close() { m.t.Logf("%d requests, %d tokens revoked", m.asked, len(m.revoked)) }

// ask makes a request and reports whether it got the wanted status.
func (m *mixed) ask(client *http.Client, want int, what, method, url, token, body string) (map[string]any, bool) {
	status, answer, text := call(client, method, url, token, body)
	m.mu.Lock()
	m.asked++
	m.mu.Unlock()
	if status != want {
		m.t.Errorf("%s: %s %s: %d instead of %d: %s", what, method, url, status, want, text)
	}
	return answer, status == want
}

// phase runs one combination of releases under load. Each gateway uses, changes and revokes objects
// of the other.
func (m *mixed) phase(name string, mails []string) {
	var all sync.WaitGroup
	for w, mail := range mails {
		all.Go(func() {
			client := m.client()
			defer client.CloseIdleConnections()
			for round := range 40 {
				here, there := m.gateways[(round+w)%2], m.gateways[(round+w+1)%2]
				if !m.round(client, fmt.Sprintf("%s, round %d", name, round), here, there, mail, round%8 == 0) {
					return
				}
			}
		})
	}
	all.Wait()

	// Objects of all earlier phases are right on both gateways.
	client := m.client()
	defer client.CloseIdleConnections()
	for _, g := range m.gateways {
		for _, token := range m.live {
			m.ask(client, http.StatusOK, name+": a live token", http.MethodGet, g.url()+roomsPath, token, "")
		}
		for _, token := range m.revoked {
			m.refused(client, name+": a revoked token", g, token)
		}
	}
}

// round runs one round of requests with a new application.
func (m *mixed) round(client *http.Client, what string, here, there *member, mail string, edit bool) bool {
	id, secret := here.application("Calendar")
	mint := func(g *member) (string, bool) {
		answer, ok := m.ask(client, http.StatusOK, what, http.MethodPost, g.url()+tokenPath, "", gatewaytest.TokenBody(id, secret, mail))
		token, _ := answer["access_token"].(string)
		return token, ok
	}
	kept, ok := mint(here)
	if !ok {
		return false
	}
	dropped, ok := mint(there)
	if !ok {
		return false
	}

	room, ok := m.ask(client, http.StatusCreated, what, http.MethodPost, here.url()+roomsPath, dropped, "{}")
	if !ok {
		return false
	}
	found, ok := m.ask(client, http.StatusOK, what, http.MethodGet, fmt.Sprintf("%s%s/%s", there.url(), roomsPath, room["id"]), kept, "")
	if !ok || found["id"] != room["id"] {
		m.t.Errorf("%s: asked for room %v, got %v", what, room["id"], found["id"])
		return false
	}
	for _, g := range []*member{here, there} {
		if _, ok := m.ask(client, http.StatusOK, what, http.MethodGet, g.url()+identityPath, kept, ""); !ok {
			return false
		}
	}

	if _, ok := m.ask(client, http.StatusOK, what, http.MethodPost, here.url()+base+"/application/revoke", "", fmt.Sprintf(`{"client_id":%q,"client_secret":%q,"token":%q}`, id, secret, dropped)); !ok {
		return false
	}
	for _, g := range []*member{here, there} {
		m.refused(client, what, g, dropped)
	}
	if edit {
		m.edit(client, what, here, there, id, kept)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live, m.revoked = append(m.live, kept), append(m.revoked, dropped)
	return !m.t.Failed()
}

// edit removes a scope from an application at one gateway and adds it again at the
// other.
func (m *mixed) edit(client *http.Client, what string, here, there *member, id, token string) {
	change := func(at *member, scopes string, want int) {
		_, ok := m.ask(client, http.StatusOK, what, http.MethodPatch, "http://"+at.admin.Addr()+"/meet-gateway/applications/"+id, "", `{"scopes":[`+scopes+`]}`)
		if !ok {
			return
		}
		for _, g := range m.gateways {
			m.becomes(client, fmt.Sprintf("%s: scopes %s", what, scopes), g, token, want)
		}
	}
	change(here, `"rooms:create"`, http.StatusForbidden)
	change(there, `"rooms:list","rooms:retrieve","rooms:create"`, http.StatusOK)
}

func (m *mixed) refused(client *http.Client, what string, g *member, token string) {
	m.becomes(client, what, g, token, http.StatusUnauthorized)
}

// becomes waits for the response after a change, for at most the staleness bound.
func (m *mixed) becomes(client *http.Client, what string, g *member, token string, want int) {
	changed := time.Now()
	for {
		began := time.Now()
		status, _, text := call(client, http.MethodGet, g.url()+roomsPath, token, "")
		m.mu.Lock()
		m.asked++
		m.mu.Unlock()
		if status == want {
			return
		}
		if began.Sub(changed) > stalenessBound {
			m.t.Errorf("%s: %d and not %d after the staleness bound: %s", what, status, want, text)
			return
		}
	}
}
