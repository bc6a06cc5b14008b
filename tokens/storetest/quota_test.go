// SPDX-License-Identifier: MIT

package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

func withQuota(f tokens.QuotaOptions) func(*tokens.Options) {
	return func(o *tokens.Options) { o.Quota = f }
}

// newMail returns a new address of the domain.
func newMail(domain string) tokens.Mail {
	m, err := tokens.ParseMail(tokens.NewPassword() + "@" + domain)
	if err != nil {
		panic(err)
	}
	return m
}

func testQuota(t *testing.T, open Opener) {
	ctx := t.Context()
	c := newClock()
	clock := func(o *tokens.Options) { o.Now = c.Now }
	a := Node(t, open, withQuota(tokens.QuotaOptions{Users: 5, UsersDomain: 3}), clock)
	b := Node(t, open, withQuota(tokens.QuotaOptions{Users: 5, UsersDomain: 3}), clock)
	app, _ := App(t, a, func(n *tokens.Application) { n.Domains = []string{"*"} })

	one := newMail("one.example")
	ad, err := a.Admit(ctx, app, one)
	require.NoError(t, err)
	require.True(t, ad.New)
	require.Equal(t, tokens.Quota{Used: 1, Limit: 5}, ad.Application)
	require.Equal(t, tokens.Quota{Used: 1, Limit: 3}, ad.Domain)
	ad, err = b.Admit(ctx, app, one)
	require.NoError(t, err)
	require.False(t, ad.New, "an address is counted once")
	require.Equal(t, 1, ad.Application.Used)
	require.NoError(t, ad.Withdraw(ctx), "nothing was counted, so nothing is refunded")

	_, err = a.Admit(ctx, app, newMail("one.example"))
	require.NoError(t, err)
	third, err := b.Admit(ctx, app, newMail("one.example"))
	require.NoError(t, err)
	require.True(t, third.Domain.Warn, "3 of 3 is the first number above 80 %")
	ad, err = a.Admit(ctx, app, newMail("one.example"))
	require.ErrorIs(t, err, tokens.ErrQuotaExceeded)
	require.Equal(t, "user_domain_quota_exceeded", tokens.Reason(err))
	require.Equal(t, 3, ad.Domain.Used)
	require.True(t, ad.Exceeded)

	fourth, err := a.Admit(ctx, app, newMail("two.example"))
	require.NoError(t, err)
	require.Equal(t, tokens.Quota{Used: 4, Limit: 5, Warn: true}, fourth.Application)
	fifth, err := a.Admit(ctx, app, newMail("two.example"))
	require.NoError(t, err)
	require.False(t, fifth.Application.Warn, "the warning is given once")
	_, err = b.Admit(ctx, app, newMail("three.example"))
	require.ErrorIs(t, err, tokens.ErrQuotaExceeded)
	require.Equal(t, "user_quota_exceeded", tokens.Reason(err))

	// Meet refused: the count is refunded, once.
	require.NoError(t, fifth.Withdraw(ctx))
	require.NoError(t, fifth.Withdraw(ctx))
	_, err = b.Admit(ctx, app, newMail("three.example"))
	require.NoError(t, err)
	_, err = b.Admit(ctx, app, newMail("three.example"))
	require.ErrorIs(t, err, tokens.ErrQuotaExceeded)

	_, err = b.Admit(ctx, app, one)
	require.NoError(t, err, "a counted address is admitted")
	testQuotaScope(t, a, b, app)

	c.advance(24 * time.Hour)
	ad, err = a.Admit(ctx, app, newMail("one.example"))
	require.NoError(t, err)
	require.Equal(t, 1, ad.Application.Used, "the quota starts again each day")
	testQuotaModes(t, open)
}

// testQuotaScope checks that known users are not counted, and that each application has its own
// quota.
func testQuotaScope(t *testing.T, a, b *tokens.Authority, app *tokens.Application) {
	t.Helper()
	ctx := t.Context()
	other, _ := App(t, a, func(n *tokens.Application) { n.Domains = []string{"*"} })
	known := newMail("known.example")
	Issue(t, a, other, known)
	for _, node := range []*tokens.Authority{a, b} {
		ad, err := node.Admit(ctx, app, known)
		require.NoError(t, err)
		require.Equal(t, tokens.Admission{}, *ad)
	}
	_, err := a.Admit(ctx, other, newMail("three.example"))
	require.NoError(t, err, "another application has its own quota")

	generous, err := a.UpdateApplication(ctx, app.ID, 0, func(n *tokens.Application) error {
		n.Limits = map[string]string{"users": "100/1d", "users_domain": "off"}
		return nil
	})
	require.NoError(t, err)
	ad, err := a.Admit(ctx, generous, newMail("one.example"))
	require.NoError(t, err)
	require.Equal(t, 100, ad.Application.Limit)
	require.Zero(t, ad.Domain.Limit)
}

func testQuotaModes(t *testing.T, open Opener) {
	t.Helper()
	ctx := t.Context()
	dry := Node(t, open, withQuota(tokens.QuotaOptions{Users: 1, DryRun: true}))
	app, _ := App(t, dry)
	for i := range 3 {
		ad, err := dry.Admit(ctx, app, newMail("example.org"))
		require.NoError(t, err)
		require.Equal(t, i+1, ad.Application.Used)
		require.Equal(t, i > 0, ad.Exceeded)
	}
	none := Node(t, open)
	ad, err := none.Admit(ctx, app, newMail("example.org"))
	require.NoError(t, err)
	require.Equal(t, tokens.Admission{}, *ad)
}

func testQuotaRace(t *testing.T, open Opener) {
	ctx := t.Context()
	nodes := []*tokens.Authority{
		Node(t, open, withQuota(tokens.QuotaOptions{Users: 10})),
		Node(t, open, withQuota(tokens.QuotaOptions{Users: 10})),
	}
	app, _ := App(t, nodes[0])
	var admitted, refused, warned atomic.Int32
	var wg sync.WaitGroup
	run := tokens.NewPassword()[:20]
	for i := range 30 {
		wg.Go(func() {
			ad, err := nodes[i%2].Admit(ctx, app, tokens.Mail(fmt.Sprintf("%s-%d@example.org", run, i)))
			switch {
			case errors.Is(err, tokens.ErrQuotaExceeded):
				refused.Add(1)
			case err != nil:
				t.Error(err)
			default:
				admitted.Add(1)
				if ad.Application.Warn {
					warned.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 10, admitted.Load())
	require.EqualValues(t, 20, refused.Load())
	require.EqualValues(t, 1, warned.Load())
}
