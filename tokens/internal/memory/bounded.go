// SPDX-License-Identifier: MIT

package memory

import "sync"

// Bounded is a map with a maximum number of entries, safe for concurrent use. When it is
// full, a new entry replaces an arbitrary one. So an entry costs no more than its place in
// the map, and a hit writes nothing.
type Bounded[K comparable, V any] struct {
	mu      sync.RWMutex
	entries map[K]V
	limit   int
	before  func(V, V) bool // nil unless NewRanked made the map
}

// candidates is how many entries a map of NewRanked compares to drop one.
const candidates = 8

// NewBounded makes a map for a number of entries, at least one.
func NewBounded[K comparable, V any](entries int) *Bounded[K, V] {
	return &Bounded[K, V]{entries: map[K]V{}, limit: entries}
}

// NewRanked is NewBounded for values that are not equally worth keeping. Of a few arbitrary
// entries, a new one replaces the one whose value is before the others.
func NewRanked[K comparable, V any](entries int, before func(V, V) bool) *Bounded[K, V] {
	return &Bounded[K, V]{entries: map[K]V{}, limit: entries, before: before}
}

// Load returns the value of a key.
func (b *Bounded[K, V]) Load(key K) (value V, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	value, ok = b.entries[key]
	return value, ok
}

// Store sets the value of a key.
func (b *Bounded[K, V]) Store(key K, value V) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.store(key, value)
}

// LoadOrStore returns the value of a key. It sets the value first if there is none.
func (b *Bounded[K, V]) LoadOrStore(key K, value V) V {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, ok := b.entries[key]; ok {
		return old
	}
	b.store(key, value)
	return value
}

func (b *Bounded[K, V]) store(key K, value V) {
	if _, ok := b.entries[key]; !ok && len(b.entries) >= b.limit {
		b.dropOne()
	}
	b.entries[key] = value
}

func (b *Bounded[K, V]) dropOne() {
	var key K
	var value V
	seen := 0
	for k, v := range b.entries { // starts anywhere
		if seen == 0 || b.before(v, value) {
			key, value = k, v
		}
		if seen++; b.before == nil || seen == candidates {
			break
		}
	}
	delete(b.entries, key)
}

// Delete removes a key.
func (b *Bounded[K, V]) Delete(key K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, key)
}

// Clear removes all keys.
func (b *Bounded[K, V]) Clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = map[K]V{} // clear would keep the memory
}

// Len returns the number of entries.
func (b *Bounded[K, V]) Len() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.entries)
}
