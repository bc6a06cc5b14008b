// SPDX-License-Identifier: MIT

package cluster

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// The clients of a campaign act as platforms and operators. Each records the answers in the book,
// and before it sends a change, that the change may take effect.

func (b *book) random(list []*held, random *rand.Rand) *held {
	if len(list) == 0 {
		return nil
	}
	return list[random.IntN(len(list))]
}

// pick returns a token, mostly a live one.
func (b *book) pick(random *rand.Rand) *held {
	b.mu.Lock()
	defer b.mu.Unlock()
	want := random.IntN(3) != 0
	for range 30 {
		k := b.random(b.held, random)
		if k == nil || k.doubtful.IsZero() == want {
			return k
		}
	}
	return b.random(b.held, random)
}

func (b *book) pickParty(random *rand.Rand, which func(*party) bool) *party {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range 30 {
		if len(b.parties) == 0 {
			return nil
		}
		if p := b.parties[random.IntN(len(b.parties))]; !p.gone && which(p) {
			return p
		}
	}
	return nil
}

func (b *book) node(random *rand.Rand) *gateway { return b.s.c.nodes[random.IntN(len(b.s.c.nodes))] }

// start creates the parties and starts the clients.
func (b *book) start(t testing.TB) {
	for i := range 6 {
		if b.create(b.s.c.nodes[i%gateways], fmt.Sprintf("party %d", i), i%2 == 0) == nil {
			t.Fatal("creating a party failed: ", b.wrong)
		}
	}
	run := func(i int, every time.Duration, f func(*rand.Rand)) {
		random := rand.New(rand.NewPCG(b.seed, uint64(100+i)))
		b.workers.Go(func() {
			for {
				select {
				case <-b.stop:
					return
				case <-time.After(every/2 + time.Duration(random.Int64N(int64(every)))):
				}
				f(random)
			}
		})
	}
	for i := range 4 {
		run(i, 12*time.Millisecond, b.use)
	}
	for i := range 2 {
		run(10+i, 30*time.Millisecond, b.mint)
	}
	for i := range 3 {
		run(20+i, 60*time.Millisecond, b.rotateToken)
	}
	run(30, 100*time.Millisecond, b.revoke)
	run(31, 1500*time.Millisecond, b.revokeMany)
	run(32, 1200*time.Millisecond, b.toggle)
	run(33, 900*time.Millisecond, b.rotateSecret)
	run(34, 1200*time.Millisecond, b.createAndUse)
	run(35, 4*time.Second, b.remove)
	run(36, 500*time.Millisecond, b.trim)
}

func (b *book) end() {
	close(b.stop)
	b.workers.Wait()
}

// create registers a party.
func (b *book) create(g *gateway, name string, refresh bool) *party {
	r := b.send(g, "creation of an application", http.MethodPost, g.admin+"/meet-gateway/applications",
		fmt.Sprintf(`{"name":%q,"scopes":["rooms:list","rooms:retrieve","rooms:create"],"domains":["*"],"refresh":%v}`, name, refresh), "Content-Type", "application/json")
	if !b.common(r) {
		return nil
	}
	if r.answer.Status != http.StatusCreated {
		b.violate(r, "STRANGE", "")
		return nil
	}
	var app application
	_ = json.Unmarshal([]byte(r.answer.Body), &app)
	p := &party{name: name, ID: app.ID, refresh: refresh, created: time.Now(), node: g}
	p.secrets = []*secretHeld{{value: app.Secret, node: g, at: p.created}}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lasting(r.began, func(f *trouble) bool { return f.loses }) {
		p.lost = p.created
	}
	b.parties = append(b.parties, p)
	return p
}

func (b *book) use(random *rand.Rand) {
	k := b.pick(random)
	if k == nil {
		return
	}
	g := b.node(random)
	bearer := []string{"Authorization", gatewaytest.Bearer(k.value)}
	switch n := random.IntN(100); {
	case n < 55:
		r := b.send(g, "rooms", http.MethodGet, roomsPath, "", bearer...)
		if b.common(r) {
			b.judgeToken(r, k, r.answer.Status == 200, r.answer.Status == 401)
		}
	case n < 70:
		r := b.send(g, "identity", http.MethodGet, identityPath, "", bearer...)
		if b.common(r) {
			b.judgeToken(r, k, r.answer.Status == 200, r.answer.Status == 401)
		}
	case n < 85:
		b.mu.Lock()
		s := k.party.secrets[len(k.party.secrets)-1]
		b.mu.Unlock()
		app := application{k.party.ID, s.value}
		r := b.send(g, "introspection", http.MethodPost, basePath+"/application/introspect", url.Values{"token": {k.value}}.Encode(),
			"Content-Type", "application/x-www-form-urlencoded", "Authorization", app.basic())
		if !b.common(r) {
			return
		}
		if r.answer.Status == 401 {
			b.judgeSecret(r, k.party, s)
			return
		}
		b.judgeToken(r, k, r.answer.Status == 200 && strings.Contains(r.answer.Body, `"active":true`), r.answer.Status == 200 && strings.Contains(r.answer.Body, `"active":false`))
	default:
		r := b.send(g, "creation", http.MethodPost, roomsPath, "{}", append(bearer, "Content-Type", "application/json", "Idempotency-Key", fmt.Sprintf("key-%d", b.serial.Add(1)))...)
		if r.answer != nil && r.answer.Status == 409 && (r.resent || b.l.excused(g, gatewayUnavailable, r.began.Add(-time.Second), r.ended)) {
			return
		}
		if b.common(r) {
			b.judgeToken(r, k, r.answer.Status == 201, r.answer.Status == 401)
		}
	}
}

// judgeSecret judges 401 for a client's credentials.
func (b *book) judgeSecret(r request, p *party, s *secretHeld) {
	b.mu.Lock()
	ok := !s.doubtful.IsZero() && !s.doubtful.After(r.ended) || !p.lost.IsZero() && !p.lost.After(r.ended) || !p.deleted.IsZero()
	_, inactive := p.activity(r.began.Add(-b.s.c.staleness), r.ended)
	if !p.lost.IsZero() && time.Since(p.lost) > 3*time.Second && !strings.Contains(r.answer.Body, "inactive") && !b.lasting(time.Now(), func(*trouble) bool { return true }) {
		p.gone = true
	}
	b.mu.Unlock()
	if strings.Contains(r.answer.Body, "inactive") && inactive {
		ok = true
	}
	r.party = p
	if !ok {
		b.violate(r, "401 FOR RIGHT CREDENTIALS", "%s created %s ago by %s, secret of %s given %s ago", p.name, time.Since(p.created).Round(10*time.Millisecond), p.node.name, s.node.name, time.Since(s.at).Round(10*time.Millisecond))
	} else {
		b.l.count("credentials refused")
	}
}

func (b *book) mint(random *rand.Rand) {
	p := b.pickParty(random, func(p *party) bool { return p.deleted.IsZero() })
	if p == nil {
		return
	}
	b.mu.Lock()
	live := len(slices.DeleteFunc(slices.Clone(b.held), func(k *held) bool { return !k.doubtful.IsZero() }))
	s := p.secrets[len(p.secrets)-1]
	var former *secretHeld
	if len(p.secrets) > 1 {
		former = p.secrets[random.IntN(len(p.secrets)-1)]
	}
	b.mu.Unlock()
	g := b.node(random)
	user := fmt.Sprintf("user-%d@example.org", random.IntN(users))
	if former != nil && random.IntN(8) == 0 {
		r := b.tokenRequest(g, "token request with a former secret", p.ID, former.value, user)
		if b.common(r) && r.answer.Status == 200 {
			b.mu.Lock()
			ended := former.ended
			b.mu.Unlock()
			if !ended.IsZero() && r.began.Sub(ended) > b.s.c.staleness {
				b.violate(r, "FORMER SECRET ACCEPTED", "%s after it was replaced at %s; %s", r.began.Sub(ended), former.node.name, p.name)
			}
		}
		return
	}
	switch random.IntN(12) {
	case 0:
		r := b.tokenRequest(g, "token request with a wrong secret", p.ID, "mgs_wrongwrongwrongwrongwrongwrong", user)
		if b.common(r) && r.answer.Status != 401 {
			b.violate(r, "WRONG SECRET", "")
		}
		return
	case 1:
		r := b.tokenRequest(g, "token request of an unknown client", "0123456789012345678901", "mgs_wrongwrongwrongwrongwrongwrong", user)
		if b.common(r) && r.answer.Status != 401 {
			b.violate(r, "UNKNOWN CLIENT", "")
		}
		return
	}
	if live > 70 && random.IntN(4) != 0 {
		return
	}
	b.mintFor(g, p, s, user)
}

func (b *book) tokenRequest(g *gateway, what, id, secret, user string) request {
	return b.send(g, what, http.MethodPost, tokenPath, gatewaytest.TokenBody(id, secret, user), "Content-Type", "application/json")
}

func (b *book) mintFor(g *gateway, p *party, s *secretHeld, user string) *held {
	r := b.tokenRequest(g, "token request", p.ID, s.value, user)
	if !b.common(r) {
		return nil
	}
	switch r.answer.Status {
	case 401:
		b.judgeSecret(r, p, s)
		return nil
	case 200:
	default:
		b.violate(r, "STRANGE", "")
		return nil
	}
	b.mu.Lock()
	active, _ := p.activity(r.began.Add(-b.s.c.staleness), r.ended)
	lost := p.lost
	b.mu.Unlock()
	if !active && lost.IsZero() {
		b.violate(r, "DISABLED MINTS", "%s", p.name)
	}
	k := b.hold(r, p, user, between(r.answer.Body, `"access_token":"`, `"`))
	if token := between(r.answer.Body, `"refresh_token":"`, `"`); token != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		f := &familyHeld{party: p, user: user, token: token, node: g, sent: r.began, at: time.Now()}
		b.doubtFamily(f, r)
		b.families = append(b.families, f)
	}
	return k
}

func (b *book) doubtFamily(f *familyHeld, r request) {
	loses := func(t *trouble) bool { return t.loses }
	if b.lasting(r.began, loses) || b.lasting(r.ended, loses) {
		f.doubt(f.at, "given while everything was lost")
	}
	for _, v := range b.bulks {
		if v.hits(f.party, f.user, f.sent) && (v.acked.IsZero() || v.acked.After(f.sent)) {
			f.doubt(f.at, v.what)
		}
	}
}

// hold records an access token.
func (b *book) hold(r request, p *party, user, value string) *held {
	k := &held{party: p, user: user, value: value, node: r.node, sent: r.began, at: time.Now(), known: map[*gateway]time.Time{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lasting(r.began, func(f *trouble) bool { return f.loses }) || b.lasting(r.ended, func(f *trouble) bool { return f.loses }) {
		k.doubt(k.at, "issued while everything was lost")
	}
	for _, v := range b.bulks {
		if v.hits(p, user, r.began) && (v.acked.IsZero() || v.acked.After(r.began)) {
			k.doubt(k.at, "issued during: "+v.what)
		}
	}
	b.held = append(b.held, k)
	return k
}

// rotateToken uses the refresh tokens of a family one after the other, like a correct client.
func (b *book) rotateToken(random *rand.Rand) {
	b.mu.Lock()
	var f *familyHeld
	for range 20 {
		if len(b.families) == 0 {
			break
		}
		c := b.families[random.IntN(len(b.families))]
		if !c.busy && !c.party.gone {
			f = c
			break
		}
	}
	if f == nil {
		b.mu.Unlock()
		return
	}
	f.busy = true
	if f.first.IsZero() {
		f.first = time.Now()
	}
	s := f.party.secrets[len(f.party.secrets)-1]
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		f.busy = false
		b.mu.Unlock()
	}()
	g := b.node(random)
	if n := random.IntN(20); n == 0 {
		b.revokeFamily(g, f, s)
		return
	} else if n < 4 {
		r := b.send(g, "identity of a refresh token", http.MethodGet, identityPath, "", "Authorization", gatewaytest.Bearer(f.token))
		if b.common(r) {
			b.mu.Lock()
			rotated := f.tries > 0 // the answer was lost
			b.mu.Unlock()
			if !rotated || r.answer.Status == 200 {
				b.judgeFamily(r, f, r.answer.Status == 200, r.answer.Status == 401)
			}
		}
		return
	}
	b.mu.Lock()
	if !f.doubtful.IsZero() { // its access tokens end with it
		for _, k := range b.held {
			if k.party == f.party && k.user == f.user {
				k.doubt(time.Now(), "its family may have ended: "+f.why)
			}
		}
	}
	b.mu.Unlock()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {f.token}, "client_id": {f.party.ID}, "client_secret": {s.value}}
	r := b.send(g, "refresh", http.MethodPost, tokenPath, form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	if !b.common(r) {
		b.mu.Lock()
		f.tries++
		b.mu.Unlock()
		return
	}
	switch {
	case r.answer.Status == 401:
		b.judgeSecret(r, f.party, s)
	case r.answer.Status == 200:
		b.judgeFamily(r, f, true, false)
		r.began = f.first // the pair may be that of the first try
		b.hold(r, f.party, f.user, between(r.answer.Body, `"access_token":"`, `"`))
		b.mu.Lock()
		f.token = between(r.answer.Body, `"refresh_token":"`, `"`)
		f.node, f.sent, f.at, f.first, f.tries = g, r.began, time.Now(), time.Time{}, 0
		loses := func(t *trouble) bool { return t.loses }
		if b.lasting(r.began, loses) || b.lasting(r.ended, loses) {
			f.doubt(f.at, "rotated while everything was lost")
		}
		b.mu.Unlock()
	case strings.Contains(r.answer.Body, "invalid_grant"):
		b.judgeFamily(r, f, false, true)
	default:
		b.violate(r, "STRANGE", "")
	}
}

func (b *book) judgeFamily(r request, f *familyHeld, ok, no bool) {
	b.mu.Lock()
	doubtful, ended, why, tries, first := f.doubtful, f.ended, f.why, f.tries, f.first
	lost, deleted := f.party.lost, f.party.deleted
	active, inactive := f.party.activity(r.began.Add(-b.s.c.staleness), r.ended)
	if no {
		f.doubt(time.Now(), "was refused")
	}
	b.mu.Unlock()
	r.party = f.party
	history := fmt.Sprintf("given by %s %s ago, %d lost answers since %s, user %s of %s, %s", f.node.name, time.Since(f.at).Round(10*time.Millisecond), tries,
		time.Since(first).Round(10*time.Millisecond), f.user, f.party.name, why)
	switch {
	case ok && !ended.IsZero() && r.began.Sub(ended) > b.s.c.staleness:
		b.violate(r, "REVOKED REFRESH TOKEN ACCEPTED", "%s after; %s", r.began.Sub(ended), history)
	case ok && !deleted.IsZero() && r.began.Sub(deleted) > b.s.c.staleness:
		b.violate(r, "DELETED REFRESHES", "%s", history)
	case ok && !active && lost.IsZero():
		b.violate(r, "DISABLED REFRESHES", "%s", history)
	case ok:
		b.l.count("refresh token accepted")
	case no && (doubtful.IsZero() || doubtful.After(r.ended)) && (lost.IsZero() || lost.After(r.ended)) && deleted.IsZero() && !inactive:
		kind := "INVALID_GRANT FOR A VALID REFRESH TOKEN"
		if tries > 0 && time.Since(first) > 10*time.Second {
			kind = "INVALID_GRANT AFTER A LOST ANSWER, LATER THAN THE WINDOW"
		}
		b.violate(r, kind, "%s", history)
	case no:
		b.l.count("refresh token refused: " + strings.SplitN(why, " at ", 2)[0])
	default:
		b.violate(r, "STRANGE", "%s", history)
	}
}

func (b *book) revokeFamily(g *gateway, f *familyHeld, s *secretHeld) {
	b.mu.Lock()
	f.doubt(time.Now(), "revoked")
	p := f.party
	for _, k := range b.held { // its access tokens end with it
		if k.party == p && k.user == f.user {
			k.doubt(time.Now(), "a family of its user was revoked")
		}
	}
	b.mu.Unlock()
	app := application{p.ID, s.value}
	r := b.send(g, "revocation of a refresh token", http.MethodPost, revokePath, url.Values{"token": {f.token}}.Encode(),
		"Content-Type", "application/x-www-form-urlencoded", "Authorization", app.basic())
	if !b.common(r) {
		return
	}
	switch r.answer.Status {
	case 200:
		b.mu.Lock()
		f.end(time.Now(), "revoked at "+g.name)
		b.mu.Unlock()
	case 401:
		b.judgeSecret(r, p, s)
	default:
		b.violate(r, "STRANGE", "")
	}
}

// revoke ends one access token.
func (b *book) revoke(random *rand.Rand) {
	k := b.pick(random)
	if k == nil {
		return
	}
	g := b.node(random)
	b.mu.Lock()
	s := k.party.secrets[len(k.party.secrets)-1]
	k.doubt(time.Now(), "revoked")
	b.mu.Unlock()
	var r request
	if random.IntN(2) == 0 {
		app := application{k.party.ID, s.value}
		r = b.send(g, "revocation", http.MethodPost, revokePath, url.Values{"token": {k.value}}.Encode(),
			"Content-Type", "application/x-www-form-urlencoded", "Authorization", app.basic())
	} else {
		r = b.send(g, "revocation by an operator", http.MethodPost, g.admin+"/meet-gateway/revocations", fmt.Sprintf(`{"token":%q}`, k.value), "Content-Type", "application/json")
	}
	if !b.common(r) {
		return
	}
	switch r.answer.Status {
	case 200, 204:
		b.mu.Lock()
		k.end(time.Now(), "revoked at "+g.name)
		b.mu.Unlock()
	case 401:
		b.judgeSecret(r, k.party, s)
	default:
		b.violate(r, "STRANGE", "")
	}
}

// revokeMany revokes the tokens of a user, an application or a grant, or all before a time.
func (b *book) revokeMany(random *rand.Rand) {
	p := b.pickParty(random, func(p *party) bool { return p.deleted.IsZero() && p.lost.IsZero() })
	if p == nil {
		return
	}
	user := fmt.Sprintf("user-%d@example.org", random.IntN(users))
	v := &bulkRevocation{began: time.Now()}
	var body string
	switch n := random.IntN(20); {
	case n < 8:
		v.what, v.user, body = "revocation of a user", user, fmt.Sprintf(`{"user":%q}`, user)
	case n < 16:
		v.what, v.user, v.party, body = "revocation of a grant", user, p, fmt.Sprintf(`{"application":%q,"user":%q}`, p.ID, user)
	case n < 19:
		v.what, v.party, body = "revocation of an application", p, fmt.Sprintf(`{"application":%q}`, p.ID)
	default:
		v.what, v.before = "revocation of all tokens before a time", v.began.Add(-5*time.Second)
		body = fmt.Sprintf(`{"before":%q}`, v.before.UTC().Format(time.RFC3339Nano))
	}
	b.mu.Lock()
	b.bulks = append(b.bulks, v)
	for _, k := range b.held {
		if v.hits(k.party, k.user, k.sent) {
			k.doubt(v.began, v.what)
		}
	}
	for _, f := range b.families {
		if v.hits(f.party, f.user, time.Time{}) {
			f.doubt(v.began, v.what)
		}
	}
	b.mu.Unlock()
	for {
		began := time.Now()
		g := b.node(random)
		r := b.send(g, v.what, http.MethodPost, g.admin+"/meet-gateway/revocations", body, "Content-Type", "application/json")
		if b.common(r) {
			switch r.answer.Status {
			case 204:
				b.mu.Lock()
				v.acked = time.Now()
				for _, k := range b.held {
					if v.hits(k.party, k.user, k.sent) && k.at.Before(began) && (v.before.IsZero() || k.at.Before(v.before.Add(-time.Second))) {
						k.end(v.acked, v.what+" at "+g.name)
					}
				}
				b.mu.Unlock()
				return
			case 404: // no application acted for the user, or the application is lost
				b.mu.Lock()
				known := slices.ContainsFunc(b.held, func(k *held) bool {
					return k.doubtful.After(v.began.Add(-time.Nanosecond)) && v.hits(k.party, k.user, k.sent) && k.at.Before(began) && k.why == v.what
				})
				lost := !p.lost.IsZero() || !p.deleted.IsZero() || b.lasting(r.began, func(f *trouble) bool { return f.loses })
				v.acked = time.Now()
				b.mu.Unlock()
				if known && !lost {
					b.violate(r, "ADMIN 404", "there is something to revoke")
				}
				return
			default:
				b.violate(r, "STRANGE", "")
			}
		}
		select {
		case <-b.stop:
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// claim reserves a party for one operator.
func (b *book) claim(random *rand.Rand, which func(*party) bool) *party {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range 20 {
		if len(b.parties) == 0 {
			return nil
		}
		if p := b.parties[random.IntN(len(b.parties))]; !p.busy && !p.gone && p.deleted.IsZero() && p.lost.IsZero() && which(p) {
			p.busy = true
			return p
		}
	}
	return nil
}

func (b *book) free(p *party) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.busy = false
}

// operate changes an application and retries until the change is acknowledged.
func (b *book) operate(random *rand.Rand, p *party, what, method, path, body string, done func(g *gateway, r request), failed func()) {
	for {
		g := b.node(random)
		r := b.send(g, what, method, g.admin+"/meet-gateway/applications/"+p.ID+path, body, "Content-Type", "application/json")
		b.mu.Lock()
		if r.answer != nil {
			p.note("%s %s %s at %s from %s: %d active %.5s version %.4s", method, path, body, g.name, r.began.Format("05.000"), r.answer.Status,
				between(r.answer.Body, `"active":`, ","), between(r.answer.Body, `"version":`, ","))
		} else {
			p.note("%s %s %s at %s from %s: %v", method, path, body, g.name, r.began.Format("05.000"), r.err)
		}
		b.mu.Unlock()
		if b.common(r) {
			switch r.answer.Status {
			case 200, 204:
				done(g, r)
				return
			case 404:
				b.mu.Lock()
				lost := !p.lost.IsZero()
				b.mu.Unlock()
				if !lost && method != http.MethodDelete {
					b.violate(r, "ADMIN 404", "%s created %s ago", p.name, time.Since(p.created).Round(10*time.Millisecond))
				}
				if lost || method == http.MethodDelete {
					return
				}
			default:
				b.violate(r, "STRANGE", "")
			}
		}
		failed()
		select {
		case <-b.stop:
			return
		case <-time.After(150 * time.Millisecond):
		}
	}
}

// toggle disables an application and enables it again.
func (b *book) toggle(random *rand.Rand) {
	p := b.claim(random, func(p *party) bool { return strings.HasSuffix(p.name, "5") || strings.HasSuffix(p.name, "4") })
	if p == nil {
		return
	}
	defer b.free(p)
	b.mu.Lock()
	active := len(p.phases) == 0 || p.phases[len(p.phases)-1].active
	p.phases = append(p.phases, phase{began: time.Now(), active: !active})
	if len(p.phases) > 8 {
		p.phases = p.phases[4:]
	}
	i := len(p.phases) - 1
	b.mu.Unlock()
	b.operate(random, p, "disabling or enabling", http.MethodPatch, "", fmt.Sprintf(`{"active":%v}`, !active), func(*gateway, request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		p.phases[i].acked = time.Now()
	}, func() {})
}

// rotateSecret replaces the secret of an application at once.
func (b *book) rotateSecret(random *rand.Rand) {
	p := b.claim(random, func(p *party) bool { return strings.HasSuffix(p.name, "2") || strings.HasSuffix(p.name, "3") })
	if p == nil {
		return
	}
	defer b.free(p)
	b.mu.Lock()
	former := p.secrets[len(p.secrets)-1]
	b.mu.Unlock()
	doubt := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if former.doubtful.IsZero() {
			former.doubtful = time.Now()
		}
	}
	doubt()
	b.operate(random, p, "rotation of a secret", http.MethodPost, "/rotate", `{"now":true}`, func(g *gateway, r request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		now := time.Now()
		former.ended = now
		s := &secretHeld{value: between(r.answer.Body, `"client_secret":"`, `"`), node: g, at: now}
		if p.lost.IsZero() {
			if b.lasting(r.began, func(f *trouble) bool { return f.loses }) {
				s.doubtful = now
			}
		}
		p.secrets = append(p.secrets, s)
	}, doubt)
}

// createAndUse creates an application and uses it on the other gateways at once.
func (b *book) createAndUse(random *rand.Rand) {
	n := b.serial.Add(1)
	p := b.create(b.node(random), fmt.Sprintf("new party %d", n), n%2 == 0)
	if p == nil {
		return
	}
	for _, i := range random.Perm(gateways) {
		if k := b.mintFor(b.s.c.nodes[i], p, p.secrets[0], fmt.Sprintf("user-%d@example.org", random.IntN(users))); k != nil {
			g := b.node(random)
			r := b.send(g, "rooms at once", http.MethodGet, roomsPath, "", "Authorization", gatewaytest.Bearer(k.value))
			if b.common(r) {
				b.judgeToken(r, k, r.answer.Status == 200, r.answer.Status == 401)
			}
		}
	}
}

// remove deletes an application.
func (b *book) remove(random *rand.Rand) {
	p := b.claim(random, func(p *party) bool { return strings.HasPrefix(p.name, "new") && time.Since(p.created) > 5*time.Second })
	if p == nil {
		return
	}
	now := time.Now()
	b.mu.Lock()
	for _, k := range b.held {
		if k.party == p {
			k.doubt(now, "its application was deleted")
		}
	}
	for _, f := range b.families {
		if f.party == p {
			f.doubt(now, "its application was deleted")
		}
	}
	for _, s := range p.secrets {
		if s.doubtful.IsZero() {
			s.doubtful = now
		}
	}
	if p.lost.IsZero() {
		p.lost = now
	}
	b.mu.Unlock()
	b.operate(random, p, "deletion", http.MethodDelete, "", "", func(*gateway, request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		p.deleted = time.Now()
	}, func() {})
	// The party stays claimed.
}

// trim bounds the size of the book and the number of parties.
func (b *book) trim(*rand.Rand) {
	b.mu.Lock()
	if excess := len(b.held) - 400; excess > 0 {
		b.held = slices.DeleteFunc(b.held, func(k *held) bool {
			if excess > 0 && !k.doubtful.IsZero() && time.Since(k.doubtful) > time.Minute {
				excess--
				return true
			}
			return false
		})
	}
	b.families = slices.DeleteFunc(b.families, func(f *familyHeld) bool {
		return !f.busy && (f.party.gone || !f.doubtful.IsZero() && time.Since(f.doubtful) > 40*time.Second)
	})
	if excess := len(b.families) - 60; excess > 0 {
		b.families = slices.DeleteFunc(b.families, func(f *familyHeld) bool {
			if excess > 0 && !f.busy {
				excess--
				return true
			}
			return false
		})
	}
	var missing []string
	present := map[string]bool{}
	for _, p := range b.parties {
		if p.lost.IsZero() {
			present[p.name] = true
		}
	}
	for i := range 6 {
		if name := fmt.Sprintf("party %d", i); !present[name] {
			missing = append(missing, name)
		}
	}
	if len(b.parties) > 40 {
		kept := 0
		b.parties = slices.DeleteFunc(b.parties, func(p *party) bool {
			drop := len(b.parties)-kept > 40 && strings.HasPrefix(p.name, "new") && time.Since(p.created) > 90*time.Second && (p.gone || !p.deleted.IsZero() || !p.lost.IsZero())
			if drop {
				kept++
			}
			return drop
		})
	}
	b.mu.Unlock()
	for i, name := range missing {
		b.create(b.s.c.nodes[i%gateways], name, true)
	}
}
