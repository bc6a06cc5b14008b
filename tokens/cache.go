// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"crypto/sha256"
	"sync/atomic"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/knowntokens"
	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// cache is the memory of a gateway between requests. Entries are immutable: a change in Redis
// removes them (see package feed).
type cache struct {
	entries      int                                   // maximum number of tokens
	tokens       atomic.Pointer[knowntokens.Table]     // replaced by an empty one to forget all
	applications *memory.Bounded[string, *Application] // by id
	aliases      *memory.Bounded[string, string]       // alias → id
	users        *memory.Bounded[userID, packedUser]   // by public id
	mails        *memory.Bounded[Mail, string]         // mail → public id
	// revocations are the tokens and families whose revocation this gateway has published, by
	// key, and the server that it was made on.
	revocations *memory.Bounded[string, feed.Snapshot]
	// uses are the last recorded uses of secrets and users. They do not come from Redis, so
	// forget and dropAll leave them.
	uses *memory.Bounded[useKey, use]

	epochs *memory.Epochs
}

// maxAge is how long an entry is used. It bounds how long a missed change goes unnoticed: a
// gateway may die between writing a change and publishing it.
const maxAge = 10 * time.Minute

// outdated reports whether an entry that was read at then must be read again.
func outdated(then, now time.Time) bool { return now.Sub(then) > maxAge }

func newCache(entries int) *cache {
	c := &cache{
		entries:      entries,
		applications: memory.NewBounded[string, *Application](max(entries/10, 1000)),
		aliases:      memory.NewBounded[string, string](max(entries/10, 1000)),
		users:        memory.NewBounded[userID, packedUser](entries),
		mails:        memory.NewBounded[Mail, string](entries),
		revocations:  memory.NewBounded[string, feed.Snapshot](entries),
		uses:         memory.NewBounded[useKey, use](max(entries/10, 1000)),
		epochs:       memory.NewEpochs(),
	}
	c.tokens.Store(knowntokens.New(entries))
	return c
}

// useKey is a secret of an application, or a user.
type useKey struct{ application, id string }

type use struct {
	at            time.Time
	backendUserID string // Meet's id of the user
}

// useIsDue reports whether a use is to be recorded: none was within the last minute, or Meet's
// id of the user has changed; "" is no change. It counts the use as recorded.
func (c *cache) useIsDue(k useKey, backendUserID string, now time.Time) bool {
	last, ok := c.uses.Load(k)
	backendUserID = cmp.Or(backendUserID, last.backendUserID)
	if ok && now.Sub(last.at) < time.Minute && last.backendUserID == backendUserID {
		return false
	}
	c.uses.Store(k, use{now, backendUserID})
	return true
}

// token returns a token that was verified before.
func (c *cache) token(sum [sha256.Size]byte) (t accessToken, ok bool) {
	t.Token, ok = c.tokens.Load().Get(sum)
	return t, ok
}

// user returns a user that was read before, or nil.
func (c *cache) user(id userID) *User {
	packed, ok := c.users.Load(id)
	if !ok {
		return nil
	}
	return packed.unpack(id)
}

// fillToken adds a token whose record at key was read after since.
func (c *cache) fillToken(sum [sha256.Size]byte, t *accessToken, key string, since memory.Epoch) {
	c.epochs.Fill(key, since, func() {
		if !c.tokens.Load().Add(sum, redisdb.RecordOf(t.ID[:]).Beginning(), &t.Token) {
			c.tokens.Store(knowntokens.New(c.entries)) // most of so many classes are out of use
		}
	})
}

// forget drops what was read from a key.
func (c *cache) forget(key string) {
	c.epochs.Count(key)
	switch kind, id := redisdb.ParseKey(key); kind {
	case redisdb.KindToken:
		if record, ok := redisdb.ParseRecordID(id); ok {
			c.tokens.Load().Forget(record.Beginning())
		}
	case redisdb.KindApplication:
		c.applications.Delete(id)
	case redisdb.KindAlias:
		c.aliases.Delete(id)
	case redisdb.KindUser:
		c.users.Delete(userIDOf(id))
	}
}

// dropAll drops everything that was read from Redis.
func (c *cache) dropAll() {
	c.epochs.CountAll()
	c.tokens.Store(knowntokens.New(c.entries))
	c.applications.Clear()
	c.aliases.Clear()
	c.users.Clear()
	c.mails.Clear()
}
