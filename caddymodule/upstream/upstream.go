// SPDX-License-Identifier: MIT

// Package upstream carries requests to Meet through a handler of Caddy's, or through its
// transport alone where the handler has nothing to decide.
package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/backendclient"
)

// Upstream sends backendclient's requests to Meet through a handler of Caddy's,
// usually reverse_proxy, as if a client had sent them. So the operator names the
// upstream once, and load balancing, health checks and TLS hold for exchanges and
// rooms alike.
//
// Each request has a context, a replacer and variables of its own: requests for one
// client run at the same time, and handlers write to all three.
type Upstream struct {
	handler caddyhttp.MiddlewareHandler
	// direct is nil unless the handler is a reverse_proxy with nothing to decide.
	direct *directTransport
	// server stands in for requests that belong to no client's request.
	server *caddyhttp.Server
}

// New makes an Upstream of a provisioned handler and its configuration in JSON.
func New(handler caddyhttp.MiddlewareHandler, config json.RawMessage, logger *zap.Logger) *Upstream {
	u := &Upstream{handler: handler, server: new(caddyhttp.Server)}
	u.direct = newDirectTransport(config, handler, logger)
	return u
}

// Handler is the handler that carries the requests.
func (u *Upstream) Handler() caddyhttp.MiddlewareHandler { return u.handler }

// Context makes the context that a request of RoundTrip should have. RoundTrip makes
// one itself for a request that has another; that costs a copy of the request.
func (u *Upstream) Context(ctx context.Context) context.Context { return u.newContext(ctx) }

// RoundTrip implements http.RoundTripper. It never follows a redirect and never
// retries. A failure without a response is a *backendclient.TransportError or the
// context's own error; a response that breaks off has a body that ends in an error.
func (u *Upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	reqCtx, ok := req.Context().(*requestContext)
	if !ok {
		reqCtx = u.newContext(req.Context())
		req = req.WithContext(reqCtx)
	}
	if u.direct != nil {
		return u.direct.send(req, reqCtx)
	}
	return u.send(req, reqCtx)
}

// send calls the handler and records its response.
func (u *Upstream) send(req *http.Request, reqCtx *requestContext) (*http.Response, error) {
	rec := recorders.Get().(*recorder)
	rec.reset()
	reqCtx.take(req, rec)
	err := u.serve(rec, req)

	ctxErr := req.Context().Err()
	const clientClosed = 499 // what reverse_proxy records when its context is cancelled
	switch {
	case err != nil && rec.status != 0 && ctxErr == nil:
		// As with any transport: the response began, and reading it ends in an error.
		rec.err = err
		return rec.response(req), nil
	case err == nil && rec.status != 0 && (ctxErr == nil || rec.status != clientClosed):
		return rec.response(req), nil
	case ctxErr != nil:
		err = ctxErr
	case err == nil:
		err = &backendclient.TransportError{Status: http.StatusBadGateway, Err: errNoAnswer}
	default:
		err = transportError(err, reqCtx)
	}
	rec.release()
	return nil, err
}

var errNoAnswer = errors.New("the backend handler gave no answer")

// serve calls the handler. A handler that breaks off its answer panics with
// http.ErrAbortHandler, as net/http wants it; here it would end the process.
func (u *Upstream) serve(rec *recorder, r *http.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the backend's answer broke off: %w", panicError(p, rec))
		}
	}()
	return u.handler.ServeHTTP(rec, r, noNext)
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

// noNext is what comes after the handler: nothing, so no answer.
var noNext = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

// transportError tells backendclient what a handler's error means.
func transportError(err error, reqCtx *requestContext) error {
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
	reqCtx.furnish()
	if _, answered := reqCtx.repl.Get("http.reverse_proxy.status_code"); answered && te.Status == http.StatusServiceUnavailable {
		te.Status = http.StatusBadGateway
	}
	if te.Status != http.StatusServiceUnavailable && te.Status != http.StatusGatewayTimeout {
		te.Status = http.StatusBadGateway
	}
	return te
}

// Interface guards
var _ http.RoundTripper = (*Upstream)(nil)
