// SPDX-License-Identifier: MIT

// Package memory keeps what was read from Redis apart from what has changed since.
//
// A value is read from Redis and then put into memory, and the news that it changed
// may arrive in between. Every key therefore belongs to one of a few epochs: an
// invalidation counts the epoch up before it removes the entry, and a value is put
// into memory only if the epoch has not moved since before its read.
package memory

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

// Epochs are those of all keys.
type Epochs struct {
	// filling keeps what fills memory apart from what empties it, so that a value
	// that is out of date is not there even for a moment.
	filling sync.RWMutex
	seed    maphash.Seed
	epochs  [256]atomic.Uint64
	// all counts invalidations of everything; it takes part in every epoch.
	all atomic.Uint64
}

// Epoch is a point in the life of a key.
type Epoch struct{ one, all uint64 }

// NewEpochs makes epochs.
func NewEpochs() *Epochs { return &Epochs{seed: maphash.MakeSeed()} }

func (e *Epochs) of(key string) *atomic.Uint64 {
	return &e.epochs[maphash.String(e.seed, key)%uint64(len(e.epochs))]
}

// Now is the epoch of a key, to be taken before it is read.
func (e *Epochs) Now(key string) Epoch { return Epoch{e.of(key).Load(), e.all.Load()} }

// Fill calls put, which puts a value into memory that was read from a key after since
// was taken, unless the key has changed meanwhile.
func (e *Epochs) Fill(key string, since Epoch, put func()) {
	e.filling.RLock()
	defer e.filling.RUnlock()
	if e.Now(key) == since {
		put()
	}
}

// Count counts the epoch of a key up. Nothing is being filled meanwhile, and what was
// read before is not filled afterwards.
func (e *Epochs) Count(key string) { e.count(e.of(key)) }

// CountAll counts the epochs of all keys up.
func (e *Epochs) CountAll() { e.count(&e.all) }

func (e *Epochs) count(epoch *atomic.Uint64) {
	e.filling.Lock()
	defer e.filling.Unlock()
	epoch.Add(1)
}

// NewBounded makes a cache of so many entries.
func NewBounded[K comparable, V any](entries int) *otter.Cache[K, V] {
	return otter.Must(&otter.Options[K, V]{MaximumSize: entries, Executor: func(f func()) { f() }})
}
