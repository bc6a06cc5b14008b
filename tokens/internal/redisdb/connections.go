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

// connections are those that are open to Redis, so that they can be ended when
// they lead to a server that is the primary no longer: go-redis keeps a
// connection for as long as it works, and a deposed primary works.
type connections struct {
	dialer net.Dialer
	tls    *tls.Config

	mu   sync.Mutex
	open map[*connection]bool
}

func newConnections(o Options, config *tls.Config) *connections {
	return &connections{dialer: net.Dialer{Timeout: o.Timeout, Control: o.Control}, tls: config, open: map[*connection]bool{}}
}

// forFeed marks the context with which the connection of a feed is opened. A
// feed that hears nothing new is found out by its silence, and what was proven
// by it until then is still true: it is not dropped with the others.
type forFeed struct{}

// dial opens a connection, with TLS if that is configured.
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
	n := &connection{stream: s, of: c, addr: addr, feed: ctx.Value(forFeed{}) != nil}
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

// drop ends the connections that which says yes to. Commands that run on them
// are tried again on others.
func (c *connections) drop(which func(*connection) bool) {
	c.mu.Lock()
	var ended []*connection
	for n := range c.open {
		if which(n) {
			ended = append(ended, n)
		}
	}
	c.mu.Unlock()
	for _, n := range ended {
		n.dropped.Store(true)
		_ = n.Close()
	}
}

// stream is a connection of the operating system. go-redis looks at its socket
// before it uses a connection again.
type stream interface {
	net.Conn
	syscall.Conn
}

type connection struct {
	stream
	of      *connections
	addr    string
	feed    bool
	dropped atomic.Bool
}

// Close implements [net.Conn].
func (n *connection) Close() error {
	n.of.mu.Lock()
	delete(n.of.open, n)
	n.of.mu.Unlock()
	return n.stream.Close()
}

// ended says of a connection that was dropped what is said of one that the
// server closed: that is what go-redis tries again after.
func (n *connection) ended(err error) error {
	if err != nil && n.dropped.Load() {
		return io.EOF
	}
	return err
}

// Read implements [net.Conn], as the following do.
func (n *connection) Read(b []byte) (int, error) {
	size, err := n.stream.Read(b)
	return size, n.ended(err)
}

func (n *connection) Write(b []byte) (int, error) {
	size, err := n.stream.Write(b)
	return size, n.ended(err)
}

func (n *connection) SetDeadline(t time.Time) error     { return n.ended(n.stream.SetDeadline(t)) }
func (n *connection) SetReadDeadline(t time.Time) error { return n.ended(n.stream.SetReadDeadline(t)) }

func (n *connection) SetWriteDeadline(t time.Time) error {
	return n.ended(n.stream.SetWriteDeadline(t))
}
