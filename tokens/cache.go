package tokens

import (
	"crypto/sha256"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// cache is what a gateway remembers between requests. Entries are immutable;
// a change in Redis removes them (see feed.go), it never edits them.
//
// A value is read from Redis and then put here, and the news that it changed
// may arrive in between. Every key therefore belongs to one of a few epochs: an
// invalidation counts the epoch up before it removes the entry, and who fills
// the cache removes its own entry again if the epoch moved since before its read.
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

	seed   maphash.Seed
	epochs [256]atomic.Uint64
	// all counts whole-cache invalidations; it takes part in every epoch.
	all atomic.Uint64
}

// maxAge is for how long anything remembered is used.
const maxAge = 10 * time.Minute

// outdated reports whether what was read from Redis then has to be read again.
func outdated(then, now time.Time) bool { return now.Sub(then) > maxAge }

func newCache(entries int) *cache {
	return &cache{
		tokens:       newBounded[[sha256.Size]byte, *accessToken](entries),
		applications: newBounded[string, *Application](max(entries/10, 1000)),
		aliases:      newBounded[string, string](max(entries/10, 1000)),
		users:        newBounded[string, *User](entries),
		mails:        newBounded[Mail, string](entries),
		seed:         maphash.MakeSeed(),
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
	in.Set(k, v)
	if c.now(epochKey) != since {
		in.Invalidate(k)
	}
}

func (c *cache) dropToken(sum [sha256.Size]byte) {
	c.epochOf(string(sum[:])).Add(1)
	c.tokens.Invalidate(sum)
}

func (c *cache) dropApplication(id string) {
	c.epochOf(keyApplication(id)).Add(1)
	c.applications.Invalidate(id)
}

func (c *cache) dropAlias(alias string) {
	c.epochOf(keyAlias(alias)).Add(1)
	c.aliases.Invalidate(alias)
}

func (c *cache) dropUser(id string) {
	c.epochOf(keyUser(id)).Add(1)
	c.users.Invalidate(id)
}

func (c *cache) dropInstallation() {
	c.epochOf(keyInstallation).Add(1)
	c.installation.Store(nil)
}

// dropAll forgets everything: what was missed is not known.
func (c *cache) dropAll() {
	c.all.Add(1)
	c.tokens.InvalidateAll()
	c.applications.InvalidateAll()
	c.aliases.InvalidateAll()
	c.users.InvalidateAll()
	c.mails.InvalidateAll()
	c.installation.Store(nil)
}
