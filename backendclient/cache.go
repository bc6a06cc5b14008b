// SPDX-License-Identifier: MIT

package backendclient

import (
	"hash/maphash"
	"sync"
	"time"
)

// cache is a bounded map whose entries expire. get checks expiry, so no goroutine sweeps.
// When the cache is full, put evicts the oldest entry, not the least recently used one: a hit
// then needs no write lock, and entries expire in about the order of their insertion.
//
// otter, a library of caches, may reject the newest entry when it is full, such as the note that
// Meet has just refused a token.
//
// The map holds hashes of the keys, because a key can be as large as the rest of its entry.
// Hashes have 64 bits and a random seed in each process. Of two keys with the same hash, the
// newer one is kept.
type cache[K comparable, V any] struct {
	mu      sync.RWMutex
	seed    maphash.Seed
	entries map[uint64]*cached[K, V]
	first   *cached[K, V] // oldest
	last    *cached[K, V]
	limit   int
}

type cached[K comparable, V any] struct {
	key        K
	value      V
	until      time.Time
	prev, next *cached[K, V]
}

func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{seed: maphash.MakeSeed(), entries: make(map[uint64]*cached[K, V]), limit: limit}
}

func (c *cache[K, V]) hash(key K) uint64 { return maphash.Comparable(c.seed, key) }

// get returns the value for key if there is one that has not expired at now.
func (c *cache[K, V]) get(key K, now time.Time) (value V, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()

	e, found := c.entries[c.hash(key)]
	if !found || e.key != key || !now.Before(e.until) {
		return value, false
	}
	return e.value, true
}

// put replaces the value for key.
func (c *cache[K, V]) put(key K, value V, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if e, found := c.entries[c.hash(key)]; found {
		c.unlink(e)
	} else if len(c.entries) >= c.limit {
		c.unlink(c.first)
	}
	e := &cached[K, V]{key: key, value: value, until: until, prev: c.last}
	if c.last == nil {
		c.first = e
	} else {
		c.last.next = e
	}
	c.last = e
	c.entries[c.hash(key)] = e
}

// drop removes the value for key.
func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if e, found := c.entries[c.hash(key)]; found && e.key == key {
		c.unlink(e)
	}
}

func (c *cache[K, V]) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.entries)
}

func (c *cache[K, V]) unlink(e *cached[K, V]) {
	delete(c.entries, c.hash(e.key))
	if e.prev == nil {
		c.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		c.last = e.prev
	} else {
		e.next.prev = e.prev
	}
}
