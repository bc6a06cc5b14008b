// SPDX-License-Identifier: MIT

package tokens

import (
	"crypto/sha256"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/knowntokens"
	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// cache is what a gateway remembers between requests. Entries are immutable;
// a change in Redis removes them (see package feed), it never edits them.
//
// Should a change ever be missed (a gateway died between writing and telling),
// maxAge bounds how long anybody goes on not knowing it.
type cache struct {
	entries      int                                // how many tokens
	tokens       atomic.Pointer[knowntokens.Table]  // replaced by an empty one to forget all
	applications *otter.Cache[string, *Application] // by id
	aliases      *otter.Cache[string, string]       // alias → id
	users        *otter.Cache[userID, *User]        // by public id
	mails        *otter.Cache[Mail, string]         // mail → public id
	// told are the revocations, by record or family, that every gateway was told of, and
	// at which server.
	told *otter.Cache[string, feed.Snapshot]
	// noted is when the use of a secret, or of a user, was last written. It is not read
	// from Redis, and so not forgotten with what is.
	noted *otter.Cache[notedKey, notedUse]

	epochs *memory.Epochs
}

// maxAge is for how long anything remembered is used.
const maxAge = 10 * time.Minute

// outdated reports whether what was read from Redis then has to be read again.
func outdated(then, now time.Time) bool { return now.Sub(then) > maxAge }

func newCache(entries int) *cache {
	c := &cache{
		entries:      entries,
		applications: memory.NewBounded[string, *Application](max(entries/10, 1000)),
		aliases:      memory.NewBounded[string, string](max(entries/10, 1000)),
		users:        memory.NewBounded[userID, *User](entries),
		mails:        memory.NewBounded[Mail, string](entries),
		told:         memory.NewBounded[string, feed.Snapshot](entries),
		noted:        memory.NewBounded[notedKey, notedUse](max(entries/10, 1000)),
		epochs:       memory.NewEpochs(),
	}
	c.tokens.Store(knowntokens.New(entries))
	return c
}

// notedKey is a secret of an application, or a user.
type notedKey struct{ application, id string }

type notedUse struct {
	at time.Time
	// backendUserID is Meet's id of the user.
	backendUserID string
}

// mayNote reports whether a use was not noted within the last minute, or with another
// id of the user at Meet, and takes it for noted from now on.
func (c *cache) mayNote(k notedKey, backendUserID string, now time.Time) bool {
	last, ok := c.noted.GetIfPresent(k)
	if ok && now.Sub(last.at) < time.Minute && last.backendUserID == backendUserID {
		return false
	}
	c.noted.Set(k, notedUse{now, backendUserID})
	return true
}

// token returns a token that was verified.
func (c *cache) token(sum [sha256.Size]byte) (t accessToken, ok bool) {
	t.Token, ok = c.tokens.Load().Get(sum)
	return t, ok
}

// fillToken puts a token that was read after since was taken, under the key of its
// record.
func (c *cache) fillToken(sum [sha256.Size]byte, t *accessToken, key string, since memory.Epoch) {
	c.epochs.Fill(key, since, func() {
		if !c.tokens.Load().Add(sum, redisdb.RecordOf(t.ID[:]).Beginning(), &t.Token) {
			c.tokens.Store(knowntokens.New(c.entries)) // most of so many classes are out of use
		}
	})
}

// forget drops what was read at a key.
func (c *cache) forget(key string) {
	c.epochs.Count(key)
	kind, id, _ := strings.Cut(strings.TrimPrefix(key, redisdb.KeyPrefix), ":")
	switch kind {
	case "t":
		if record, ok := redisdb.ParseRecordID(id); ok {
			c.tokens.Load().Forget(record.Beginning())
		}
	case "a":
		c.applications.Invalidate(id)
	case "c":
		c.aliases.Invalidate(id)
	case "u":
		c.users.Invalidate(userIDOf(id))
	}
}

// dropAll forgets everything: what was missed is not known.
func (c *cache) dropAll() {
	c.epochs.CountAll()
	c.tokens.Store(knowntokens.New(c.entries))
	c.applications.InvalidateAll()
	c.aliases.InvalidateAll()
	c.users.InvalidateAll()
	c.mails.InvalidateAll()
}
