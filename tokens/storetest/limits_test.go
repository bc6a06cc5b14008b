// SPDX-License-Identifier: MIT

package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

func testLimits(t *testing.T, open Opener) {
	ctx := t.Context()
	nodes := []*tokens.Authority{Node(t, open), Node(t, open)}
	hour := limit.Rate{Count: 10, Per: time.Hour}
	k := limit.Key{Policy: limit.Read, Subject: tokens.NewPassword()}
	for i := range 4 {
		reset, err := nodes[i%2].Debit(ctx, k, hour, 3)
		require.NoError(t, err)
		require.InDelta(t, time.Duration(i+1)*3*6*time.Minute, reset, float64(time.Minute), "both gateways debit the same count, below zero")
	}
	reset, err := nodes[0].Debit(ctx, k, hour, 100)
	require.NoError(t, err)
	require.InDelta(t, limit.MaxDebt*time.Hour, reset, float64(time.Minute), "debt is bounded")
	reset, err = nodes[1].Debit(ctx, k, hour, 0)
	require.NoError(t, err)
	require.InDelta(t, limit.MaxDebt*time.Hour, reset, float64(time.Minute))

	// A changed limit starts full.
	reset, err = nodes[0].Debit(ctx, k, limit.Rate{Count: 20, Per: time.Hour}, 1)
	require.NoError(t, err)
	require.InDelta(t, 3*time.Minute, reset, float64(time.Minute))

	// A gateway does not grant again what another one granted.
	rates, err := limit.ParseRates(map[string]string{"create": "10/1h", "create_user": "off"})
	require.NoError(t, err)
	who := limit.Caller{Application: tokens.NewPassword()}
	var gateways []*limit.Limiter
	for _, n := range nodes {
		l := limit.New(limit.Options{Shared: n, Rates: rates, Patience: 10 * time.Second})
		t.Cleanup(l.Close)
		gateways = append(gateways, l)
	}
	granted := 0
	for i := range 40 {
		if gateways[i%2].Create(ctx, who).Allowed {
			granted++
		}
	}
	require.GreaterOrEqual(t, granted, 9)
	require.LessOrEqual(t, granted, 10+2*2)

	app, _ := App(t, nodes[0], func(n *tokens.Application) { n.Limits = map[string]string{"token": "10/m", "read": "off"} })
	rate, ok := app.Rates().Get(limit.Token)
	require.True(t, ok)
	require.Equal(t, limit.Rate{Count: 10, Per: time.Minute}, rate)
	plain, _ := App(t, nodes[0])
	require.Nil(t, plain.Rates())
	_, _, err = nodes[0].CreateApplication(ctx, tokens.Application{Name: "Typo", Limits: map[string]string{"token": "10 a minute"}})
	require.ErrorIs(t, err, tokens.ErrInvalidApplication)
	require.ErrorContains(t, err, `limits: token: rate "10 a minute" should look like "60/1m"`)
}

func testLimitsOutage(t *testing.T, _ Opener) {
	store := newStore(t)
	a, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{Secret}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	require.NoError(t, store.Close())
	_, err = a.Debit(t.Context(), limit.Key{Policy: limit.Read, Subject: "app"}, limit.Rate{Count: 1, Per: time.Second}, 1)
	require.ErrorIs(t, err, tokens.ErrUnavailable)
}
