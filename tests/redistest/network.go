// SPDX-License-Identifier: MIT

package redistest

import (
	"fmt"
	"slices"
	"testing"
)

// Network is the network between one client and a group watched by Sentinels: a proxy in
// front of each server. It replaces the addresses of data servers in the answers of the
// Sentinels, so that this client alone can be cut off from the primary, whichever server
// that is.
type Network struct {
	// Data and Sentinels are in the order of the servers of the group.
	Data, Sentinels []*Proxy
}

// Network puts a network in front of the group.
func (s *SentinelServers) Network(t testing.TB) *Network {
	t.Helper()
	n := new(Network)
	renames := map[string]string{}
	for _, server := range s.Data {
		p := startProxy(t, server, nil)
		n.Data = append(n.Data, p)
		renames[bulk(server.claim.Port)] = bulk(p.claim.Port)
	}
	for _, server := range s.Sentinels {
		n.Sentinels = append(n.Sentinels, startProxy(t, server, renames))
	}
	return n
}

// bulk is a port as Redis sends it. All ports of tests have five digits.
func bulk(port int) string { return fmt.Sprintf("$5\r\n%d\r\n", port) }

// Addrs are the host:port at which the client finds the Sentinels.
func (n *Network) Addrs() []string {
	addrs := make([]string, 0, len(n.Sentinels))
	for _, p := range n.Sentinels {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

// All are the proxies of all servers.
func (n *Network) All() []*Proxy { return slices.Concat(n.Data, n.Sentinels) }
