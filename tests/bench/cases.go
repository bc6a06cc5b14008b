// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

const (
	roomPath  = "/external-api/v1.0/rooms/" + roomID + "/"
	listPath  = "/external-api/v1.0/rooms/"
	tokenPath = "/external-api/v1.0/application/token/"

	connections = 16
	manyTokens  = 10_000
	// knownUsers are those that new tokens are for: Meet has been asked about them
	// before, so that a new token costs what a new token costs.
	knownUsers = 200
)

// result is what a case came to.
type result struct {
	// ID names a case for the doc, Name is what a reader sees.
	ID, Name string
	// A is what B is compared with.
	A, B  string
	Pairs []pair
	// Budget is the largest ratio, 0 for none.
	Budget float64
	// Extra is added to the CPU of A, in microseconds, before the ratio.
	Extra float64
}

func (r *result) ratios() spread {
	return spreadOf(r.Pairs, func(p pair) float64 { return p.B.cpuPerRequest() / (p.A.cpuPerRequest() + r.Extra) })
}

func (r *result) cpuA() spread {
	return spreadOf(r.Pairs, func(p pair) float64 { return p.A.cpuPerRequest() })
}

func (r *result) cpuB() spread {
	return spreadOf(r.Pairs, func(p pair) float64 { return p.B.cpuPerRequest() })
}

// best is the smallest cost of B to the smallest of A: what disturbs a machine only
// ever adds, so on a busy one this says more than the median.
func (r *result) best() float64 { return r.cpuB().Min / (r.cpuA().Min + r.Extra) }

// b is one number of the runs of B, its median.
func (r *result) b(value func(sample) float64) float64 {
	return spreadOf(r.Pairs, func(p pair) float64 { return value(p.B) }).Median
}

// read is a request for the room.
func read(token string) request {
	return request{method: http.MethodGet, path: roomPath, authorization: "Bearer " + token}
}

func reads(issued []*tokens.Token) []request {
	all := make([]request, len(issued))
	for i, t := range issued {
		all[i] = read(t.Value)
	}
	return all
}

// bench is one run of everything.
type bench struct {
	*lab
	s        settings
	platform *platform
	clients  []client
	plain    *server
	gate     *server
	report   *report
}

// settings bound a run.
type settings struct {
	Quick  bool
	Pairs  int           // of cases with a budget; the others have fewer
	Run    time.Duration // of one server under load
	Sweep  bool
	Fixed  time.Duration // of one run at a fixed rate
	Filter string        // only cases whose name contains it
	// Profile is where the profile for the compiler is written; "" for nowhere.
	Profile string
}

func newSettings(quick bool) settings {
	if quick {
		return settings{Quick: true, Pairs: 2, Run: time.Second, Fixed: 2 * time.Second}
	}
	// Many short runs: what disturbs a machine comes and goes in seconds.
	return settings{Pairs: 11, Run: time.Second, Sweep: true, Fixed: 5 * time.Second}
}

// fewer is the number of pairs where no budget hangs on them.
func (s settings) fewer() int { return max(s.Pairs*3/5, 1) }

// newPerRun is how many new tokens one run can use up.
func (s settings) newPerRun() int { return int(s.Run.Seconds() * 8000) }

// prepare starts the two that are compared, and issues what they are shown.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.platform, err = newPlatform(b.lab); err != nil {
		return err
	}
	if b.clients, err = b.platform.applications(ctx, 10); err != nil {
		return err
	}
	if b.plain, err = b.startPlain(ctx, "plain", false); err != nil {
		return err
	}
	b.gate, err = b.startGate(ctx, "gate", gateOptions{})
	return err
}

// compare runs pairs after a warm-up of both, and adds the result to the report.
func (b *bench) compare(ctx context.Context, r *result, n int, a, t *target) error {
	if !strings.Contains(r.ID, b.s.Filter) {
		return nil
	}
	fmt.Fprintf(os.Stderr, "%-28s", r.ID)
	if err := b.warm(ctx, a, t); err != nil {
		return fmt.Errorf("%s: %w", r.ID, err)
	}
	if err := b.report.CaseSpeeds.note(); err != nil {
		return err
	}
	pairs, err := b.pairs(ctx, a, t, n, b.s.Run)
	if err != nil {
		return fmt.Errorf("%s: %w", r.ID, err)
	}
	r.Pairs = pairs
	fmt.Fprintf(os.Stderr, " A %s µs  B %s µs  ratio %s  best %.2f  %.2f Redis commands\n", r.cpuA(), r.cpuB(), r.ratios(), r.best(), r.b(sample.commandsPerRequest))
	b.report.Cases = append(b.report.Cases, r)
	return nil
}

// warm lets a target see each of its requests once, and for a second at least.
func (b *bench) warm(ctx context.Context, targets ...*target) error {
	for _, t := range targets {
		l := t.next()
		d := time.Second
		if !l.once {
			// Each server gets a share of the connections and has to see all.
			d += time.Duration(len(l.requests)*len(t.servers)/2000) * time.Second
		}
		var addresses []string
		for _, s := range t.servers {
			addresses = append(addresses, s.address)
		}
		if _, err := b.gen.run(ctx, l, d, addresses...); err != nil {
			return err
		}
	}
	return nil
}

func on(l *load, servers ...*server) *target { return &target{servers: servers, load: l} }

func (b *bench) cases(ctx context.Context) error {
	for _, run := range []func(context.Context) error{
		b.hot, b.withOptions, b.many, b.everyTokenNew, b.someBad, b.lists, b.create, b.tokenEndpoint, b.identity, b.garbage, b.accessLog, b.overTLS, b.overHTTP2, b.eddsa, b.threeNodes, b.farRedis, b.seen,
	} {
		if err := run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// oneToken is the load of one user who reads a room.
func (b *bench) oneToken(ctx context.Context) (*load, error) {
	issued, err := b.platform.issue(ctx, 1, b.clients, 1)
	if err != nil {
		return nil, err
	}
	return &load{requests: reads(issued), connections: connections}, nil
}

func (b *bench) hot(ctx context.Context) error {
	l, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	r := &result{ID: "hot", Name: "one hot token", A: "plain", B: "gate", Budget: 1.05}
	if err := b.compare(ctx, r, b.s.Pairs+2, on(l, b.plain), on(l, b.gate)); err != nil {
		return err
	}
	return b.explain(ctx, r, on(l, b.gate))
}

// withOptions is the hot token with a backend whose requests the whole handler of
// reverse_proxy makes, as plain's.
func (b *bench) withOptions(ctx context.Context) error {
	if !strings.Contains("hot-options", b.s.Filter) {
		return nil
	}
	l, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	gate, err := b.startGate(ctx, "gate-options", gateOptions{backend: "lb_policy first"})
	if err != nil {
		return err
	}
	defer gate.stop()
	r := &result{ID: "hot-options", Name: "one hot token, a backend with options of `reverse_proxy`", A: "plain", B: "gate"}
	return b.compare(ctx, r, b.s.fewer(), on(l, b.plain), on(l, gate))
}

func (b *bench) many(ctx context.Context) error {
	issued, err := b.platform.issue(ctx, manyTokens, b.clients, manyTokens)
	if err != nil {
		return err
	}
	l := &load{requests: reads(issued), connections: connections}
	r := &result{ID: "many", Name: "10,000 tokens of 10,000 users", A: "plain", B: "gate", Budget: 1.15}
	if err := b.compare(ctx, r, b.s.Pairs, on(l, b.plain), on(l, b.gate)); err != nil {
		return err
	}
	if err := b.explain(ctx, r, on(l, b.gate)); err != nil {
		return err
	}
	return b.report.remember(b.plain, b.gate, "after 10,000 tokens")
}

// everyNew makes loads of tokens that the gateway has never seen, for users that
// it has.
func (b *bench) everyNew(ctx context.Context, p *platform, gate *server, runs int) ([]*load, error) {
	seen, err := p.issue(ctx, knownUsers, b.clients[:1], knownUsers)
	if err != nil {
		return nil, err
	}
	if err := b.warm(ctx, on(&load{requests: reads(seen), connections: connections}, gate)); err != nil {
		return nil, err
	}
	loads := make([]*load, runs)
	for i := range loads {
		issued, err := p.issue(ctx, b.s.newPerRun(), b.clients[:1], knownUsers)
		if err != nil {
			return nil, err
		}
		loads[i] = &load{requests: reads(issued), connections: connections, once: true}
	}
	return loads, nil
}

func (b *bench) everyTokenNew(ctx context.Context) error {
	if !strings.Contains("new-hs256", b.s.Filter) {
		return nil
	}
	loads, err := b.everyNew(ctx, b.platform, b.gate, b.s.Pairs+1)
	if err != nil {
		return err
	}
	r := &result{ID: "new-hs256", Name: "every token new (verify and record look-up)", A: "plain", B: "gate", Budget: 1.35}
	gate := &target{servers: []*server{b.gate}, loads: loads}
	if err := b.compare(ctx, r, b.s.Pairs, &target{servers: []*server{b.plain}, loads: loads}, gate); err != nil {
		return err
	}
	more, err := b.everyNew(ctx, b.platform, b.gate, 8)
	if err != nil {
		return err
	}
	return b.explain(ctx, r, &target{servers: gate.servers, loads: more})
}

func (b *bench) someBad(ctx context.Context) error {
	issued, err := b.platform.issue(ctx, 1000, b.clients, 1000)
	if err != nil {
		return err
	}
	l := &load{requests: reads(issued), connections: connections}
	for i := 0; i < len(issued); i += 100 {
		v := issued[i].Value
		l.requests[i] = read(v[:len(v)-8] + strings.Repeat("A", 8))
		if err := b.platform.authority.RevokeToken(ctx, issued[i+50].ID); err != nil {
			return fmt.Errorf("revoking: %w", err)
		}
	}
	t := on(l, b.gate)
	t.refused = func(s sent) bool {
		return math.Abs(float64(s.Refused)/float64(s.Requests)-0.02) < 0.005
	}
	r := &result{ID: "some-bad", Name: "1,000 tokens, 1 % bad signatures, 1 % revoked", A: "plain", B: "gate"}
	return b.compare(ctx, r, b.s.fewer(), on(l, b.plain), t)
}

func (b *bench) lists(ctx context.Context) error {
	issued, err := b.platform.issue(ctx, 1, b.clients, 1)
	if err != nil {
		return err
	}
	list := func(query string) request {
		return request{method: http.MethodGet, path: listPath + query, authorization: "Bearer " + issued[0].Value}
	}
	pages := &load{requests: []request{list(""), list("?page=2"), list("?page=3")}, connections: connections}
	r := &result{ID: "list", Name: "list, pages of 20 as Meet has them", A: "plain", B: "gate"}
	if err := b.compare(ctx, r, b.s.fewer(), on(pages, b.plain), on(pages, b.gate)); err != nil {
		return err
	}
	large := &load{requests: []request{list("?page_size=50")}, connections: connections}
	r = &result{ID: "list-50", Name: "list, page_size=50, put together from three of Meet's pages", A: "plain, one page of 20", B: "gate"}
	return b.compare(ctx, r, b.s.fewer(), on(large, b.plain), on(large, b.gate))
}

func (b *bench) create(ctx context.Context) error {
	issued, err := b.platform.issue(ctx, 1, b.clients, 1)
	if err != nil {
		return err
	}
	l := &load{connections: connections, requests: []request{{
		method: http.MethodPost, path: listPath, authorization: "Bearer " + issued[0].Value, contentType: "application/json", body: `{"access_level":"trusted"}`,
	}}}
	r := &result{ID: "create", Name: "create a room", A: "plain", B: "gate"}
	return b.compare(ctx, r, b.s.fewer(), on(l, b.plain), on(l, b.gate))
}

// startRespond is a Caddy that says the same to everything: the least that an
// answer without a backend costs.
func (b *bench) startRespond(ctx context.Context, body string) (*server, error) {
	return b.startCaddy(ctx, "respond", caddySite{site: "header Content-Type application/json\nrespond `" + body + "`"})
}

func (b *bench) tokenEndpoint(ctx context.Context) error {
	issued, err := b.platform.issue(ctx, 1, b.clients, 1)
	if err != nil {
		return err
	}
	static, err := b.startRespond(ctx, fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer","expires_in":3600,"scope":"rooms:list rooms:retrieve rooms:create"}`, issued[0].Value))
	if err != nil {
		return err
	}
	defer static.stop()
	signing, err := signingCost()
	if err != nil {
		return err
	}
	b.report.Signing = signing
	l := &load{connections: connections, requests: []request{b.tokenRequest(b.clients[0], string(mail(0)))}}
	r := &result{ID: "token", Name: "token endpoint, exchange cached", A: "static `respond` plus signing", B: "gate", Budget: 2, Extra: signing}
	if err := b.compare(ctx, r, b.s.Pairs, on(l, static), on(l, b.gate)); err != nil {
		return err
	}
	return b.explain(ctx, r, on(l, b.gate))
}

// tokenRequest asks for a token for a user.
func (b *bench) tokenRequest(c client, mail string) request {
	return request{
		method: http.MethodPost, path: tokenPath, contentType: "application/json",
		body: fmt.Sprintf(`{"client_id":%q,"client_secret":%q,"grant_type":"client_credentials","scope":%q}`, c.ID, c.secret, mail),
	}
}

// signingCost is what golang-jwt takes to sign a token of usual size with HS256,
// in microseconds of CPU.
func signingCost() (float64, error) {
	claims := jwt.MapClaims{
		"iss": "meet-gateway", "aud": "meet-clients", "iat": 1760000000, "exp": 1760003600, "jti": "0123456789012345678901",
		"sub": "abcdefgh", "client_id": "abcdefghabcdefghabcdefghabcdefgh", "scope": allScopes.String(), "user_id": roomID, "delegated": true,
	}
	key := make([]byte, 32)
	const n = 5000
	before, err := cpuTime(os.Getpid())
	if err != nil {
		return 0, err
	}
	for range n {
		if _, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(key); err != nil {
			return 0, fmt.Errorf("signing: %w", err)
		}
	}
	after, err := cpuTime(os.Getpid())
	return float64((after - before).Nanoseconds()) / 1000 / n, err
}

func (b *bench) identity(ctx context.Context) error {
	issued, err := b.platform.issue(ctx, 1, b.clients, 1)
	if err != nil {
		return err
	}
	static, err := b.startRespond(ctx, `{"status":"success","payload":{"type":"user","id":"abcdefgh","valid_until":3599,"credential_type":"access_token"},"code":200}`)
	if err != nil {
		return err
	}
	defer static.stop()
	l := &load{connections: connections, requests: []request{{method: http.MethodGet, path: "/identity", authorization: "Bearer " + issued[0].Value}}}
	r := &result{ID: "identity", Name: "/identity, live state from Redis", A: "static `respond`", B: "gate"}
	return b.compare(ctx, r, b.s.fewer(), on(l, static), on(l, b.gate))
}

func (b *bench) garbage(ctx context.Context) error {
	good, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	valid := good.requests[0].authorization
	l := &load{connections: connections, requests: []request{
		{method: http.MethodGet, path: roomPath, authorization: "Bearer garbage"},
		{method: http.MethodGet, path: roomPath, authorization: valid[:len(valid)-8] + "AAAAAAAA"},
		{method: http.MethodGet, path: roomPath, authorization: "Bearer " + meetToken},
		{method: http.MethodGet, path: roomPath},
		{method: http.MethodGet, path: "/.env"},
		{method: http.MethodGet, path: "/external-api/v1.0/rooms/../users/"},
		{method: http.MethodGet, path: "/external-api/v1.0/users/", authorization: valid},
		{method: http.MethodDelete, path: roomPath, authorization: valid},
		{method: http.MethodPost, path: tokenPath, contentType: "application/json", body: `{"client_id":`},
	}}
	t := on(l, b.gate)
	t.refused = func(s sent) bool { return s.Refused == s.Requests }
	r := &result{ID: "garbage", Name: "refusal of garbage", A: "plain, a good request", B: "gate", Budget: 1}
	return b.compare(ctx, r, b.s.Pairs, on(good, b.plain), t)
}

func (b *bench) accessLog(ctx context.Context) error {
	l, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	plain, err := b.startPlain(ctx, "plain-log", true)
	if err != nil {
		return err
	}
	defer plain.stop()
	gate, err := b.startGate(ctx, "gate-log", gateOptions{log: true})
	if err != nil {
		return err
	}
	defer gate.stop()
	r := &result{ID: "log", Name: "one hot token, both with a JSON access log", A: "plain", B: "gate"}
	return b.compare(ctx, r, b.s.fewer(), on(l, plain), on(l, gate))
}

// overTLS is the hot token over TLS on connections that stay open.
func (b *bench) overTLS(ctx context.Context) error {
	return b.encrypted(ctx, &result{ID: "tls", Name: "one hot token, over TLS 1.3", A: "plain", B: "gate"}, func(t *target) { t.load.tls = true })
}

// overHTTP2 is the hot token over HTTP/2: fewer connections, each with several
// requests at a time.
func (b *bench) overHTTP2(ctx context.Context) error {
	if _, err := exec.LookPath("h2load"); err != nil {
		b.report.Missing = append(b.report.Missing, "h2load is not installed: HTTP/2 was not measured")
		return nil
	}
	return b.encrypted(ctx, &result{ID: "http2", Name: "one hot token, over HTTP/2", A: "plain", B: "gate"}, func(t *target) { t.load.http2 = true })
}

func (b *bench) encrypted(ctx context.Context, r *result, as func(*target)) error {
	if !strings.Contains(r.ID, b.s.Filter) {
		return nil
	}
	l, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	plain, err := b.startCaddy(ctx, "plain-"+r.ID, caddySite{site: "reverse_proxy " + b.upstream.address, tls: true})
	if err != nil {
		return err
	}
	defer plain.stop()
	gate, err := b.startGate(ctx, "gate-"+r.ID, gateOptions{tls: true})
	if err != nil {
		return err
	}
	defer gate.stop()
	a, t := on(l, plain), on(l, gate)
	as(a)
	return b.compare(ctx, r, b.s.fewer(), a, t)
}

func (b *bench) eddsa(ctx context.Context) error {
	if !strings.Contains("new-eddsa", b.s.Filter) {
		return nil
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	file := filepath.Join(b.dir, "ed25519.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	key, err := signing.Parse(text)
	if err != nil {
		return err
	}
	p, err := newPlatform(b.lab, key)
	if err != nil {
		return err
	}
	defer p.close()
	gate, err := b.startGate(ctx, "gate-eddsa", gateOptions{signingKey: file})
	if err != nil {
		return err
	}
	defer gate.stop()
	loads, err := b.everyNew(ctx, p, gate, b.s.fewer()+1)
	if err != nil {
		return err
	}
	r := &result{ID: "new-eddsa", Name: "every token new, signed with EdDSA", A: "plain", B: "gate"}
	return b.compare(ctx, r, b.s.fewer(), &target{servers: []*server{b.plain}, loads: loads}, &target{servers: []*server{gate}, loads: loads})
}

func (b *bench) threeNodes(ctx context.Context) error {
	if !strings.Contains("three", b.s.Filter) {
		return nil
	}
	issued, err := b.platform.issue(ctx, 1000, b.clients, 1000)
	if err != nil {
		return err
	}
	l := &load{requests: reads(issued), connections: 3 * connections}
	plains, gates := []*server{b.plain}, []*server{b.gate}
	for i := 2; i <= 3; i++ {
		p, err := b.startPlain(ctx, fmt.Sprintf("plain-%d", i), false)
		if err != nil {
			return err
		}
		defer p.stop()
		g, err := b.startGate(ctx, fmt.Sprintf("gate-%d", i), gateOptions{})
		if err != nil {
			return err
		}
		defer g.stop()
		plains, gates = append(plains, p), append(gates, g)
	}
	r := &result{ID: "three", Name: "three nodes, 1,000 tokens", A: "three plain", B: "three gates"}
	if err := b.compare(ctx, r, b.s.fewer(), on(l, plains...), on(l, gates...)); err != nil {
		return err
	}
	b.report.Revocation, err = b.revocations(ctx, gates)
	return err
}

// revocations measures how long after a revocation was acknowledged each node
// still lets the token through, in milliseconds.
func (b *bench) revocations(ctx context.Context, gates []*server) (revocation, error) {
	samples := 200
	if b.s.Quick {
		samples = 20
	}
	issued, err := b.platform.issue(ctx, samples, b.clients, samples)
	if err != nil {
		return revocation{}, err
	}
	status := func(g *server, token string) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.address+roomPath, http.NoBody)
		if err != nil {
			return 0, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	var took []float64
	for _, t := range issued {
		for _, g := range gates {
			if code, err := status(g, t.Value); err != nil || code != http.StatusOK {
				return revocation{}, fmt.Errorf("before the revocation: status %d: %w", code, err)
			}
		}
		if err := b.platform.authority.RevokeToken(ctx, t.ID); err != nil {
			return revocation{}, fmt.Errorf("revoking: %w", err)
		}
		began := time.Now()
		for _, g := range gates {
			for {
				code, err := status(g, t.Value)
				if err != nil {
					return revocation{}, err
				}
				if code == http.StatusUnauthorized {
					break
				}
				if time.Since(began) > 10*time.Second {
					return revocation{}, fmt.Errorf("%s still lets a revoked token through", g.name)
				}
			}
			took = append(took, float64(time.Since(began).Microseconds())/1000)
		}
	}
	slices.Sort(took)
	at := func(part float64) float64 { return took[int(part*float64(len(took)-1))] }
	return revocation{Samples: len(took), P50: at(0.5), P99: at(0.99), Max: at(1)}, nil
}

// revocation is how long a node goes on after a revocation was acknowledged, in
// milliseconds.
type revocation struct {
	Samples       int
	P50, P99, Max float64
}
