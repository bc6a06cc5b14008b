// SPDX-License-Identifier: MIT

package memory_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
)

func TestBounded(t *testing.T) {
	b := memory.NewBounded[string, int](3)
	_, ok := b.Load("a")
	require.False(t, ok)
	b.Store("a", 1)
	b.Store("a", 2)
	require.Equal(t, 2, b.LoadOrStore("a", 3))
	require.Equal(t, 4, b.LoadOrStore("b", 4))
	value, ok := b.Load("a")
	require.True(t, ok)
	require.Equal(t, 2, value)
	require.Equal(t, 2, b.Len())

	b.Delete("a")
	b.Delete("none")
	_, ok = b.Load("a")
	require.False(t, ok)
	b.Clear()
	require.Zero(t, b.Len())
}

// A full map keeps the newest entry, and replaces nothing when a known key is stored.
func TestBounded_Full(t *testing.T) {
	const limit = 100
	b := memory.NewBounded[int, int](limit)
	for i := range 10 * limit {
		if i%2 == 0 {
			b.Store(i, i)
		} else {
			b.LoadOrStore(i, i)
		}
		require.Equal(t, min(i+1, limit), b.Len())
		value, ok := b.Load(i)
		require.True(t, ok)
		require.Equal(t, i, value)
		b.Store(i, i)
		require.Equal(t, min(i+1, limit), b.Len())
	}
}

// A full map whose values are ranked never drops the highest ones.
func TestBounded_Ranked(t *testing.T) {
	const limit = 100
	b := memory.NewRanked[int](limit, func(a, b int) bool { return a < b })
	for i := range 5 {
		b.Store(i, 1_000_000)
	}
	for i := range 100 * limit {
		b.LoadOrStore(1000+i, i)
		require.LessOrEqual(t, b.Len(), limit)
	}
	for i := range 5 {
		_, ok := b.Load(i)
		require.True(t, ok)
	}
}

// Goroutines that ask for the same key get the same value.
func TestBounded_LoadOrStoreAtOnce(t *testing.T) {
	b := memory.NewBounded[int, *int](10)
	got := make([]*int, 8)
	var wait sync.WaitGroup
	for i := range got {
		wait.Go(func() { got[i] = b.LoadOrStore(1, new(int)) })
	}
	wait.Wait()
	for _, one := range got {
		require.Same(t, got[0], one)
	}
}
