// SPDX-License-Identifier: MIT

// Package health answers the probes of load balancers and of Kubernetes on a listener
// of its own, so that they need no access to the admin endpoint.
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
	// checkTimeout bounds one readiness check.
	checkTimeout = 2 * time.Second
	// checkInterval is how long a result is given again: strangers who reach the
	// listener must not be able to keep Redis busy.
	checkInterval = 100 * time.Millisecond
	// idleTimeout ends connections of probes that come rarely.
	idleTimeout = time.Minute
)

// Check reports whether a request that is new to this gateway would be served. The
// reason says why not, or what is not as it should be. It holds no address and no
// credential.
type Check func(context.Context) (ready bool, reason string)

// Server serves GET /livez and GET /readyz, and nothing else. It outlives reloads.
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

// New makes a server for an address, host:port. It does not listen yet.
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

// Listen begins to answer; until Use is called, /readyz says "starting". Later calls do
// nothing. Unlike Caddy's listeners it does not share its port: a probe must never be
// answered by another process.
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
	go func() { _ = s.server.Serve(l) }() // it ends with Destruct
	return nil
}

// Use sets the check of the configuration that is running.
func (s *Server) Use(check Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.check.Store(&check)
	s.checked = time.Time{}
}

// Destruct implements caddy.Destructor: it ends the server. Probes that are being
// answered are cut off, since what they asked for has ended.
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

// ready asks the check, one request at a time. Draining comes before everything else.
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
		// The result is for all that wait, so the first one's hanging up must not end it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
		defer cancel()
		ready, reason := (*check)(ctx)
		s.result, s.checked = answer{Ready: &ready, Reason: reason}, time.Now()
	}
	return s.result
}

func write(w http.ResponseWriter, status int, a answer) {
	body, err := json.Marshal(a)
	if err != nil { // two booleans and a text
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the prober has gone away
}

// Interface guards
var _ caddy.Destructor = (*Server)(nil)
