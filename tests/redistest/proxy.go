// SPDX-License-Identifier: MIT

package redistest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/meet-gateway/meet-gateway/tests/child"
)

// Proxy is a network in front of one server that can be cut, slowed down or
// muted, while the server itself is well and others reach it as before.
type Proxy struct {
	server *Server
	claim  *child.PortClaim
	proxy  *toxiproxy.Proxy
}

// Proxied puts a network in front of a server. A test of several gateways gives
// each of them one of its own, so that it can part one of them from the server.
//
// With Cluster and Sentinel it covers no more than the first contact: those
// tell their clients the servers' real addresses.
func Proxied(t testing.TB, s *Server) *Proxy {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	for attempt := 1; ; attempt++ {
		claim, err := child.ClaimPort()
		if err != nil {
			t.Fatal("redistest:", err)
		}
		p := &Proxy{server: s, claim: claim, proxy: toxiproxy.NewProxy(api, t.Name(), claim.Addr(), s.Addr())}
		if err = p.proxy.Start(); err == nil {
			t.Cleanup(func() {
				p.proxy.Stop()
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

// URL is the server's URL through the proxy.
func (p *Proxy) URL() string {
	return strings.Replace(p.server.URL(), p.server.Addr(), p.Addr(), 1)
}

// Cut closes all connections and refuses new ones until Restore.
func (p *Proxy) Cut(t testing.TB) {
	t.Helper()
	p.proxy.Stop()
}

// Drop closes all connections once; new ones are accepted at once.
func (p *Proxy) Drop(t testing.TB) {
	t.Helper()
	p.proxy.Stop()
	p.start(t)
}

// Latency delays every answer by d until Restore; it takes the place of an
// earlier latency.
func (p *Proxy) Latency(t testing.TB, d time.Duration) {
	t.Helper()
	// Toxiproxy changes a fault in place while connections read it: replace it.
	err := p.proxy.Toxics.RemoveToxic(context.Background(), faultName("latency", "downstream"))
	if err != nil && !errors.Is(err, toxiproxy.ErrToxicNotFound) {
		t.Fatal("redistest: ending the earlier latency:", err)
	}
	p.set(t, "latency", "downstream", map[string]int64{"latency": d.Milliseconds()})
}

// Silent lets no byte through in either direction until Restore. Connections
// stay open and new ones are accepted: nothing but time tells that it is so.
func (p *Proxy) Silent(t testing.TB) {
	t.Helper()
	p.set(t, "timeout", "upstream", map[string]int64{"timeout": 0})
	p.set(t, "timeout", "downstream", map[string]int64{"timeout": 0})
}

// MuteFeeds makes every connection silent on which a published message is about
// to arrive, until Restore; all others go on. It is the feed that looks alive
// and brings nothing.
func (p *Proxy) MuteFeeds(t testing.TB) {
	t.Helper()
	p.set(t, muteFeedType, "downstream", nil)
}

// Restore ends every fault. Connections on which bytes were swallowed are
// closed, since they could only be misread.
func (p *Proxy) Restore(t testing.TB) {
	t.Helper()
	p.proxy.Toxics.ResetToxics(context.Background())
	p.start(t)
}

func (p *Proxy) start(t testing.TB) {
	t.Helper()
	if err := p.proxy.Start(); err != nil && !errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
		t.Fatal("redistest: restoring the network:", err)
	}
}

// set adds a toxic, which is toxiproxy's word for a fault, unless it is there.
func (p *Proxy) set(t testing.TB, kind, direction string, attributes map[string]int64) {
	t.Helper()
	toxic, err := json.Marshal(map[string]any{
		"name": faultName(kind, direction), "type": kind, "stream": direction, "attributes": attributes,
	})
	if err == nil {
		_, err = p.proxy.Toxics.AddToxicJson(bytes.NewReader(toxic))
	}
	if err != nil && !errors.Is(err, toxiproxy.ErrToxicAlreadyExists) {
		t.Fatalf("redistest: adding %s to the network: %v", kind, err)
	}
}

func faultName(kind, direction string) string { return kind + "_" + direction }
