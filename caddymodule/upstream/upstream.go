// SPDX-License-Identifier: MIT

// Package upstream sends requests to Meet through a Caddy handler, or only its
// transport if the handler has nothing to do.
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

// Upstream sends backendclient's requests to Meet through a Caddy handler, usually
// reverse_proxy, as if a client had sent them. The upstream is thus configured once,
// and its load balancing, health checks and TLS apply to exchanges and rooms.
//
// Each request has its own context, replacer and variables, since requests of one
// client run concurrently and handlers modify all three.
type Upstream struct {
	handler caddyhttp.MiddlewareHandler
	// direct is nil unless the handler is a bare reverse_proxy.
	direct *directTransport
	// server is used for requests that belong to no client's request.
	server *caddyhttp.Server
}

// New returns an Upstream for a provisioned handler and its JSON configuration.
func New(handler caddyhttp.MiddlewareHandler, config json.RawMessage, logger *zap.Logger) *Upstream {
	u := &Upstream{handler: handler, server: new(caddyhttp.Server)}
	u.direct = newDirectTransport(config, handler, logger)
	return u
}

// Handler returns the handler.
func (u *Upstream) Handler() caddyhttp.MiddlewareHandler { return u.handler }

// Context returns a context for a request to RoundTrip. Without it RoundTrip has to
// copy the request.
func (u *Upstream) Context(ctx context.Context) context.Context { return u.newContext(ctx) }

// RoundTrip implements http.RoundTripper. It follows no redirects and does not retry.
// Errors are *backendclient.TransportError and errors of the context. The body of a
// response that breaks off ends in an error.
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

// send runs the handler and records its response.
func (u *Upstream) send(req *http.Request, reqCtx *requestContext) (*http.Response, error) {
	rec := recorders.Get().(*recorder)
	rec.reset()
	reqCtx.take(req, rec)
	err := u.serve(rec, req)

	ctxErr := req.Context().Err()
	const clientClosed = 499 // what reverse_proxy records when its context is cancelled
	switch {
	case err != nil && rec.status != 0 && ctxErr == nil:
		// As with any transport, a response that breaks off ends in an error.
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

// serve runs the handler. It recovers http.ErrAbortHandler, with which handlers break
// off an answer and which would end the process here.
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

// noNext is the next handler, which answers nothing.
var noNext = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

// transportError classifies a handler's error for backendclient.
func transportError(err error, reqCtx *requestContext) error {
	te := &backendclient.TransportError{Status: http.StatusBadGateway, Err: err}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		te.Status = he.StatusCode
		if he.Err != nil {
			te.Err = he.Err // without the position in Caddy's source
		}
	}
	if _, ok := errors.AsType[reverseproxy.DialError](err); ok {
		te.NotSent = true
	}
	// 503 means that no upstream was available, unless lb_retry_match discarded an
	// answer.
	reqCtx.prepareVars()
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
