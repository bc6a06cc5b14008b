// SPDX-License-Identifier: MIT

package backendclient

import (
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/google/uuid"
)

// tokenCache keeps Meet's tokens in memory, up to a number of tokens.
//
// A gateway can keep a hundred thousand, so a token is packed into one string, of about 110 bytes.
// The garbage collector does not scan strings.
type tokenCache struct {
	mu     sync.RWMutex
	seed   maphash.Seed
	packed map[tokenKey]packedToken
	limit  int

	patterns *cache[patternKey, *pattern]
}

// patternKey is what tokens with the same pattern have in common: the application, and where their
// parts end. After a change in Meet, an application has tokens of two forms for a while.
type patternKey struct {
	credentials Credentials
	form        [3]int
}

// tokenKey is the hash of an identity, with a random seed in each process. Of two identities
// with the same hash, only the newer token is kept.
type tokenKey uint64

// packedToken is a token with the identity that it is for.
type packedToken struct {
	shared unique.Handle[sharedParts]
	// own is what only this token has: numbers, each a uvarint, and texts.
	//
	//	received       in unix milliseconds
	//	last use       in unix seconds; 0 if there is none
	//	lifetime       in milliseconds
	//	missed scopes
	//	mail           its length and its text
	//	user id        its place in the decoded token, its length and its text
	//	differences    of the decoded token, without the user id, from the pattern
	//
	// Without a pattern, the size of the header and Token.text take the place of the last two lines.
	own string
}

// sharedParts is what the tokens of many users have in common.
type sharedParts struct {
	identity   unique.Handle[sharedIdentity]
	scopes     *[]string
	pattern    *pattern // nil if the token is not a JWT
	uuid       bool     // Meet's id of the user is a UUID, of which own has the 16 bytes
	lastUsedBy string   // the application of the last use
}

func newTokenCache(limit int) *tokenCache {
	return &tokenCache{
		seed: maphash.MakeSeed(), packed: map[tokenKey]packedToken{}, limit: limit,
		patterns: newCache[patternKey, *pattern](maxRemembered),
	}
}

func (c *tokenCache) key(id identity) tokenKey { return tokenKey(maphash.Comparable(c.seed, id)) }

// get returns the token for an identity if there is one that is usable at now.
func (c *tokenCache) get(id identity, now time.Time) (*Token, bool) {
	kept, t, ok := c.at(c.key(id), now)
	return t, ok && kept == id
}

// at returns the token for a key, and its identity, if it is usable at now.
func (c *tokenCache) at(key tokenKey, now time.Time) (id identity, t *Token, ok bool) {
	c.mu.RLock()
	packed, ok := c.packed[key]
	c.mu.RUnlock()
	if !ok {
		return identity{}, nil, false
	}
	id, t = packed.unpack()
	return id, t, now.Before(t.usableUntil())
}

// put replaces the token for an identity. If the cache is full, it drops another one.
func (c *tokenCache) put(id identity, t *Token) tokenKey {
	key, packed := c.key(id), c.pack(id, t)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.packed[key]; !ok && len(c.packed) >= c.limit {
		c.dropOne()
	}
	c.packed[key] = packed
	return key
}

// evictionSamples is how many tokens a full cache compares to drop one.
const evictionSamples = 8

// dropOne drops the token of a few that was not used for the longest time.
func (c *tokenCache) dropOne() {
	var oldest tokenKey
	var oldestUse uint64
	seen := 0
	for key, packed := range c.packed { // starts anywhere
		if used := packed.lastUsed(); seen == 0 || used < oldestUse {
			oldest, oldestUse = key, used
		}
		if seen++; seen == evictionSamples {
			break
		}
	}
	delete(c.packed, oldest)
}

// setUse changes the last use of a token if that is still kept.
func (c *tokenCache) setUse(id identity, t *Token, last use) {
	used := *t
	used.lastUse = last
	key, packed := c.key(id), c.pack(id, &used)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holds(key, id, t) {
		c.packed[key] = packed
	}
}

// drop drops a token if it is still kept.
func (c *tokenCache) drop(id identity, t *Token) {
	key := c.key(id)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holds(key, id, t) {
		delete(c.packed, key)
	}
}

// forget drops the token for an identity, whichever it is.
func (c *tokenCache) forget(id identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.packed, c.key(id))
}

// holds reports whether a token is kept. The caller has the lock.
func (c *tokenCache) holds(key tokenKey, id identity, t *Token) bool {
	packed, ok := c.packed[key]
	if !ok {
		return false
	}
	kept, token := packed.unpack()
	return kept == id && token.Value() == t.Value()
}

func (c *tokenCache) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.packed)
}

// pack packs a token.
func (c *tokenCache) pack(id identity, t *Token) packedToken {
	own := make([]byte, 0, 256)
	own = binary.AppendUvarint(own, uint64(t.received))
	own = binary.AppendUvarint(own, uint64(t.lastUse.at))
	own = binary.AppendUvarint(own, uint64(t.expires-t.received))
	own = binary.AppendUvarint(own, uint64(t.missedScopes))
	own = appendText(own, id.mail)
	shared := sharedParts{identity: id.shared, scopes: t.scopes, lastUsedBy: t.lastUse.application}
	own = c.packText(own, id, t, &shared)
	return packedToken{unique.Make(shared), string(own)}
}

// packText appends the differences from a pattern, or the whole text if there is none.
func (c *tokenCache) packText(own []byte, id identity, t *Token, shared *sharedParts) []byte {
	token := newPattern(t.Value())
	place := -1
	if token != nil && len(t.UserID()) <= maxUserID {
		place = strings.Index(token.bytes, t.UserID())
	}
	if place < 0 {
		own = binary.AppendUvarint(own, uint64(t.headerSize))
		return append(own, t.text...)
	}
	own = binary.AppendUvarint(own, uint64(place))
	if user, err := uuid.Parse(t.UserID()); err == nil && user.String() == t.UserID() {
		shared.uuid = true
		own = appendText(own, string(user[:]))
	} else {
		own = appendText(own, t.UserID())
	}
	token.bytes = token.bytes[:place] + token.bytes[place+len(t.UserID()):]
	token.payload -= len(t.UserID())

	shared.pattern = token
	key := patternKey{id.credentials(), token.form()}
	if p, ok := c.patterns.get(key, t.Received()); ok {
		if longer := p.appendDifferences(own, token); len(longer)-len(own) < len(token.bytes)/2 {
			shared.pattern = p
			return longer
		}
	}
	c.patterns.put(key, token, t.Received().Add(maxKept))
	return own
}

// unpack returns the token and whom it is for.
func (p packedToken) unpack() (identity, *Token) {
	shared := p.shared.Value()
	received, rest := cutUvarint(p.own)
	lastUse, rest := cutUvarint(rest)
	lifetime, rest := cutUvarint(rest)
	missedScopes, rest := cutUvarint(rest)
	mail, rest := cutText(rest)
	t := &Token{
		scopes: shared.scopes, missedScopes: int32(missedScopes), received: int64(received), expires: int64(received + lifetime),
		lastUse: use{int64(lastUse), shared.lastUsedBy},
	}
	t.text, t.headerSize = shared.unpackText(rest)
	return identity{shared.identity, mail}, t
}

// unpackText returns the text of a Token and the size of the header in it.
func (s *sharedParts) unpackText(rest string) (text string, headerSize int32) {
	if s.pattern == nil {
		size, text := cutUvarint(rest)
		return text, int32(size)
	}
	place, rest := cutUvarint(rest)
	user, differences := cutText(rest)
	var space [2][512]byte // enough for Meet's tokens
	var id [maxUserID]byte
	userID := id[:copy(id[:], user)]
	if s.uuid {
		userID = appendUUID(id[:0], user)
	}
	decoded := slices.Insert(s.pattern.appendDecoded(space[0][:0], differences), int(place), userID...)
	header := s.pattern.appendEncoded(append(space[1][:0], bearer...), decoded, len(userID))
	return string(append(header, userID...)), int32(len(header))
}

// appendUUID appends the text of a UUID (RFC 9562 §4).
func appendUUID(dst []byte, id string) []byte {
	at := 0
	for _, length := range [...]int{4, 2, 2, 2, 6} {
		if at > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, []byte(id[at:at+length]))
		at += length
	}
	return dst
}

// lastUsed returns when the token was last used or received, in unix milliseconds.
func (p packedToken) lastUsed() uint64 {
	received, rest := cutUvarint(p.own)
	lastUse, _ := cutUvarint(rest)
	return max(received, 1000*lastUse)
}
