// SPDX-License-Identifier: MIT

// Package memory keeps values of Redis in memory, and outdated ones out of it.
//
// The news that a value changed may arrive between reading it from Redis and putting it
// into memory. So every key belongs to one of a few epochs. An invalidation counts the
// epoch up before it removes the entry, and a value is put into memory only if the epoch
// has not moved since before the read.
package memory

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// Epochs are the epochs of all keys.
type Epochs struct {
	// filling excludes filling while an epoch is counted up, so that an outdated value is
	// never in memory, even for a moment.
	filling sync.RWMutex
	seed    maphash.Seed
	epochs  [256]atomic.Uint64
	// all counts invalidations of everything, and is part of every epoch.
	all atomic.Uint64
}

// Epoch is a value of the counters of a key.
type Epoch struct{ one, all uint64 }

// NewEpochs makes epochs.
func NewEpochs() *Epochs { return &Epochs{seed: maphash.MakeSeed()} }

func (e *Epochs) of(key string) *atomic.Uint64 {
	return &e.epochs[maphash.String(e.seed, key)%uint64(len(e.epochs))]
}

// Now is the current epoch of a key. Take it before reading the key.
func (e *Epochs) Now(key string) Epoch { return Epoch{e.of(key).Load(), e.all.Load()} }

// Fill calls put unless the key has changed since the epoch since was taken. put stores a
// value read after that.
func (e *Epochs) Fill(key string, since Epoch, put func()) {
	e.filling.RLock()
	defer e.filling.RUnlock()
	if e.Now(key) == since {
		put()
	}
}

// Count counts the epoch of a key up. Values read before are not filled afterwards.
func (e *Epochs) Count(key string) { e.count(e.of(key)) }

// CountAll counts the epochs of all keys up.
func (e *Epochs) CountAll() { e.count(&e.all) }

func (e *Epochs) count(epoch *atomic.Uint64) {
	e.filling.Lock()
	defer e.filling.Unlock()
	epoch.Add(1)
}
