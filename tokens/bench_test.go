// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/embedded"
)

// benchFixture is an Authority with an application and a token.
type benchFixture struct {
	*tokens.Authority
	app    *tokens.Application
	secret string
	grant  tokens.Grant
	token  string
}

func newBenchFixture(t testing.TB) *benchFixture {
	t.Helper()
	store, err := embedded.Open()
	require.NoError(t, err)
	a, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{[]byte("0123456789-0123456789-0123456789")}})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, a.Close())
		require.NoError(t, store.Close())
	})
	a.Start()
	require.Eventually(t, a.Fresh, 30*time.Second, time.Millisecond)

	ctx := context.Background()
	o := &benchFixture{Authority: a}
	o.app, o.secret, err = a.CreateApplication(ctx, tokens.Application{
		Name: "Test", Active: true, Domains: []string{"example.com"},
		Scopes: tokens.Scopes{tokens.ScopeRoomsList, tokens.ScopeRoomsRetrieve, tokens.ScopeRoomsCreate},
	})
	require.NoError(t, err)
	o.grant = tokens.Grant{Application: o.app, Mail: "ada@example.com", Scopes: o.app.Scopes}
	token, err := a.Issue(ctx, o.grant)
	require.NoError(t, err)
	o.token = token.Value
	_, err = a.Verify(ctx, o.token)
	require.NoError(t, err)
	return o
}

// Verifying a cached token makes at most four allocations, however many tokens are cached.
func TestVerify_CachedTokenAllocationBudget(t *testing.T) {
	o := newBenchFixture(t)
	ctx := context.Background()
	perRun := func() float64 {
		return testing.AllocsPerRun(1000, func() {
			if _, err := o.Verify(ctx, o.token); err != nil {
				t.Error(err)
			}
		})
	}
	require.LessOrEqual(t, perRun(), 4.0)
	for range 500 {
		token, err := o.Issue(ctx, o.grant)
		require.NoError(t, err)
		_, err = o.Verify(ctx, token.Value)
		require.NoError(t, err)
	}
	require.LessOrEqual(t, perRun(), 4.0, "with a larger cache")
}

func BenchmarkVerify_Known(b *testing.B) {
	o := newBenchFixture(b)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Verify(ctx, o.token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify_BadSignature(b *testing.B) {
	o := newBenchFixture(b)
	ctx := context.Background()
	bad := o.token[:len(o.token)-4] + "AAAA"
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Verify(ctx, bad); err == nil {
			b.Fatal("accepted")
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	o := newBenchFixture(b)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := o.Authority.Authenticate(ctx, o.app.ID, o.secret); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIssue measures signing a token and writing its record to the embedded store.
func BenchmarkIssue(b *testing.B) {
	o := newBenchFixture(b)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Issue(ctx, o.grant); err != nil {
			b.Fatal(err)
		}
	}
}
