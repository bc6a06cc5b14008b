// SPDX-License-Identifier: MIT

package redistest

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meet-gateway/meet-gateway/tests/child"
)

// Proxy is the network in front of one server. It can be cut, slowed down or muted, while the server
// stays reachable at its own address.
type Proxy struct {
	server  *Server
	claim   *child.PortClaim
	renames map[string]string // replacements in what the server sends
	running sync.WaitGroup

	mu       sync.Mutex
	changed  *sync.Cond
	fault    fault
	listener net.Listener      // nil while cut
	conns    map[net.Conn]bool // whether bytes for it were swallowed
}

type fault struct {
	cut, silent, muteFeeds bool
	delay                  time.Duration
}

// Proxied puts a network in front of a server. In a test of several gateways each gets its
// own, so that one of them can be cut off. With Cluster and Sentinel it covers only the
// first contact, since those tell clients the real addresses; see Network.
func Proxied(t testing.TB, s *Server) *Proxy {
	t.Helper()
	return startProxy(t, s, nil)
}

func startProxy(t testing.TB, s *Server, renames map[string]string) *Proxy {
	t.Helper()
	for attempt := 1; ; attempt++ {
		claim, err := child.ClaimPort()
		if err != nil {
			t.Fatal("redistest:", err)
		}
		p := &Proxy{server: s, claim: claim, renames: renames, conns: map[net.Conn]bool{}}
		p.changed = sync.NewCond(&p.mu)
		if err = p.listen(); err == nil {
			t.Cleanup(func() {
				p.Cut(t)
				p.running.Wait()
				claim.Release()
			})
			return p
		}
		claim.Release()
		if attempt == 5 {
			t.Fatal("redistest: starting the proxy:", err)
		}
	}
}

// Addr is the host:port at which the server is reached through the proxy.
func (p *Proxy) Addr() string { return p.claim.Addr() }

// URL is the URL of the server through the proxy.
func (p *Proxy) URL() string {
	return strings.Replace(p.server.URL(), p.server.Addr(), p.Addr(), 1)
}

// Cut closes all connections and refuses new ones until Restore.
func (p *Proxy) Cut(t testing.TB) {
	t.Helper()
	p.set(func(f *fault) { f.cut = true })
	p.disconnect()
}

// Drop closes all connections once.
func (p *Proxy) Drop(t testing.TB) {
	t.Helper()
	p.disconnect()
	p.mustListen(t)
}

func (p *Proxy) disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	for c := range p.conns {
		_ = c.Close()
	}
}

// Latency delays every answer by d until Restore. It replaces an earlier latency.
func (p *Proxy) Latency(t testing.TB, d time.Duration) {
	t.Helper()
	p.set(func(f *fault) { f.delay = d })
}

// Silent holds back every byte in both directions until Restore. Connections stay open, and
// new ones are accepted.
func (p *Proxy) Silent(t testing.TB) {
	t.Helper()
	p.set(func(f *fault) { f.silent = true })
}

// MuteFeeds swallows everything on a connection from the first published message on, until
// Restore. Other connections work, and the feed stays open without messages.
func (p *Proxy) MuteFeeds(t testing.TB) {
	t.Helper()
	p.set(func(f *fault) { f.muteFeeds = true })
}

// Restore ends every fault. Bytes that were held back arrive, and connections on which bytes
// were swallowed are closed.
func (p *Proxy) Restore(t testing.TB) {
	t.Helper()
	p.set(func(f *fault) { *f = fault{} })
	p.mu.Lock()
	for c, swallowed := range p.conns {
		if swallowed {
			_ = c.Close()
		}
	}
	p.mu.Unlock()
	p.mustListen(t)
}

func (p *Proxy) mustListen(t testing.TB) {
	t.Helper()
	if err := p.listen(); err != nil {
		t.Fatal("redistest: restoring the network:", err)
	}
}

func (p *Proxy) set(change func(*fault)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.fault)
	p.changed.Broadcast()
}

// listen accepts connections unless it does already.
func (p *Proxy) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", p.Addr())
	if err != nil {
		return err
	}
	p.listener = l
	p.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			if p.listener != l { // disconnected meanwhile
				_ = c.Close()
			}
			p.conns[c] = false
			p.mu.Unlock()
			p.running.Go(func() { p.serve(c) })
		}
	})
	return nil
}

func (p *Proxy) serve(client net.Conn) {
	defer p.close(client)
	server, err := net.Dial("tcp", p.server.Addr())
	if err != nil {
		return
	}
	p.mu.Lock()
	p.conns[server] = false
	p.mu.Unlock()
	defer p.close(server)
	done := make(chan struct{}, 2)
	p.running.Go(func() { p.requests(server, client); done <- struct{}{} })
	p.running.Go(func() { p.answers(client, server); done <- struct{}{} })
	<-done
}

func (p *Proxy) close(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

// requests copies what the client sends, until one side closes.
func (p *Proxy) requests(server, client net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		p.hold(nil)
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// answers copies what the server sends, until one side closes.
func (p *Proxy) answers(client, server net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		read, data := time.Now(), buffer[:n]
		for old, name := range p.renames {
			data = bytes.ReplaceAll(data, []byte(old), []byte(name))
		}
		p.hold(&read)
		if p.swallows(client, data) {
			continue
		}
		if _, err := client.Write(data); err != nil {
			return
		}
	}
}

// hold waits while the proxy is silent, and for the latency since read if that is not nil.
func (p *Proxy) hold(read *time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.fault.cut {
		left := time.Duration(0)
		if read != nil {
			left = p.fault.delay - time.Since(*read)
		}
		if !p.fault.silent && left <= 0 {
			return
		}
		if left > 0 {
			timer := time.AfterFunc(left, p.changed.Broadcast)
			defer timer.Stop()
		}
		p.changed.Wait()
	}
}

// swallows reports whether data must not reach the client, because it follows a published
// message while feeds are muted. Chunks do not end where messages do, so the rest of the
// connection is swallowed too.
func (p *Proxy) swallows(client net.Conn, data []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault.muteFeeds && bytes.Contains(data, []byte("message\r\n")) { // also pmessage and smessage
		p.conns[client] = true
	}
	return p.conns[client]
}
