// SPDX-License-Identifier: MIT

package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// book records every answer to platforms and operators, and judges later answers by them.
type book struct {
	s    *campaign
	l    *ledger // faults and counts
	seed uint64

	stop    chan struct{}
	workers sync.WaitGroup
	serial  atomic.Int64

	mu       sync.Mutex
	parties  []*party
	held     []*held
	families []*familyHeld
	bulks    []*bulkRevocation
	troubles []*period
	wrong    []string
	kinds    map[string]int
	slowest  map[string]time.Duration
	stuck    bool
}

// period is a fault with its times.
type period struct {
	*trouble
	began, end time.Time
}

// party is a platform, with its application and the answers about it.
type party struct {
	name    string
	ID      string
	refresh bool
	created time.Time
	node    *gateway
	lost    time.Time // from when the application may be lost
	deleted time.Time // from when it must be deleted
	gone    bool      // found to be lost; no longer used
	phases  []phase
	secrets []*secretHeld
	busy    bool // an operator changes it
	history []string
}

// note records an action for reports.
func (p *party) note(format string, args ...any) {
	p.history = append(p.history, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	p.history = p.history[max(0, len(p.history)-8):]
}

type phase struct {
	began, acked time.Time
	active       bool
}

type secretHeld struct {
	value           string
	node            *gateway
	at              time.Time
	doubtful, ended time.Time
}

// held is an access token of a client.
type held struct {
	party           *party
	value, user     string
	node            *gateway
	sent, at        time.Time
	doubtful, ended time.Time
	why             string
	known           map[*gateway]time.Time
	used            int
}

// familyHeld is a refresh token.
type familyHeld struct {
	party           *party
	user            string
	token           string
	node            *gateway
	sent, at        time.Time
	first           time.Time // first use of the current token
	doubtful, ended time.Time
	why             string
	busy            bool
	tries           int
}

type bulkRevocation struct {
	what         string
	party        *party
	user         string
	before       time.Time
	began, acked time.Time
}

func (b *bulkRevocation) hits(p *party, user string, sent time.Time) bool {
	return (b.party == nil || b.party == p) && (b.user == "" || b.user == user) && (b.before.IsZero() || sent.Before(b.before.Add(time.Second)))
}

const users = 30

func newBook(s *campaign, seed uint64) *book {
	return &book{s: s, l: newLedger(s.c.staleness), seed: seed, stop: make(chan struct{}), kinds: map[string]int{}, slowest: map[string]time.Duration{}}
}

// lag is the age of the oldest write that a fault may lose.
const lag = time.Second

// trouble records a fault until over is called.
func (b *book) trouble(f *trouble) (over func()) {
	end := b.l.begin(f.name, f.node, f.excuses...)
	now := time.Now()
	b.mu.Lock()
	p := &period{trouble: f, began: now}
	b.troubles = append(b.troubles, p)
	if f.loses {
		b.doubtEverything(now, f.name)
	}
	if f.kills != nil || f.moves {
		b.forgotten(now)
	}
	b.mu.Unlock()
	return func() {
		end()
		b.mu.Lock()
		defer b.mu.Unlock()
		p.end = time.Now()
		if f.loses {
			b.doubtEverything(now, f.name)
		}
	}
}

// lasting reports whether a fault of a kind overlaps a time.
func (b *book) lasting(at time.Time, is func(*trouble) bool) bool {
	return slices.ContainsFunc(b.troubles, func(p *period) bool {
		return is(p.trouble) && !at.Before(p.began.Add(-lag)) && (p.end.IsZero() || at.Before(p.end))
	})
}

// settling reports whether a request for a missing record may get 503 after a fault.
func (b *book) settling(r request) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.troubles, func(p *period) bool {
		return (p.moves || p.loses) && !p.end.IsZero() && r.began.Sub(p.end) < b.s.c.staleness+time.Second
	})
}

func (b *book) doubtEverything(now time.Time, why string) {
	for _, k := range b.held {
		k.doubt(now, why)
	}
	for _, f := range b.families {
		f.doubt(now, why)
	}
	for _, p := range b.parties {
		if p.lost.IsZero() {
			p.lost = now
		}
		for _, s := range p.secrets {
			if s.doubtful.IsZero() {
				s.doubtful = now
			}
		}
	}
}

// forgotten doubts what only a killed gateway could restore, if there was a recent failover.
func (b *book) forgotten(now time.Time) {
	recent := func(p *period) bool { return p.end.IsZero() || now.Sub(p.end) < 5*time.Second }
	moved := slices.ContainsFunc(b.troubles, func(p *period) bool { return p.moves && recent(p) })
	if !moved {
		return
	}
	for _, p := range b.troubles {
		if p.kills == nil || !recent(p) {
			continue
		}
		for _, k := range b.held {
			if k.node == p.kills && now.Sub(k.at) < 65*time.Second {
				k.doubt(now, "its gateway was killed in a failover")
			}
		}
		for _, f := range b.families {
			if f.node == p.kills && now.Sub(f.at) < 65*time.Second {
				f.doubt(now, "its gateway was killed in a failover")
			}
		}
		for _, party := range b.parties {
			for _, s := range party.secrets {
				if s.node == p.kills && now.Sub(s.at) < 65*time.Second && s.doubtful.IsZero() {
					s.doubtful = now
				}
			}
		}
	}
}

func (k *held) doubt(now time.Time, why string) {
	if k.doubtful.IsZero() {
		k.doubtful, k.why = now, why
	}
}

func (k *held) end(now time.Time, why string) {
	k.doubt(now, why)
	if k.ended.IsZero() {
		k.ended, k.why = now, why
	}
}

func (f *familyHeld) doubt(now time.Time, why string) {
	if f.doubtful.IsZero() {
		f.doubtful, f.why = now, why
	}
}

func (f *familyHeld) end(now time.Time, why string) {
	f.doubt(now, why)
	if f.ended.IsZero() {
		f.ended, f.why = now, why
	}
}

// activity reports whether the application may have been active, and whether it may have been
// inactive, between two times.
func (p *party) activity(from, to time.Time) (active, inactive bool) {
	at := phase{active: true}
	for _, h := range p.phases {
		if !h.acked.IsZero() && !h.acked.After(from) {
			at = h
		}
	}
	note := func(a bool) { active, inactive = active || a, inactive || !a }
	note(at.active)
	for _, h := range p.phases {
		if !h.began.After(to) && (h.acked.IsZero() || h.acked.After(from)) {
			note(h.active)
		}
	}
	return active, inactive
}

func (b *book) broken() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stuck
}

func (b *book) recovery(what string, took time.Duration, ok bool) {
	b.mu.Lock()
	b.slowest[what] = max(b.slowest[what], took)
	b.mu.Unlock()
	if !ok {
		b.violate(request{}, "NOT RECOVERED", "%s: not within %s", what, took)
		b.mu.Lock()
		b.stuck = true
		b.mu.Unlock()
	}
}

// violate records a wrong answer.
func (b *book) violate(r request, kind, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var around []string
	now := time.Now()
	for _, p := range b.troubles {
		if p.end.IsZero() {
			around = append(around, fmt.Sprintf("%s (since %s)", p.name, now.Sub(p.began).Round(10*time.Millisecond)))
		} else if now.Sub(p.end) < 15*time.Second {
			around = append(around, fmt.Sprintf("%s (over %s ago)", p.name, now.Sub(p.end).Round(10*time.Millisecond)))
		}
	}
	text := fmt.Sprintf("%s %s: ", now.Format("15:04:05.000"), kind)
	if r.node != nil {
		text += fmt.Sprintf("%s %s [%s] took %s: ", r.node.name, r.what, r.id, r.ended.Sub(r.began).Round(time.Millisecond))
	}
	text += fmt.Sprintf(format, args...)
	if r.answer != nil {
		text += fmt.Sprintf(" => %d %.160s", r.answer.Status, r.answer.Body)
	}
	text += " [" + strings.Join(around, ", ") + "]"
	if r.party != nil {
		text += " {" + r.party.ID + ": " + strings.Join(r.party.history, "; ") + "}"
	}
	b.kinds[kind]++
	b.wrong = append(b.wrong, text)
	if name := os.Getenv(campaignWrong); name != "" {
		if f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			fmt.Fprintf(f, "seed %d: %s\n", b.seed, text)
			if r.node != nil && r.id != "" {
				if out, err := os.ReadFile(r.node.outputFile()); err == nil {
					for line := range strings.Lines(string(out)) {
						if strings.Contains(line, r.id) {
							fmt.Fprintf(f, "    %s", line)
						}
					}
				}
			}
			f.Close()
		}
	}
}

// send makes a request and repeats it after a broken connection.
func (b *book) send(g *gateway, what, method, target, body string, headers ...string) request {
	r := request{node: g, what: what, id: fmt.Sprintf("q%d-%d", os.Getpid(), b.serial.Add(1))}
	headers = append(headers, "X-Request-Id", r.id)
	r.began = time.Now()
	for try := range 4 {
		sent := time.Now()
		r.answer, r.err = g.try(method, target, body, headers...)
		if r.err == nil {
			if try > 0 {
				r.began = sent
			}
			break
		}
		b.l.count("connections broken")
		r.resent = true
	}
	r.ended = time.Now()
	if took := r.ended.Sub(r.began); took > 15*time.Second {
		b.l.count("answered after more than 15 s")
	}
	return r
}

// common judges missing answers and server errors. It reports whether there is another answer to
// judge.
func (b *book) common(r request) bool {
	if r.answer == nil {
		if !b.l.excused(r.node, gatewayUnavailable, r.began, r.ended) {
			b.violate(r, "NO ANSWER", "%v", r.err)
		}
		return false
	}
	switch status := r.answer.Status; status {
	case http.StatusServiceUnavailable:
		if r.answer.Header.Get("Retry-After") == "" {
			b.violate(r, "NO RETRY-AFTER", "")
		}
		if !b.l.excused(r.node, storeUnavailable, r.began, r.ended) {
			if b.settling(r) {
				b.l.count("503 settling: " + r.what)
			} else {
				b.violate(r, "503 WITHOUT A FAULT", "")
			}
		} else {
			b.l.count("503 in a fault: " + r.what)
		}
		return false
	case http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusInternalServerError, http.StatusTooManyRequests:
		b.violate(r, fmt.Sprint("STATUS ", status), "")
		return false
	}
	return true
}

// judgeToken judges an answer about an access token. ok means that it was accepted, no that it was
// refused.
func (b *book) judgeToken(r request, k *held, ok, no bool) {
	b.mu.Lock()
	doubtful, ended, why := k.doubtful, k.ended, k.why
	lost, deleted := k.party.lost, k.party.deleted
	active, inactive := k.party.activity(r.began.Add(-b.s.c.staleness), r.ended)
	if ok {
		k.known[r.node] = time.Now()
	}
	used := k.used
	k.used++
	b.mu.Unlock()
	r.party = k.party
	history := fmt.Sprintf("issued by %s %s ago, use %d, user %s of %s, %s", k.node.name, time.Since(k.at).Round(10*time.Millisecond), used, k.user, k.party.name, why)
	switch {
	case ok:
		bound := b.s.c.staleness
		switch {
		case !ended.IsZero() && r.began.Sub(ended) > bound:
			b.violate(r, "REVOKED TOKEN ACCEPTED", "%s after its revocation; %s", r.began.Sub(ended), history)
		case !deleted.IsZero() && r.began.Sub(deleted) > bound:
			b.violate(r, "TOKEN OF A DELETED APPLICATION ACCEPTED", "%s after the application was deleted; %s", r.began.Sub(deleted), history)
		case !active && lost.IsZero():
			b.violate(r, "TOKEN OF A DISABLED APPLICATION ACCEPTED", "%s", history)
		default:
			b.l.count("token accepted")
		}
	case no:
		if (doubtful.IsZero() || doubtful.After(r.ended)) && (lost.IsZero() || lost.After(r.ended)) && deleted.IsZero() && !inactive {
			b.violate(r, "401 FOR A VALID TOKEN", "%s", history)
		} else {
			b.l.count("token refused")
		}
	default:
		b.violate(r, "STRANGE", "%s", history)
	}
}

// serves reports whether a gateway serves all requests for a new application.
func (b *book) serves(g *gateway) bool {
	a, err := g.try(http.MethodPost, g.admin+"/meet-gateway/applications",
		`{"name":"probe","scopes":["rooms:list"],"domains":["*"],"refresh":true}`, "Content-Type", "application/json")
	if err != nil || a.Status != http.StatusCreated {
		return false
	}
	var app application
	_ = json.Unmarshal([]byte(a.Body), &app)
	a, err = app.mint(g, fmt.Sprintf("probe-%d@example.org", b.serial.Add(1)))
	if err != nil || a.Status != http.StatusOK {
		return false
	}
	token, pair := between(a.Body, `"access_token":"`, `"`), between(a.Body, `"refresh_token":"`, `"`)
	for _, other := range b.s.c.nodes {
		for _, path := range []string{roomsPath, identityPath} {
			if a, err := other.try(http.MethodGet, path, "", "Authorization", gatewaytest.Bearer(token)); err != nil || a.Status != http.StatusOK {
				return false
			}
		}
	}
	if a, err = app.refresh(g, pair); err != nil || a.Status != http.StatusOK {
		return false
	}
	if a, err = app.revoke(g, token); err != nil || a.Status != http.StatusOK {
		return false
	}
	a, err = g.try(http.MethodDelete, g.admin+"/meet-gateway/applications/"+app.ID, "")
	return err == nil && a.Status == http.StatusNoContent
}

// audit uses every access token on every gateway without a fault.
func (b *book) audit() {
	b.mu.Lock()
	all := slices.Clone(b.held)
	b.mu.Unlock()
	var each sync.WaitGroup
	for _, g := range b.s.c.nodes {
		each.Go(func() {
			for _, k := range all {
				r := b.send(g, "audit", http.MethodGet, roomsPath, "", "Authorization", gatewaytest.Bearer(k.value))
				if b.common(r) {
					b.judgeToken(r, k, r.answer.Status == 200, r.answer.Status == 401)
				}
			}
		})
	}
	each.Wait()
}

func (b *book) report(t testing.TB) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(b.l.counts)) {
		t.Logf("%6d %s", b.l.counts[what], what)
	}
	for _, what := range slices.Sorted(maps.Keys(b.slowest)) {
		if b.slowest[what] > 8*time.Second {
			t.Logf("recovery took %s: %s", b.slowest[what].Round(10*time.Millisecond), what)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(b.kinds)) {
		t.Errorf("%d × %s", b.kinds[kind], kind)
	}
	seen := map[string]int{}
	for _, w := range b.wrong {
		kind, _, _ := strings.Cut(w[13:], ":")
		if seen[kind]++; seen[kind] <= 6 {
			t.Error(w)
		}
	}
}
