// SPDX-License-Identifier: MIT

package tokens

import (
	"crypto/sha256"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// cache is what a gateway remembers between requests. Entries are immutable;
// a change in Redis removes them (see package feed), it never edits them.
//
// A value is read from Redis and then put here, and the news that it changed
// may arrive in between. Every key therefore belongs to one of a few epochs: an
// invalidation counts the epoch up before it removes the entry, and a value is put
// here only if the epoch has not moved since before its read.
//
// Should a change ever be missed (a gateway died between writing and telling),
// maxAge bounds how long anybody goes on not knowing it.
type cache struct {
	tokens       *otter.Cache[[sha256.Size]byte, *accessToken] // by hash of the whole token
	applications *otter.Cache[string, *Application]            // by id
	aliases      *otter.Cache[string, string]                  // alias → id
	users        *otter.Cache[string, *User]                   // by public id
	mails        *otter.Cache[Mail, string]                    // mail → public id
	installation atomic.Pointer[installation]
	records      recordIndex // finds tokens by the keys of their records
	// told are the revocations, by record or family, that every gateway was told of, and
	// at which server.
	told *otter.Cache[string, feed.Snapshot]

	// filling keeps what fills the cache apart from what empties it, so that a value
	// that is out of date is not there even for a moment.
	filling sync.RWMutex
	seed    maphash.Seed
	epochs  [256]atomic.Uint64
	// all counts whole-cache invalidations; it takes part in every epoch.
	all atomic.Uint64
}

// maxAge is for how long anything remembered is used.
const maxAge = 10 * time.Minute

// outdated reports whether what was read from Redis then has to be read again.
func outdated(then, now time.Time) bool { return now.Sub(then) > maxAge }

func newCache(entries int) *cache {
	c := &cache{
		applications: newBounded[string, *Application](max(entries/10, 1000)),
		aliases:      newBounded[string, string](max(entries/10, 1000)),
		users:        newBounded[string, *User](entries),
		mails:        newBounded[Mail, string](entries),
		told:         newBounded[string, feed.Snapshot](entries),
		seed:         maphash.MakeSeed(),
	}
	c.tokens = otter.Must(&otter.Options[[sha256.Size]byte, *accessToken]{
		MaximumSize: entries, Executor: func(f func()) { f() }, OnAtomicDeletion: c.records.deleted,
	})
	return c
}

// recordIndex has the hash of each token that is remembered, by the key of its
// record: a revocation by id does not know the token.
type recordIndex struct {
	mu     sync.Mutex
	hashes map[string][sha256.Size]byte
}

func (r *recordIndex) put(key string, sum [sha256.Size]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hashes == nil {
		r.hashes = map[string][sha256.Size]byte{}
	}
	r.hashes[key] = sum
}

func (r *recordIndex) get(key string) ([sha256.Size]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum, ok := r.hashes[key]
	return sum, ok
}

func (r *recordIndex) remove(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hashes, key)
}

// deleted follows the cache of tokens.
func (r *recordIndex) deleted(e otter.DeletionEvent[[sha256.Size]byte, *accessToken]) {
	if e.Cause != otter.CauseReplacement {
		r.remove(redisdb.KeyToken(e.Value.id))
	}
}

func newBounded[K comparable, V any](entries int) *otter.Cache[K, V] {
	return otter.Must(&otter.Options[K, V]{MaximumSize: entries, Executor: func(f func()) { f() }})
}

// epoch is a point in the life of a key.
type epoch struct{ one, all uint64 }

func (c *cache) epochOf(key string) *atomic.Uint64 {
	return &c.epochs[maphash.String(c.seed, key)%uint64(len(c.epochs))]
}

func (c *cache) now(key string) epoch {
	return epoch{c.epochOf(key).Load(), c.all.Load()}
}

// fill puts a value that was read from Redis after since was taken.
func fill[K comparable, V any](c *cache, in *otter.Cache[K, V], k K, v V, epochKey string, since epoch) {
	c.filling.RLock()
	defer c.filling.RUnlock()
	if c.now(epochKey) == since {
		in.Set(k, v)
	}
}

// fillToken is fill for a token, under the key of its record.
func (c *cache) fillToken(sum [sha256.Size]byte, t *accessToken, key string, since epoch) {
	c.filling.RLock()
	defer c.filling.RUnlock()
	if c.now(key) != since {
		return
	}
	c.tokens.Set(sum, t)
	c.records.put(key, sum)
	if _, kept := c.tokens.GetEntryQuietly(sum); !kept { // evicted before it was in the index
		c.records.remove(key)
	}
}

// fillInstallation is fill for the installation.
func (c *cache) fillInstallation(in *installation, since epoch) {
	c.filling.RLock()
	defer c.filling.RUnlock()
	if c.now(redisdb.KeyInstallation) == since {
		c.installation.Store(in)
	}
}

// count counts an epoch up. Nothing is being filled meanwhile, and what was read
// before is not filled afterwards.
func (c *cache) count(epoch *atomic.Uint64) {
	c.filling.Lock()
	defer c.filling.Unlock()
	epoch.Add(1)
}

// forget drops what was read at a key.
func (c *cache) forget(key string) {
	c.count(c.epochOf(key))
	kind, id, _ := strings.Cut(strings.TrimPrefix(key, redisdb.KeyPrefix), ":")
	switch {
	case key == redisdb.KeyInstallation:
		c.installation.Store(nil)
	case kind == "t":
		if sum, ok := c.records.get(key); ok {
			c.tokens.Invalidate(sum)
		}
	case kind == "a":
		c.applications.Invalidate(id)
	case kind == "c":
		c.aliases.Invalidate(id)
	case kind == "u":
		c.users.Invalidate(id)
	}
}

// dropAll forgets everything: what was missed is not known.
func (c *cache) dropAll() {
	c.count(&c.all)
	c.tokens.InvalidateAll()
	c.applications.InvalidateAll()
	c.aliases.InvalidateAll()
	c.users.InvalidateAll()
	c.mails.InvalidateAll()
	c.installation.Store(nil)
}
