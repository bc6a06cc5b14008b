// SPDX-License-Identifier: MIT

package tokens_test

import (
	"testing"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// A former primary that becomes the primary again may lack acknowledged changes, as any
// new primary.
func TestOutage_FailoverAndFailback(t *testing.T) {
	t.Parallel()
	servers := redistest.Sentinel(t)
	open := shortTimeout(tokens.RedisOptions{Addresses: servers.Addrs(), MasterName: redistest.MasterName})
	a, b := newGateway(t, open), newGateway(t, open)
	app, _ := storetest.App(t, a)
	issue := func() (tok *tokens.Token) {
		retry(t, "a token is issued", func() (err error) {
			tok, err = a.Issue(t.Context(), tokens.Grant{Application: app, Mail: "alice@example.org", Scopes: app.Scopes})
			return err
		})
		return tok
	}
	for range 2 {
		c := newTraffic(t)
		for range 20 {
			c.valid("b", b, issue().Value)
		}
		servers.Failover(t)
		c.valid("b", b, issue().Value)
		retry(t, "the gateway serves requests again", func() error { _, err := b.Inspect(t.Context(), issue().Value); return err })
		c.end()
	}
}
