// SPDX-License-Identifier: MIT

// Package storetest starts authorities on a store, for tests. Its own tests are the store
// suite: what the gateway relies on, whichever Redis is behind it. The suite runs over the
// embedded store, a single server, a group watched by Sentinel and a Cluster.
package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// Secret is a good secret for tests.
var Secret = []byte("storetest-secret-0123456789abcdef")

// Opener opens the store under test. Every call is another client of the same
// Redis, as another gateway would be.
type Opener func(t *testing.T) *tokens.Store

// Node opens a store and starts an authority on it, as one gateway does.
func Node(t *testing.T, open Opener, change ...func(*tokens.Options)) *tokens.Authority {
	t.Helper()
	o := tokens.Options{Store: open(t), Secrets: [][]byte{Secret}}
	for _, c := range change {
		c(&o)
	}
	a, err := tokens.New(o)
	require.NoError(t, err)
	a.Start()
	t.Cleanup(func() {
		require.NoError(t, a.Close())
		require.NoError(t, o.Store.Close())
	})
	Eventually(t, "the feed is heard", a.Fresh)
	return a
}

// Eventually waits until the condition holds, and fails the test if it never does.
func Eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came true that %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// App registers an application that may do everything for example.org.
func App(t *testing.T, a *tokens.Authority, change ...func(*tokens.Application)) (*tokens.Application, string) {
	t.Helper()
	in := tokens.Application{
		Name: "Calendar", Active: true, Domains: []string{"example.org"},
		Scopes: tokens.Scopes{tokens.ScopeRoomsList, tokens.ScopeRoomsRetrieve, tokens.ScopeRoomsCreate},
	}
	for _, c := range change {
		c(&in)
	}
	app, secret, err := a.CreateApplication(t.Context(), in)
	require.NoError(t, err)
	return app, secret
}

// Issue issues a token for the application and the address.
func Issue(t *testing.T, a *tokens.Authority, app *tokens.Application, mail tokens.Mail) *tokens.Token {
	t.Helper()
	tok, err := a.Issue(t.Context(), tokens.Grant{Application: app, Mail: mail, BackendUserID: "b0b00000-0000-4000-8000-00000000000b", Scopes: app.Scopes})
	require.NoError(t, err)
	return tok
}
