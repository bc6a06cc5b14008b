// SPDX-License-Identifier: MIT

package cluster

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// ledger records tokens and faults, and judges answers. Four kinds of answers are wrong: a revoked
// token accepted after the bound, a valid token refused with 401, an error that no fault excuses,
// and a 503 without Retry-After.
type ledger struct {
	bound time.Duration

	mu         sync.Mutex
	faults     []*fault
	tokens     []*issued
	counts     map[string]int
	violations []string
}

// issued is a token of a client.
type issued struct {
	app   application
	value string
	// kept means that a test needs the token, so the load does not revoke it.
	kept bool

	mu sync.Mutex
	// doubtful is the time from which the token may be refused, because its revocation began or
	// Redis lost it; zero if neither.
	doubtful time.Time
	// ended is the time from which it must be refused, because its revocation was acknowledged.
	ended time.Time
}

// doubt records that the token may be refused from now on.
func (k *issued) doubt() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.doubtful.IsZero() {
		k.doubtful = time.Now()
	}
}

// end records that the token must be refused from now on.
func (k *issued) end() {
	k.doubt()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended.IsZero() {
		k.ended = time.Now()
	}
}

func (k *issued) state() (doubtful, ended time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.doubtful, k.ended
}

// fault is a period with a fault.
type fault struct {
	name string
	// excuses are its permitted effects on answers.
	excuses []excuse
	// node is the only affected gateway; nil means all.
	node       *gateway
	began, end time.Time // end is zero while it lasts
}

// excuse is a permitted effect of a fault on an answer.
type excuse string

const (
	storeUnavailable   excuse = "store unavailable"   // 503
	meetUnavailable    excuse = "meet unavailable"    // 502, 503, 504
	gatewayUnavailable excuse = "gateway unavailable" // no answer
)

func newLedger(bound time.Duration) *ledger {
	return &ledger{bound: bound, counts: map[string]int{}}
}

// begin records a fault. It excuses answers until over is called, after the gateways have
// recovered.
func (l *ledger) begin(name string, node *gateway, excuses ...excuse) (over func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &fault{name: name, excuses: excuses, node: node, began: time.Now()}
	l.faults = append(l.faults, f)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		f.end = time.Now()
	}
}

// excused reports whether a fault overlapped the time of a request.
func (l *ledger) excused(g *gateway, e excuse, began, ended time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.faults, func(f *fault) bool {
		return (f.node == nil || f.node == g) && slices.Contains(f.excuses, e) &&
			f.began.Before(ended) && (f.end.IsZero() || f.end.After(began))
	})
}

// remembered is the number of tokens that a ledger keeps. It drops the oldest revoked ones first.
const remembered = 200

// add records a token.
func (l *ledger) add(k *issued) *issued {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = append(l.tokens, k)
	if excess := len(l.tokens) - remembered; excess > 0 {
		l.tokens = slices.DeleteFunc(l.tokens, func(k *issued) bool {
			_, ended := k.state()
			excess--
			return excess >= 0 && !ended.IsZero() && !k.kept
		})
	}
	return k
}

// all returns the recorded tokens.
func (l *ledger) all() []*issued {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.tokens)
}

func (l *ledger) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[what]++
}

func (l *ledger) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := 0
	for _, n := range l.counts {
		sum += n
	}
	return sum
}

func (l *ledger) violation(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lasting []string
	for _, f := range l.faults {
		if f.end.IsZero() {
			lasting = append(lasting, f.name)
		}
	}
	text := fmt.Sprintf(format, args...) + " [" + strings.Join(lasting, ", ") + "]"
	l.counts["WRONG"]++
	l.violations = append(l.violations, time.Now().Format("15:04:05.000 ")+text)
}

// request is one exchange with a gateway.
type request struct {
	node         *gateway
	what         string
	began, ended time.Time
	answer       *gatewaytest.Answer // nil if there was none
	err          error
	id           string // X-Request-Id, if it has one
	resent       bool   // after a connection broke
	party        *party // the subject, for reports
}

// judge classifies an answer and reports whether it was a success. k is the token of the request,
// nil if it had the credentials of an application.
func (l *ledger) judge(r request, k *issued) bool {
	if r.answer == nil {
		if !l.excused(r.node, gatewayUnavailable, r.began, r.ended) {
			l.violation("%s: %s was not answered: %v", r.node.name, r.what, r.err)
		} else {
			l.count("no answer from an unavailable gateway")
		}
		return false
	}
	switch status := r.answer.Status; status {
	case http.StatusOK, http.StatusCreated:
		l.success(r, k)
		return true
	case http.StatusUnauthorized:
		l.refusal(r, k)
	case http.StatusServiceUnavailable:
		if r.answer.Header.Get("Retry-After") == "" {
			l.violation("%s: %s: 503 without Retry-After", r.node.name, r.what)
		}
		fallthrough
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		if l.excused(r.node, meetUnavailable, r.began, r.ended) ||
			status == http.StatusServiceUnavailable && l.excused(r.node, storeUnavailable, r.began, r.ended) {
			l.count(fmt.Sprintf("refused with %d in a fault", status))
		} else if status == http.StatusServiceUnavailable && r.what == "creation" && l.excused(r.node, storeUnavailable, r.began.Add(-l.bound-time.Second), r.ended) {
			// Another gateway may still replay an Idempotency-Key.
			l.count("creations refused until the journals are replayed")
		} else {
			l.violation("%s: %s: %d without a fault: %s", r.node.name, r.what, status, r.answer.Body)
		}
	default:
		l.violation("%s: %s: %d: %s", r.node.name, r.what, status, r.answer.Body)
	}
	return false
}

func (l *ledger) success(r request, k *issued) {
	if k == nil {
		l.count("served an application")
		return
	}
	_, ended := k.state()
	switch {
	case ended.IsZero():
		l.count("accepted a valid token")
	case r.began.Sub(ended) > l.bound:
		l.violation("%s: %s: a token was accepted %s after its revocation was acknowledged", r.node.name, r.what, r.began.Sub(ended))
	default:
		l.count("accepted a revoked token within the bound")
	}
}

func (l *ledger) refusal(r request, k *issued) {
	if k == nil {
		l.violation("%s: %s: 401 for right credentials: %s", r.node.name, r.what, r.answer.Body)
		return
	}
	if doubtful, _ := k.state(); doubtful.IsZero() || doubtful.After(r.ended) {
		l.violation("%s: %s: 401 for a valid token: %s", r.node.name, r.what, r.answer.Body)
		return
	}
	l.count("refused a revoked token")
}

// report logs the counts and fails the test for every wrong answer.
func (l *ledger) report(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(l.counts)) {
		t.Logf("%6d %s", l.counts[what], what)
	}
	for i, v := range l.violations {
		if i == 20 {
			t.Errorf("and %d more", len(l.violations)-i)
			break
		}
		t.Error(v)
	}
}
