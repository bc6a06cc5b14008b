// SPDX-License-Identifier: MIT

package upstream

import (
	"bytes"
	"errors"
	"net/http"
	"sync"
)

// maxRecorded bounds a response of the handler that is held in memory.
// backendclient reads less; this is what stops an endless answer.
const maxRecorded = 8 << 20

// maxPooled is the largest buffer that is kept for the next answer.
const maxPooled = 64 << 10

var errTooLarge = errors.New("the answer is too large")

// recorder is the ResponseWriter of a handler. Its buffer and its header map
// serve the next one as soon as the answer's body is closed.
type recorder struct {
	header   http.Header
	status   int
	body     bytes.Buffer
	overflow bool
	err      error // in place of the end of the body
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

// WriteHeader implements http.ResponseWriter. Informational answers are dropped.
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

// Flush implements http.Flusher; everything is held until the end.
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

// recordedAnswer is a response and its body in one piece.
type recordedAnswer struct {
	response http.Response
	body     recordedBody
}

// recordedBody reads a recorder's body and gives the recorder back when closed.
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
