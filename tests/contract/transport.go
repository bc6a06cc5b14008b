// SPDX-License-Identifier: MIT

package contract

import (
	"bytes"
	"io"
	"net/http"
)

// Transport sends requests and judges every exchange. It reads a response completely before it
// returns it.
type Transport struct {
	// Next sends the requests. Default: http.DefaultTransport.
	Next http.RoundTripper
	// Judge returns the judge of a request, or nil if the request is not to be judged.
	Judge func(*http.Request) *Judge
	// Report is called with each violation.
	Report func(error)
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	judge := t.Judge(r)
	if judge == nil {
		return t.next().RoundTrip(r)
	}
	e := Exchange{Method: r.Method, Target: r.URL.RequestURI(), RequestHeader: r.Header.Clone()}
	if e.RequestBody, e.Streamed = bodyOf(r); e.RequestHeader == nil {
		e.RequestHeader = http.Header{}
	}
	res, err := t.next().RoundTrip(r)
	return t.finish(judge, e, res, err)
}

// CloseIdleConnections closes the idle connections of Next. http.Client calls it.
func (t *Transport) CloseIdleConnections() {
	if next, ok := t.next().(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

func (t *Transport) next() http.RoundTripper {
	if t.Next == nil {
		return http.DefaultTransport
	}
	return t.Next
}

// bodyOf copies the body of a request that has it in memory. It does not read other bodies, because
// tests may depend on when they are sent.
func bodyOf(r *http.Request) (body []byte, streamed bool) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, false
	}
	if r.GetBody == nil {
		return nil, true
	}
	reader, err := r.GetBody()
	if err != nil {
		return nil, true
	}
	body, err = io.ReadAll(reader)
	return body, err != nil
}

func (t *Transport) finish(judge *Judge, e Exchange, res *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
		return res, nil // the caller gets the error from Read
	}
	e.Status, e.Header, e.Body = res.StatusCode, res.Header, body
	for _, violation := range judge.Violations(e) {
		t.Report(violation)
	}
	return res, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
