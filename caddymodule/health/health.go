// SPDX-License-Identifier: MIT

// Package health answers probes of load balancers and Kubernetes on its own listener,
// so that they need no access to the admin endpoint.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
)

const (
	// checkTimeout is the timeout of a readiness check.
	checkTimeout = 2 * time.Second
	// checkInterval is how long a result is reused, so that callers cannot keep Redis
	// busy.
	checkInterval = 100 * time.Millisecond
	idleTimeout   = time.Minute
)

// Check reports whether the gateway can serve new requests. The reason explains why
// not, or a degradation. It contains no address and no credential.
type Check func(context.Context) (ready bool, reason string)

// Server serves GET /livez and GET /readyz. It survives reloads.
type Server struct {
	address  string
	check    atomic.Pointer[Check]
	draining func() bool
	server   *http.Server

	mu       sync.Mutex
	listener net.Listener
	result   answer
	checked  time.Time
}

// answer is the body of an answer.
type answer struct {
	Live   *bool  `json:"live,omitempty"`
	Ready  *bool  `json:"ready,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// New returns a server for an address, host:port. Listen starts it.
func New(address string) *Server {
	s := &Server{address: address, draining: caddy.Exiting}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.serveLive)
	mux.HandleFunc("GET /readyz", s.serveReady)
	s.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    8 << 10,
	}
	return s
}

// ParseAddress checks an address, [host]:port.
func ParseAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("the health address must look like :8081 or 127.0.0.1:8081: %w", err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("the health address %s has no port between 1 and 65535", address)
	}
	return nil
}

// Listen starts the server. Until Use is called, /readyz answers "starting". Later
// calls have no effect. Unlike Caddy's listeners, this one does not share its port,
// since another process must not answer its probes.
func (s *Server) Listen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	s.listener = l
	go func() { _ = s.server.Serve(l) }() // until Destruct
	return nil
}

// Use sets the check of the running configuration.
func (s *Server) Use(check Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.check.Store(&check)
	s.checked = time.Time{}
}

// Destruct implements caddy.Destructor. It cuts off probes in flight.
func (s *Server) Destruct() error {
	if err := s.server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("health: %w", err)
	}
	return nil
}

func (s *Server) serveLive(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, answer{Live: new(true)})
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	a := s.ready(r.Context())
	status := http.StatusOK
	if !*a.Ready {
		status = http.StatusServiceUnavailable
	}
	write(w, status, a)
}

// ready returns the check's result. A draining gateway is not ready.
func (s *Server) ready(ctx context.Context) answer {
	if s.draining() {
		return answer{Ready: new(false), Reason: "draining"}
	}
	check := s.check.Load()
	if check == nil {
		return answer{Ready: new(false), Reason: "starting"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.checked) > checkInterval {
		// Others wait for the result too, so the first prober must not cancel the
		// check.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
		defer cancel()
		ready, reason := (*check)(ctx)
		s.result, s.checked = answer{Ready: &ready, Reason: reason}, time.Now()
	}
	return s.result
}

func write(w http.ResponseWriter, status int, a answer) {
	body, err := json.Marshal(a)
	if err != nil { // booleans and strings can always be encoded
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the prober may have disconnected
}

// Interface guards
var _ caddy.Destructor = (*Server)(nil)
