// SPDX-License-Identifier: MIT

package sandbox

import (
	"cmp"
	"net/http"
	"slices"
	"sync"
)

// maxRecordedBody bounds what the recorder keeps of one body.
const maxRecordedBody = 64 << 10

// Request is a request that the sandbox received.
type Request struct {
	Method string
	// Target is the request target as sent: path and query.
	Target string
	// Path is the path, unescaped; Query the query as sent.
	Path, Query string
	Host        string
	Header      http.Header
	// ContentLength is -1 for a body without a length, which Meet ignores.
	ContentLength int64
	// Body is at most 64 KiB of the body.
	Body []byte
}

// recorder keeps the last requests.
type recorder struct {
	mu       sync.Mutex
	limit    int
	requests []Request
	oldest   int // where the next goes once the limit is reached
}

func newRecorder(limit int) *recorder { return &recorder{limit: limit} }

func (rec *recorder) record(r *http.Request, body []byte) {
	if rec.limit <= 0 {
		return
	}
	q := Request{
		Method:        r.Method,
		Target:        cmp.Or(r.RequestURI, r.URL.RequestURI()),
		Path:          r.URL.Path,
		Query:         r.URL.RawQuery,
		Host:          r.Host,
		Header:        r.Header.Clone(),
		ContentLength: r.ContentLength,
		Body:          slices.Clone(body[:min(len(body), maxRecordedBody)]),
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.requests) < rec.limit {
		rec.requests = append(rec.requests, q)
		return
	}
	rec.requests[rec.oldest] = q
	rec.oldest = (rec.oldest + 1) % rec.limit
}

// Requests returns the last requests, oldest first, including refused ones. They contain
// credentials.
func (m *Meet) Requests() []Request {
	m.recorder.mu.Lock()
	defer m.recorder.mu.Unlock()
	return slices.Concat(m.recorder.requests[m.recorder.oldest:], m.recorder.requests[:m.recorder.oldest])
}

// ForgetRequests empties the recorder and sets the count of exchanges to zero.
func (m *Meet) ForgetRequests() {
	m.recorder.mu.Lock()
	defer m.recorder.mu.Unlock()
	m.recorder.requests, m.recorder.oldest = nil, 0
	m.exchanges.Store(0)
}
