// SPDX-License-Identifier: MIT

package redistest

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/meet-gateway/meet-gateway/tests/child"
)

// Network is the way that one client has to a group watched by Sentinels: a relay
// before each server. What the Sentinels say of data servers is changed to the
// relays on its way, so that this client alone can be parted from the primary,
// wherever that goes.
type Network struct {
	// Data and Sentinels are the relays before the servers of the group, in the same
	// order.
	Data, Sentinels []*Relay
}

// Network lays a way to the group that ends with the test.
func (s *SentinelServers) Network(t testing.TB) *Network {
	t.Helper()
	n := new(Network)
	renames := map[string]string{}
	for _, server := range s.Data {
		r := startRelay(t, server, nil)
		n.Data = append(n.Data, r)
		renames[bulk(server.claim.Port)] = bulk(r.claim.Port)
	}
	for _, server := range s.Sentinels {
		n.Sentinels = append(n.Sentinels, startRelay(t, server, renames))
	}
	return n
}

// bulk is a port as Redis sends it. All ports of tests have five digits.
func bulk(port int) string { return fmt.Sprintf("$5\r\n%s\r\n", strconv.Itoa(port)) }

// Addrs are the host:port at which the client finds the Sentinels.
func (n *Network) Addrs() []string {
	addrs := make([]string, 0, len(n.Sentinels))
	for _, r := range n.Sentinels {
		addrs = append(addrs, r.claim.Addr())
	}
	return addrs
}

// All are the relays to all servers.
func (n *Network) All() []*Relay { return append(append([]*Relay{}, n.Data...), n.Sentinels...) }

// Relay passes the bytes of connections on to one server, and can stop doing so.
type Relay struct {
	target  *Server
	claim   *child.PortClaim
	renames map[string]string // in what the server says

	mu      sync.Mutex
	changed *sync.Cond
	state   relayState
	conns   map[net.Conn]bool
}

type relayState struct {
	cut, silent, ended bool
	delay              time.Duration
}

func startRelay(t testing.TB, target *Server, renames map[string]string) *Relay {
	t.Helper()
	claim, err := child.ClaimPort()
	if err != nil {
		t.Fatal("redistest:", err)
	}
	listener, err := net.Listen("tcp", claim.Addr())
	if err != nil {
		t.Fatal("redistest: starting a relay:", err)
	}
	r := &Relay{target: target, claim: claim, renames: renames, conns: map[net.Conn]bool{}}
	r.changed = sync.NewCond(&r.mu)
	go r.accept(listener)
	t.Cleanup(func() {
		r.set(func(s *relayState) { s.ended = true })
		_ = listener.Close()
		r.drop()
		claim.Release()
	})
	return r
}

// Cut closes all connections, and new ones at once, until Restore.
func (r *Relay) Cut() {
	r.set(func(s *relayState) { s.cut = true })
	r.drop()
}

// Silent lets no byte through until Restore. Connections stay open.
func (r *Relay) Silent() { r.set(func(s *relayState) { s.silent = true }) }

// Latency delays every answer until Restore.
func (r *Relay) Latency(d time.Duration) { r.set(func(s *relayState) { s.delay = d }) }

// Restore ends every fault. What was held back arrives, as it does from a network.
func (r *Relay) Restore() { r.set(func(s *relayState) { *s = relayState{ended: s.ended} }) }

func (r *Relay) set(change func(*relayState)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.state)
	r.changed.Broadcast()
}

func (r *Relay) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		_ = c.Close()
	}
}

func (r *Relay) accept(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		go r.serve(c)
	}
}

func (r *Relay) serve(c net.Conn) {
	defer c.Close()
	server, err := net.Dial("tcp", r.target.Addr())
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	if r.state.cut || r.state.ended {
		r.mu.Unlock()
		return
	}
	r.conns[c], r.conns[server] = true, true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.conns, c)
		delete(r.conns, server)
	}()
	done := make(chan struct{}, 2)
	go func() { r.pass(server, c, nil); done <- struct{}{} }()
	go func() { r.pass(c, server, r.renames); done <- struct{}{} }()
	<-done
}

// pass copies until one side closes or the relay is cut.
func (r *Relay) pass(to, from net.Conn, renames map[string]string) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		data := buffer[:n]
		for old, name := range renames {
			data = bytes.ReplaceAll(data, []byte(old), []byte(name))
		}
		r.mu.Lock()
		for r.state.silent && !r.state.cut && !r.state.ended {
			r.changed.Wait()
		}
		delay := r.state.delay
		r.mu.Unlock()
		if delay > 0 {
			time.Sleep(delay)
		}
		if _, err := to.Write(data); err != nil {
			return
		}
	}
}
