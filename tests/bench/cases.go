// SPDX-License-Identifier: MIT

package main

import (
	"cmp"
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

	"golang.org/x/sync/errgroup"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

const (
	roomPath  = "/external-api/v1.0/rooms/" + roomID + "/"
	listPath  = "/external-api/v1.0/rooms/"
	tokenPath = "/external-api/v1.0/application/token/"

	connections = 16
	manyTokens  = 10_000
	// knownUsers is the number of users of new tokens. Their exchanges are already cached, so
	// that only the cost of the token is measured.
	knownUsers = 200
)

// result is the outcome of a case.
type result struct {
	// ID names a case on the command line, Name in the report.
	ID, Name string
	// A names the baseline, B the measured configuration.
	A, B  string
	Pairs []pair
	// Budget is the largest permitted ratio, 0 for none.
	Budget float64
	// Times is the number of requests of A that correspond to one of B; 0 is 1.
	Times float64
	// Extra is added to the CPU of A, in microseconds.
	Extra float64
	// Limited means that the load ends before the time is over, so that B's rate is meaningless.
	Limited bool
}

// costA is the CPU of A that corresponds to one request of B, in microseconds.
func (r *result) costA(p pair) float64 { return p.A.cpuPerRequest()*cmp.Or(r.Times, 1) + r.Extra }

func (r *result) ratios() spread {
	return spreadOf(r.Pairs, func(p pair) float64 { return p.B.cpuPerRequest() / r.costA(p) })
}

func (r *result) cpuA() spread { return spreadOf(r.Pairs, r.costA) }

func (r *result) cpuB() spread {
	return spreadOf(r.Pairs, func(p pair) float64 { return p.B.cpuPerRequest() })
}

// b returns the median of a value over the runs of B.
func (r *result) b(value func(sample) float64) float64 {
	return spreadOf(r.Pairs, func(p pair) float64 { return value(p.B) }).Median
}

// missed reports whether the median exceeds the budget.
func (r *result) missed() bool { return r.Budget > 0 && r.ratios().Median > r.Budget }

// read returns a request for the room.
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

// bench is one run of the benchmark.
type bench struct {
	*lab
	s        settings
	began    time.Time
	failed   error // of all parts
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
	Filter string        // only cases whose id contains it
	Limit  time.Duration // of the whole; parts that would begin later are left out
}

func newSettings(quick bool) settings {
	if quick {
		return settings{Quick: true, Pairs: 2, Run: time.Second, Fixed: 2 * time.Second, Limit: 5 * time.Minute}
	}
	// Many short runs, because disturbances of a machine last for seconds.
	return settings{Pairs: 9, Run: time.Second, Sweep: true, Fixed: 2 * time.Second, Limit: 19 * time.Minute}
}

// fewer is the number of pairs of cases without a budget.
func (s settings) fewer() int { return max(s.Pairs*2/3, 1) }

// newPerRun is the number of new tokens that one run can use.
func (s settings) newPerRun() int { return int(s.Run.Seconds() * 8000) }

// prepare starts plain and the gateway, and registers the applications.
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
	if err := b.report.Speeds.note("cases"); err != nil {
		return err
	}
	pairs, err := b.pairs(ctx, a, t, n, b.s.Run)
	if err != nil {
		return fmt.Errorf("%s: %w", r.ID, err)
	}
	r.Pairs = pairs
	fmt.Fprintf(os.Stderr, " A %s µs  B %s µs  ratio %s  %.2f Redis commands\n", r.cpuA(), r.cpuB(), r.ratios(), r.b(sample.commandsPerRequest))
	b.report.Cases = append(b.report.Cases, r)
	return nil
}

// warm sends each request of a target once, and then runs the load for a second.
func (b *bench) warm(ctx context.Context, targets ...*target) error {
	for _, t := range targets {
		l := t.next()
		var addresses []string
		all, asking := errgroup.WithContext(ctx)
		all.SetLimit(connections)
		for _, s := range t.servers {
			addresses = append(addresses, s.address)
			for i := 0; i < len(l.requests) && len(l.requests) > connections && !l.once; i++ {
				all.Go(func() error {
					_, err := ask(asking, s.address, l.requests[i])
					return err
				})
			}
		}
		if err := all.Wait(); err != nil {
			return err
		}
		if _, err := b.gen.run(ctx, l, time.Second, addresses...); err != nil {
			return err
		}
	}
	return nil
}

func on(l *load, servers ...*server) *target { return &target{servers: servers, load: l} }

func (b *bench) cases(ctx context.Context) error {
	for _, c := range []struct {
		ids string
		run func(context.Context) error
	}{
		{"hot list list-50 create token identity garbage", b.kinds},
		{"many", b.many},
		{"new-hs256", b.everyTokenNew},
		{"hot-options log tls http2", b.variants},
		{"some-bad", b.someBad},
		{"new-eddsa", b.eddsa},
		{"three", b.threeNodes},
		{"far-redis", b.farRedis},
		{"seen seen-traced seen-traced-plain", b.seen},
		{"gogc", b.collector},
	} {
		if !strings.Contains(c.ids, b.s.Filter) {
			continue
		}
		if err := b.attempt(ctx, c.ids, c.run); err != nil {
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

// kinds measures each kind of request, all by one user.
func (b *bench) kinds(ctx context.Context) error {
	one, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	authorization := one.requests[0].authorization
	get := func(path string) request {
		return request{method: http.MethodGet, path: path, authorization: authorization}
	}
	of := func(requests ...request) *load { return &load{requests: requests, connections: connections} }
	pages := of(get(listPath), get(listPath+"?page=2"), get(listPath+"?page=3"))
	creation := request{
		method: http.MethodPost, path: listPath, authorization: authorization, contentType: "application/json", body: `{"access_level":"trusted"}`,
	}
	garbage := of(
		request{method: http.MethodGet, path: roomPath, authorization: "Bearer garbage"},
		request{method: http.MethodGet, path: roomPath, authorization: authorization[:len(authorization)-8] + "AAAAAAAA"},
		request{method: http.MethodGet, path: roomPath, authorization: "Bearer " + meetToken},
		request{method: http.MethodGet, path: roomPath},
		get("/.env"), get("/external-api/v1.0/rooms/../users/"), get("/external-api/v1.0/users/"),
		request{method: http.MethodDelete, path: roomPath, authorization: authorization},
		request{method: http.MethodPost, path: tokenPath, contentType: "application/json", body: `{"client_id":`},
	)
	const aRead = "plain, a read"
	for _, c := range []struct {
		*result
		a, b *load
	}{
		{&result{ID: "hot", Name: "one hot token", A: "plain", Budget: 1.05}, one, one},
		{&result{ID: "list", Name: "list, pages of 20 like Meet's", A: "plain"}, pages, pages},
		{&result{ID: "list-50", Name: "list, page_size=50, assembled from three of Meet's pages", A: "plain, three pages of 20", Budget: 1.8, Times: 3}, pages, of(get(listPath + "?page_size=50"))},
		{&result{ID: "create", Name: "create a room", A: "plain"}, of(creation), of(creation)},
		{&result{ID: "token", Name: "token endpoint, exchange cached", A: aRead, Budget: 1}, one, of(b.tokenRequest(b.clients[0], string(mail(0))))},
		{&result{ID: "identity", Name: "/identity, live state from Redis", A: aRead, Budget: 1.5}, one, of(get("/identity"))},
		{&result{ID: "garbage", Name: "refusal of garbage", A: aRead, Budget: 1}, one, garbage},
	} {
		c.B = "gate"
		t := on(c.b, b.gate)
		if c.b == garbage {
			t.refused = func(s sent) bool { return s.Refused == s.Requests }
		}
		pairs := b.s.fewer()
		if c.Budget > 0 {
			pairs = b.s.Pairs
		}
		if err := b.compare(ctx, c.result, pairs, on(c.a, b.plain), t); err != nil {
			return err
		}
		if err := b.explain(ctx, c.result, t); err != nil {
			return err
		}
	}
	return nil
}

// variants measures the hot token with other configurations of both servers.
func (b *bench) variants(ctx context.Context) error {
	plain := "reverse_proxy " + b.upstream.address
	for _, c := range []struct {
		*result
		plain caddySite
		gate  gateOptions
		load  load
	}{
		{&result{ID: "hot-options", Name: "one hot token, a backend with options of `reverse_proxy`"}, caddySite{}, gateOptions{backend: "lb_policy first"}, load{}},
		{&result{ID: "log", Name: "one hot token, both with a JSON access log"}, caddySite{log: true}, gateOptions{log: true}, load{}},
		{&result{ID: "tls", Name: "one hot token, over TLS 1.3"}, caddySite{tls: true}, gateOptions{tls: true}, load{tls: true}},
		// Fewer connections, each with several requests at a time.
		{&result{ID: "http2", Name: "one hot token, over HTTP/2"}, caddySite{tls: true}, gateOptions{tls: true}, load{http2: true}},
	} {
		if !strings.Contains(c.ID, b.s.Filter) {
			continue
		}
		if _, err := exec.LookPath("h2load"); err != nil && c.load.http2 {
			b.report.Missing = append(b.report.Missing, "h2load is not installed: HTTP/2 was not measured")
			continue
		}
		l, err := b.oneToken(ctx)
		if err != nil {
			return err
		}
		l.tls, l.http2 = c.load.tls, c.load.http2
		c.A, c.B, c.plain.site = "plain", "gate", plain
		a, err := b.startCaddy(ctx, "plain-"+c.ID, c.plain)
		if err != nil {
			return err
		}
		gate, err := b.startGate(ctx, "gate-"+c.ID, c.gate)
		if err == nil {
			err = b.compare(ctx, c.result, b.s.fewer(), on(l, a), on(l, gate))
			gate.stop()
		}
		a.stop()
		if err != nil {
			return err
		}
	}
	return nil
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
	return b.explain(ctx, r, on(l, b.gate))
}

// everyNew returns loads of tokens that are new to the gateway, for users that are not.
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
	loads, err := b.everyNew(ctx, b.platform, b.gate, b.s.Pairs+1)
	if err != nil {
		return err
	}
	r := &result{ID: "new-hs256", Name: "every token new (verify and record look-up)", A: "plain", B: "gate", Budget: 1.35, Limited: true}
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

// tokenRequest returns a request for a token for a user.
func (b *bench) tokenRequest(c client, mail string) request {
	return request{
		method: http.MethodPost, path: tokenPath, contentType: "application/json",
		body: fmt.Sprintf(`{"client_id":%q,"client_secret":%q,"grant_type":"client_credentials","scope":%q}`, c.ID, c.secret, mail),
	}
}

func (b *bench) eddsa(ctx context.Context) error {
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
	r := &result{ID: "new-eddsa", Name: "every token new, signed with EdDSA", A: "plain", B: "gate", Limited: true}
	return b.compare(ctx, r, b.s.fewer(), &target{servers: []*server{b.plain}, loads: loads}, &target{servers: []*server{gate}, loads: loads})
}

func (b *bench) threeNodes(ctx context.Context) error {
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
	r := &result{ID: "three", Name: "three nodes, 1,000 tokens", A: "three plain", B: "three gateways"}
	if err := b.compare(ctx, r, b.s.fewer(), on(l, plains...), on(l, gates...)); err != nil {
		return err
	}
	b.report.Revocation, err = b.revocations(ctx, gates)
	return err
}

// revocations measures the time from the acknowledgement of a revocation until each node refuses
// the token.
func (b *bench) revocations(ctx context.Context, gates []*server) (revocation, error) {
	samples := 200
	if b.s.Quick {
		samples = 20
	}
	issued, err := b.platform.issue(ctx, samples, b.clients, samples)
	if err != nil {
		return revocation{}, err
	}
	var took []float64
	for _, t := range issued {
		for _, g := range gates {
			if code, err := ask(ctx, g.address, read(t.Value)); err != nil || code != http.StatusOK {
				return revocation{}, fmt.Errorf("before the revocation: status %d: %w", code, err)
			}
		}
		if err := b.platform.authority.RevokeToken(ctx, t.ID); err != nil {
			return revocation{}, fmt.Errorf("revoking: %w", err)
		}
		began := time.Now()
		for _, g := range gates {
			for {
				code, err := ask(ctx, g.address, read(t.Value))
				if err != nil {
					return revocation{}, err
				}
				if code == http.StatusUnauthorized {
					break
				}
				if time.Since(began) > 10*time.Second {
					return revocation{}, fmt.Errorf("%s still accepts a revoked token", g.name)
				}
			}
			took = append(took, float64(time.Since(began).Microseconds())/1000)
		}
	}
	slices.Sort(took)
	return revocation{Samples: len(took), P50: percentile(took, 0.5), P99: percentile(took, 0.99), Max: took[len(took)-1]}, nil
}

// revocation is the delay of revocations on other nodes, in milliseconds.
type revocation struct {
	Samples       int
	P50, P99, Max float64
}
