// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// connections are the open connections to Redis. They are closed when their server is no
// longer the primary: go-redis keeps a connection for as long as it works, and a deposed
// primary goes on answering.
type connections struct {
	dialer net.Dialer
	tls    *tls.Config

	mu   sync.Mutex
	open map[*connection]bool
}

func newConnections(timeout time.Duration, config *tls.Config) *connections {
	return &connections{dialer: net.Dialer{Timeout: timeout}, tls: config, open: map[*connection]bool{}}
}

// forFeed marks the context that opens the connection of a feed. That connection is not
// dropped with the others: what was proven through it is still true, and a feed that hears
// nothing new is noticed by its silence.
type forFeed struct{}

// dial opens a connection, with TLS if configured.
func (c *connections) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	raw, err := c.dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s, ok := raw.(stream)
	if !ok {
		_ = raw.Close()
		return nil, fmt.Errorf("connection to %s is a %T", addr, raw)
	}
	n := &connection{stream: s, all: c, addr: addr, feed: ctx.Value(forFeed{}) != nil}
	c.mu.Lock()
	c.open[n] = true
	c.mu.Unlock()
	if c.tls == nil {
		return n, nil
	}
	config := c.tls
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			host = addr
		}
		config = config.Clone()
		config.ServerName = host
	}
	secure := tls.Client(n, config)
	ctx, cancel := context.WithTimeout(ctx, c.dialer.Timeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = n.Close()
		return nil, err
	}
	return secure, nil
}

// drop closes the connections that match. go-redis retries their commands on others.
func (c *connections) drop(match func(*connection) bool) {
	c.mu.Lock()
	var matching []*connection
	for n := range c.open {
		if match(n) {
			matching = append(matching, n)
		}
	}
	c.mu.Unlock()
	for _, n := range matching {
		n.dropped.Store(true)
		_ = n.Close()
	}
}

// stream is a connection with a socket, which go-redis inspects before it reuses the
// connection.
type stream interface {
	net.Conn
	syscall.Conn
}

type connection struct {
	stream
	all     *connections
	addr    string
	feed    bool
	dropped atomic.Bool
}

// Close implements [net.Conn].
func (n *connection) Close() error {
	n.all.mu.Lock()
	delete(n.all.open, n)
	n.all.mu.Unlock()
	return n.stream.Close()
}

// asEOF returns io.EOF for an error of a dropped connection, so that go-redis retries.
func (n *connection) asEOF(err error) error {
	if err != nil && n.dropped.Load() {
		return io.EOF
	}
	return err
}

// Read implements [net.Conn], as do the methods below.
func (n *connection) Read(b []byte) (int, error) {
	size, err := n.stream.Read(b)
	return size, n.asEOF(err)
}

func (n *connection) Write(b []byte) (int, error) {
	size, err := n.stream.Write(b)
	return size, n.asEOF(err)
}

func (n *connection) SetDeadline(t time.Time) error     { return n.asEOF(n.stream.SetDeadline(t)) }
func (n *connection) SetReadDeadline(t time.Time) error { return n.asEOF(n.stream.SetReadDeadline(t)) }

func (n *connection) SetWriteDeadline(t time.Time) error {
	return n.asEOF(n.stream.SetWriteDeadline(t))
}
