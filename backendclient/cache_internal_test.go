// SPDX-License-Identifier: MIT

package backendclient

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	_ "github.com/meet-gateway/meet-gateway/tests/seed" // the same properties each time
)

func TestCache_ExpiresOnTime(t *testing.T) {
	t.Parallel()
	c := newCache[string, int](2)
	now := time.Unix(1000, 0)
	c.put("a", 1, now.Add(time.Second))

	_, ok := c.get("a", now.Add(time.Second-1))
	require.True(t, ok)
	_, ok = c.get("a", now.Add(time.Second))
	require.False(t, ok)
}

func TestCache_EvictsOldest(t *testing.T) {
	t.Parallel()
	c := newCache[string, int](2)
	now := time.Unix(1000, 0)
	later := now.Add(time.Hour)
	c.put("a", 1, later)
	c.put("b", 2, later)
	c.put("a", 3, later) // a is newer than b now
	c.put("c", 4, later)

	_, ok := c.get("b", now)
	require.False(t, ok)
	a, ok := c.get("a", now)
	require.True(t, ok)
	require.Equal(t, 3, a)
	require.Equal(t, 2, c.len())
}

// The cache behaves as a map with a list of the insertion order.
func TestCache_BehavesAsBoundedMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		c := newCache[int, int](limit)
		now := time.Unix(1000, 0)
		model := map[int]int{}
		var order []int
		without := func(key int) {
			delete(model, key)
			for i, k := range order {
				if k == key {
					order = append(order[:i:i], order[i+1:]...)
					return
				}
			}
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			key := rapid.IntRange(0, 7).Draw(t, "key")
			if rapid.Bool().Draw(t, "put") {
				value := rapid.Int().Draw(t, "value")
				c.put(key, value, now.Add(time.Hour))
				if _, ok := model[key]; !ok && len(model) == limit {
					without(order[0])
				}
				without(key)
				model[key] = value
				order = append(order, key)
			} else {
				c.drop(key)
				without(key)
			}
			if c.len() != len(model) {
				t.Fatalf("%d entries, want %d", c.len(), len(model))
			}
			for k := range 8 {
				got, ok := c.get(k, now)
				want, known := model[k]
				if ok != known || got != want {
					t.Fatalf("key %d: %d %t, want %d %t", k, got, ok, want, known)
				}
			}
		}
	})
}
