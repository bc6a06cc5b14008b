// SPDX-License-Identifier: MIT

package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/meet-gateway/meet-gateway/backendclient"
)

// directTransport sends requests through the transport of a reverse_proxy, without its
// handler. That is possible if the handler has one upstream and no health checks,
// retries or changes of headers or answers. Its bookkeeping would cost more than the
// whole gateway: two copies of the request, some twenty placeholders, and a line for
// the debug log even if that is off. See docs/decisions.md.
//
// Meet receives the same request either way.
type directTransport struct {
	transport http.RoundTripper
	// address is the upstream's host and port.
	address string
	logger  *zap.Logger
}

// bareProxy is a reverse_proxy that configures only its upstream and transport. Any
// other field, also of a later Caddy, may need the handler.
type bareProxy struct {
	Handler   string         `json:"handler"`
	Upstreams []bareUpstream `json:"upstreams"`
	Transport struct {
		Protocol string `json:"protocol"`

		Resolver              json.RawMessage `json:"resolver"`
		TLS                   json.RawMessage `json:"tls"`
		KeepAlive             json.RawMessage `json:"keep_alive"`
		Compression           json.RawMessage `json:"compression"`
		MaxConnsPerHost       json.RawMessage `json:"max_conns_per_host"`
		DialTimeout           json.RawMessage `json:"dial_timeout"`
		FallbackDelay         json.RawMessage `json:"dial_fallback_delay"`
		ResponseHeaderTimeout json.RawMessage `json:"response_header_timeout"`
		ExpectContinueTimeout json.RawMessage `json:"expect_continue_timeout"`
		MaxResponseHeaderSize json.RawMessage `json:"max_response_header_size"`
		WriteBufferSize       json.RawMessage `json:"write_buffer_size"`
		ReadBufferSize        json.RawMessage `json:"read_buffer_size"`
		ReadTimeout           json.RawMessage `json:"read_timeout"`
		WriteTimeout          json.RawMessage `json:"write_timeout"`
		Versions              json.RawMessage `json:"versions"`
		LocalAddress          json.RawMessage `json:"local_address"`
	} `json:"transport"`
}

type bareUpstream struct {
	Dial string `json:"dial"`
}

// bareAddress returns the upstream's host and port if raw configures a bare
// reverse_proxy, and otherwise "".
func bareAddress(raw json.RawMessage) string {
	var p bareProxy
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if dec.Decode(&p) != nil || p.Handler != "reverse_proxy" || len(p.Upstreams) != 1 {
		return ""
	}
	if p.Transport.Protocol != "" && p.Transport.Protocol != "http" {
		return ""
	}
	dial := p.Upstreams[0].Dial
	if strings.Contains(dial, "{") {
		return "" // may differ per request
	}
	addr, err := caddy.ParseNetworkAddress(dial)
	if err != nil || addr.Network != "tcp" || addr.PortRangeSize() != 1 || addr.Host == "" {
		return ""
	}
	return addr.JoinHostPort(0)
}

// newDirectTransport returns nil unless the handler is a bare reverse_proxy.
func newDirectTransport(config json.RawMessage, handler caddyhttp.MiddlewareHandler, logger *zap.Logger) *directTransport {
	proxy, ok := handler.(*reverseproxy.Handler)
	if !ok {
		return nil
	}
	transport, ok := proxy.Transport.(*reverseproxy.HTTPTransport)
	if !ok {
		return nil
	}
	address := bareAddress(config)
	if address == "" {
		return nil
	}
	return &directTransport{transport: transport, address: address, logger: logger}
}

// send sends the request. Errors are *backendclient.TransportError and errors of the
// context.
func (t *directTransport) send(req *http.Request, reqCtx *requestContext) (*http.Response, error) {
	req.URL.Scheme, req.URL.Host = "", t.address // the transport decides about TLS
	reqCtx.request = req
	t.forward(req, reqCtx)
	began := time.Now()
	res, err := t.transport.RoundTrip(req)
	if entry := t.logger.Check(zapcore.DebugLevel, "upstream roundtrip"); entry != nil {
		entry.Write(t.logFields(req, res, err, time.Since(began))...)
	}
	if err != nil {
		return nil, directError(req, err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols { // the body would be a connection
		_ = res.Body.Close()
		return nil, &backendclient.TransportError{Status: http.StatusBadGateway, Err: errSwitches}
	}
	return res, nil
}

var headerVia = []string{"1.1 Caddy"}

var errSwitches = errors.New("the backend wants to switch protocols")

// forward sets the headers that reverse_proxy would set: the client's address, the host
// and Via.
func (*directTransport) forward(req *http.Request, reqCtx *requestContext) {
	h := req.Header
	client, peer := reqCtx.clientIP(), peerIP(reqCtx.peer())
	switch {
	case peer == "@": // a socket without addresses
		if client != "" {
			h["X-Forwarded-For"] = []string{client}
		}
	case client == "" || client == peer:
		h["X-Forwarded-For"] = []string{peer}
	default:
		h["X-Forwarded-For"] = []string{client + ", " + peer}
	}
	h["X-Forwarded-Host"] = []string{req.Host}
	h["Via"] = headerVia
}

// logFields are the fields of reverse_proxy's log line, without headers.
func (t *directTransport) logFields(req *http.Request, res *http.Response, err error, took time.Duration) []zap.Field {
	fields := []zap.Field{
		zap.String("upstream", t.address), zap.Duration("duration", took),
		zap.String("method", req.Method), zap.String("uri", requestURI(req.URL)), zap.Strings("request_id", req.Header["X-Request-Id"]),
	}
	if err != nil {
		return append(fields, zap.Error(err))
	}
	return append(fields, zap.Int("status", res.StatusCode))
}

// directError classifies an error for backendclient.
func directError(req *http.Request, err error) error {
	if ctxErr := req.Context().Err(); ctxErr != nil {
		return ctxErr //nolint:wrapcheck // bare, as callers compare it
	}
	te := &backendclient.TransportError{Status: http.StatusBadGateway, Err: err}
	if _, ok := errors.AsType[reverseproxy.DialError](err); ok {
		te.NotSent = true
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() && !te.NotSent {
		te.Status = http.StatusGatewayTimeout
	}
	return te
}
