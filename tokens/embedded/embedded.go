// SPDX-License-Identifier: MIT

// Package embedded runs a Redis inside the process (miniredis, a test server), for tests and
// for trying the gateway out. Its data ends with the process, and no other gateway can use it.
package embedded

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// tick is how often the clock of the server is advanced, so that keys expire.
const tick = 100 * time.Millisecond

// Server is an in-process Redis.
type Server struct {
	redis    *miniredis.Miniredis
	password string
	once     sync.Once
	stop     chan struct{}
	stopped  chan struct{}
}

// Start starts a server on a loopback port, with a random password against other processes
// on the machine.
func Start() (*Server, error) {
	s := &Server{
		redis: miniredis.NewMiniRedis(), password: tokens.NewPassword(),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.redis.RequireAuth(s.password)
	if err := s.redis.Start(); err != nil {
		return nil, fmt.Errorf("starting the embedded store: %w", err)
	}
	s.redis.Server().SetPreHook(answerInfo)
	go s.drive()
	return s, nil
}

// answerInfo answers INFO with no fields. miniredis refuses the sections that the gateway
// asks for each second, and each refusal would count as an error of Redis.
func answerInfo(c *server.Peer, cmd string, _ ...string) bool {
	if cmd != "INFO" {
		return false
	}
	c.WriteBulk("")
	return true
}

// timeout bounds a call. It is long, because only a busy machine can delay a server in the
// same process.
const timeout = 10 * time.Second

// Connect opens a store on the server. Closing it leaves the server running.
func (s *Server) Connect() (*tokens.Store, error) {
	store, err := tokens.OpenRedis(tokens.RedisOptions{Addresses: []string{s.redis.Addr()}, Password: s.password, Mode: "embedded", Timeout: timeout})
	if err != nil {
		return nil, fmt.Errorf("opening the embedded store: %w", err)
	}
	return store, nil
}

// Close stops the server, whose data is lost. Calling it again does nothing.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.stop)
		<-s.stopped
		s.redis.Close()
	})
}

// Open starts a server and connects to it. Closing the store stops the server.
func Open() (*tokens.Store, error) {
	s, err := Start()
	if err != nil {
		return nil, err
	}
	store, err := s.Connect()
	if err != nil {
		s.Close()
		return nil, err
	}
	store.OnClose(func() error {
		s.Close()
		return nil
	})
	return store, nil
}

// drive advances the clock of the server.
func (s *Server) drive() {
	defer close(s.stopped)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-s.stop:
			return
		case now := <-ticker.C:
			s.redis.FastForward(now.Sub(last))
			last = now
		}
	}
}
