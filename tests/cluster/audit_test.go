// SPDX-License-Identifier: MIT

package cluster

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// recovered waits until every gateway issues a token that all accept, and revokes it.
func (o *load) recovered(t testing.TB) {
	t.Helper()
	for _, g := range o.c.nodes {
		eventually(t, g.name+" to serve again", func() bool { return o.serves(t, g) })
	}
}

// recoveries numbers the users of recovered.
var recoveries atomic.Int64

// serves reports whether a gateway issues, accepts and revokes a token of a new user.
func (o *load) serves(t testing.TB, g *gateway) bool {
	t.Helper()
	a, err := o.app.mint(g, fmt.Sprintf("recovered-%d@example.org", recoveries.Add(1)))
	if err != nil || a.Status != http.StatusOK {
		return false
	}
	token := accessToken(t, a)
	for _, other := range o.c.nodes {
		a, err := other.try(http.MethodGet, roomsPath, "", "Authorization", gatewaytest.Bearer(token))
		if err != nil || a.Status != http.StatusOK {
			return false
		}
	}
	a, err = o.app.revoke(g, token)
	return err == nil && a.Status == http.StatusOK
}

// audit uses every token on every gateway without a fault: valid tokens must be accepted, revoked
// ones refused.
func (o *load) audit() {
	var all sync.WaitGroup
	for _, g := range o.c.nodes {
		all.Go(func() {
			for _, k := range o.l.all() {
				o.ask(request{node: g, what: "audit"}, k, http.MethodGet, roomsPath)
			}
		})
	}
	all.Wait()
}
