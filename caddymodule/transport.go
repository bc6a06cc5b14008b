// SPDX-License-Identifier: MIT

package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/meet-gateway/meet-gateway/backendclient"
)

// maxRecorded bounds the answer of the guest handler that is held in memory.
// backendclient reads less; this is what stops an endless answer.
const maxRecorded = 8 << 20

// maxPooled is the largest buffer that is kept for the next answer.
const maxPooled = 64 << 10

// guestTransport carries backendclient's requests to Meet by calling the guest
// handler (usually reverse_proxy) as if they had come from a client. So the
// operator names the upstream once, and load balancing, health checks and TLS
// apply to exchanges and rooms alike.
//
// Each call gets a request context, replacer and variables of its own: calls for
// one client run at the same time, and handlers write to all three.
type guestTransport struct {
	handler caddyhttp.MiddlewareHandler
	// server stands in where a call is made outside of any client's request.
	server *caddyhttp.Server
}

func newGuestTransport(handler caddyhttp.MiddlewareHandler) *guestTransport {
	return &guestTransport{handler: handler, server: new(caddyhttp.Server)}
}

// context makes the context of a request: that of a guest's.
func (t *guestTransport) context(ctx context.Context) context.Context { return t.newGuest(ctx) }

// RoundTrip calls the guest handler and records its answer. It never follows a
// redirect and never retries. A handler that fails without an answer makes a
// *backendclient.TransportError; one that fails in the middle of its answer makes
// a body that ends in an error.
func (t *guestTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	rec := recorders.Get().(*recorder)
	rec.reset()
	guest, ok := req.Context().(*guestRequest)
	if !ok {
		guest = t.newGuest(req.Context())
		req = req.WithContext(guest)
	}
	guest.take(req, rec)
	err := t.serve(rec, req)

	ctxErr := req.Context().Err()
	const clientClosed = 499 // what reverse_proxy records when its context is cancelled
	switch {
	case err != nil && rec.status != 0 && ctxErr == nil:
		// As with any transport: the answer began, and reading it ends in an error.
		rec.err = err
		return rec.response(req), nil
	case err == nil && rec.status != 0 && (ctxErr == nil || rec.status != clientClosed):
		return rec.response(req), nil
	case ctxErr != nil:
		err = ctxErr
	case err == nil:
		err = &backendclient.TransportError{Status: http.StatusBadGateway, Err: errNoAnswer}
	default:
		err = transportError(err, guest)
	}
	rec.release()
	return nil, err
}

var (
	errNoAnswer = errors.New("the backend handler gave no answer")
	errTooLarge = errors.New("the answer is too large")
)

// serve calls the guest. A handler that breaks off its answer panics with
// http.ErrAbortHandler, as net/http wants it; here nobody else would catch it.
func (t *guestTransport) serve(rec *recorder, r *http.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the backend's answer broke off: %w", panicError(p, rec))
		}
	}()
	return t.handler.ServeHTTP(rec, r, noNext)
}

func panicError(p any, rec *recorder) error {
	if rec.overflow {
		return errTooLarge
	}
	if err, ok := p.(error); ok {
		return err
	}
	return fmt.Errorf("panic: %v", p)
}

// noNext is what comes after the guest handler: nothing, so no answer.
var noNext = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

// transportError tells backendclient what a handler's error means.
func transportError(err error, guest *guestRequest) error {
	te := &backendclient.TransportError{Status: http.StatusBadGateway, Err: err}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		te.Status = he.StatusCode
		if he.Err != nil {
			te.Err = he.Err // without the place in Caddy's source
		}
	}
	if _, ok := errors.AsType[reverseproxy.DialError](err); ok {
		te.NotSent = true
	}
	// 503 means that there was no upstream to send to, unless one had answered
	// and an lb_retry_match gave its answer up.
	guest.furnish()
	if _, answered := guest.repl.Get("http.reverse_proxy.status_code"); answered && te.Status == http.StatusServiceUnavailable {
		te.Status = http.StatusBadGateway
	}
	if te.Status != http.StatusServiceUnavailable && te.Status != http.StatusGatewayTimeout {
		te.Status = http.StatusBadGateway
	}
	return te
}

// recorder is the ResponseWriter of a guest handler. Its buffer and its header map
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
	_ http.RoundTripper   = (*guestTransport)(nil)
	_ http.ResponseWriter = (*recorder)(nil)
	_ http.Flusher        = (*recorder)(nil)
)
