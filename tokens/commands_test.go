// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/embedded"
)

// OnCommand receives the name, the duration and the outcome of each command.
func TestStore_OnCommand(t *testing.T) {
	t.Parallel()
	store, err := embedded.Open()
	require.NoError(t, err)
	var mu sync.Mutex
	var commands []tokens.Command
	store.OnCommand(func(_ context.Context, c tokens.Command) {
		mu.Lock()
		defer mu.Unlock()
		commands = append(commands, c)
	})
	require.NoError(t, store.Ping(t.Context()))
	store.OnCommand(nil)
	require.NoError(t, store.Ping(t.Context()))
	mu.Lock()
	require.Equal(t, "ping", commands[len(commands)-1].Name)
	require.Empty(t, commands[len(commands)-1].Problem)
	require.WithinDuration(t, time.Now(), commands[len(commands)-1].Began, time.Minute)
	require.Positive(t, commands[len(commands)-1].Took)
	mu.Unlock()

	require.NoError(t, store.Close())
	store.OnCommand(func(_ context.Context, c tokens.Command) {
		mu.Lock()
		defer mu.Unlock()
		commands = append(commands, c)
	})
	require.Error(t, store.Ping(t.Context()))
	mu.Lock()
	defer mu.Unlock()
	require.NotEmpty(t, commands[len(commands)-1].Problem)
}

// Health reports an unavailable store without a request.
func TestAuthority_Health(t *testing.T) {
	t.Parallel()
	store, err := embedded.Open()
	require.NoError(t, err)
	a, err := tokens.New(tokens.Options{Store: store, Secrets: [][]byte{[]byte("0123456789-0123456789-0123456789")}})
	require.NoError(t, err)
	a.Start()
	require.Eventually(t, a.Fresh, 30*time.Second, time.Millisecond)
	h := a.Health(t.Context())
	require.Empty(t, h.Problem)
	require.True(t, h.Fresh)
	require.Equal(t, "embedded", h.Mode)
	require.Equal(t, 1, h.Keys)
	require.Zero(t, h.Replacements)
	require.NoError(t, store.Close())
	require.Equal(t, "unreachable", a.Health(t.Context()).Problem)
	require.NoError(t, a.Close())
}
