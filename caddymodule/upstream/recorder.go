// SPDX-License-Identifier: MIT

package upstream

import (
	"bytes"
	"errors"
	"net/http"
	"sync"
)

// maxRecorded is the maximum size of a response in memory. backendclient reads less;
// this stops endless responses.
const maxRecorded = 8 << 20

// maxPooled is the maximum size of a buffer to reuse.
const maxPooled = 64 << 10

var errTooLarge = errors.New("the answer is too large")

// recorder is the ResponseWriter of the handler. It is reused once the response's body
// is closed.
type recorder struct {
	header   http.Header
	status   int
	body     bytes.Buffer
	overflow bool
	err      error // returned at the end of the body
}

var recorders = sync.Pool{New: func() any { return &recorder{header: make(http.Header)} }}

func (rec *recorder) reset() {
	rec.status = 0
	rec.overflow = false
	rec.err = nil
	rec.body.Reset()
}

func (rec *recorder) release() {
	clear(rec.header)
	if rec.body.Cap() <= maxPooled {
		recorders.Put(rec)
	}
}

// Header implements http.ResponseWriter.
func (rec *recorder) Header() http.Header { return rec.header }

// WriteHeader implements http.ResponseWriter. It drops informational responses.
func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		rec.status = status
	}
}

// Write implements http.ResponseWriter.
func (rec *recorder) Write(p []byte) (int, error) {
	rec.WriteHeader(http.StatusOK)
	if rec.body.Len()+len(p) > maxRecorded {
		rec.overflow = true
		return 0, errTooLarge
	}
	return rec.body.Write(p)
}

// Flush implements http.Flusher. The response is buffered nevertheless.
func (rec *recorder) Flush() { rec.WriteHeader(http.StatusOK) }

func (rec *recorder) response(req *http.Request) *http.Response {
	a := &recordedAnswer{body: recordedBody{rec: rec}}
	a.response = http.Response{
		StatusCode:    rec.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        rec.header,
		ContentLength: int64(rec.body.Len()),
		Body:          &a.body,
		Request:       req,
	}
	if rec.err != nil {
		a.response.ContentLength = -1
	}
	return &a.response
}

// recordedAnswer is a response with its body, in one allocation.
type recordedAnswer struct {
	response http.Response
	body     recordedBody
}

// recordedBody reads the recorder's body. Close releases the recorder.
type recordedBody struct{ rec *recorder }

func (b *recordedBody) Read(p []byte) (int, error) {
	if b.rec == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.rec.body.Read(p)
	if err != nil && b.rec.err != nil {
		err = b.rec.err
	}
	return n, err
}

func (b *recordedBody) Close() error {
	if b.rec != nil {
		b.rec.release()
		b.rec = nil
	}
	return nil
}

// Interface guards
var (
	_ http.ResponseWriter = (*recorder)(nil)
	_ http.Flusher        = (*recorder)(nil)
)
