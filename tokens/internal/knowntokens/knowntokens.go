// SPDX-License-Identifier: MIT

// Package knowntokens is a table of verified access tokens, found by the hash of the
// whole token.
//
// A gateway can know a million tokens, so an entry holds no pointers: the garbage
// collector does not scan the table. Values that many tokens share are kept once, in a
// class. When the table is full, a token that was not used lately makes room.
package knowntokens

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Token is a verified access token.
type Token struct {
	ID   [vault.TokenID]byte // "jti"
	User [vault.UserID]byte  // "sub"

	Application string // "client_id"
	KeyID       string // "kid"
	Scope       string // as in the token
	// Scopes are those of Scope. They are shared and must not be changed; nil unless the
	// token comes from a [Table].
	Scopes grammar.Scopes

	// Issued and Expires are in unix seconds.
	Issued, Expires int64
	// Read is when the record was read from Redis, in unix seconds.
	Read int64
	// Generations are those of the installation, the application, the user and the grant
	// under which the token was issued.
	Generations [4]uint64
}

// Table is a table of tokens with a maximum size. It is safe for concurrent use.
type Table struct {
	shards []shard // by hash of the token

	maxClasses int
	mu         sync.Mutex
	numbers    map[classKey]uint32
	classes    atomic.Pointer[[]*class] // by number; the slice only grows
}

// class holds the values that many tokens share.
type class struct {
	classKey
	scopes grammar.Scopes
}

type classKey struct {
	application, keyID, scope string
	// The generations of the installation and of the application.
	generations [2]uint64
}

// sumPrefix is the first half of a hash. Its 128 bits are about as many as a token's id has.
type sumPrefix [sha256.Size / 2]byte

// entry is a token in the table. It must not hold pointers.
type entry struct {
	sum    sumPrefix
	id     [vault.TokenID]byte
	user   [vault.UserID]byte
	record uint32 // the beginning of the record's name
	// nextSum and nextRecord are the next slots in the two chains that the entry is in.
	nextSum, nextRecord uint32

	class uint32
	used  atomic.Bool // since the clock hand last passed
	// Unix times fit until 2106.
	issued, read uint32
	lifetime     int32 // seconds
	// The generations of the user and of the grant.
	generations [2]uint64
}

const (
	// chunkSize is how many entries are allocated at a time. A growing slice would be half
	// empty. This many fill 4 KiB, which is one of the sizes that Go allocates.
	chunkSize = 42

	// manyEntries is the size from which a table is split into shards, to share the locks.
	manyEntries = 4096
	manyShards  = 16
)

// shard is a hash table with two chained indexes and a clock for eviction. Slots count
// from 1; 0 ends a chain.
type shard struct {
	mu       sync.RWMutex
	chunks   []*[chunkSize]entry
	bySum    []uint32 // the first slot of each chain
	byRecord []uint32
	free     uint32 // the first slot in the chain of free ones, linked by nextSum
	filled   uint32 // slots that were ever used
	count    int
	hand     uint32
}

// New makes a table for a number of entries.
func New(entries int) *Table {
	n := 1
	if entries > manyEntries {
		n = manyShards
	}
	t := &Table{shards: make([]shard, n), maxClasses: entries, numbers: map[classKey]uint32{}}
	t.classes.Store(new([]*class))
	for i := range t.shards {
		size := max(entries/n, 1)
		t.shards[i].bySum, t.shards[i].byRecord = make([]uint32, size), make([]uint32, size)
	}
	return t
}

// Get returns a token by the hash of the whole token.
func (t *Table) Get(sum [sha256.Size]byte) (token Token, ok bool) {
	s := t.shard(&sum)
	s.mu.RLock()
	defer s.mu.RUnlock()
	slot := s.find((*sumPrefix)(sum[:]))
	if slot == 0 {
		return token, false
	}
	e := s.at(slot)
	if !e.used.Load() {
		e.used.Store(true)
	}
	c := (*t.classes.Load())[e.class]
	return Token{
		ID: e.id, User: e.user, Application: c.application, KeyID: c.keyID, Scope: c.scope, Scopes: c.scopes,
		Issued: int64(e.issued), Expires: int64(e.issued) + int64(e.lifetime), Read: int64(e.read),
		Generations: [4]uint64{c.generations[0], c.generations[1], e.generations[0], e.generations[1]},
	}, true
}

// Add puts a token in, with the beginning of its record's name, and sets its Scopes. It
// reports false if the table is full of classes; the caller then starts a new table.
func (t *Table) Add(sum [sha256.Size]byte, record uint32, token *Token) bool {
	number, c, ok := t.classOf(token)
	if !ok {
		return false
	}
	token.Scopes = c.scopes
	s := t.shard(&sum)
	s.lockWithRoom()
	defer s.mu.Unlock()
	slot := s.find((*sumPrefix)(sum[:]))
	if slot == 0 {
		slot = s.insert((*sumPrefix)(sum[:]), record)
	}
	e := s.at(slot)
	e.id, e.user, e.class = token.ID, token.User, number
	e.issued, e.lifetime, e.read = uint32(token.Issued), int32(token.Expires-token.Issued), uint32(token.Read)
	e.generations = [2]uint64(token.Generations[2:])
	return true
}

// Forget removes the tokens whose record's name has the given beginning. Removing one
// token too many is harmless: it is verified again.
func (t *Table) Forget(record uint32) {
	for i := range t.shards {
		t.shards[i].forget(record)
	}
}

// Len returns the number of tokens.
func (t *Table) Len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		n += s.count
		s.mu.RUnlock()
	}
	return n
}

func (t *Table) shard(sum *[sha256.Size]byte) *shard { return &t.shards[int(sum[31])%len(t.shards)] }

// classOf returns the class of a token and its number. It makes the class if need be.
func (t *Table) classOf(token *Token) (number uint32, c *class, ok bool) {
	key := classKey{token.Application, token.KeyID, token.Scope, [2]uint64(token.Generations[:2])}
	t.mu.Lock()
	defer t.mu.Unlock()
	all := *t.classes.Load()
	if number, ok = t.numbers[key]; ok {
		return number, all[number], true
	}
	if len(all) >= t.maxClasses {
		return 0, nil, false
	}
	// The texts are parts of a whole token, which must not stay in memory.
	key.application, key.keyID, key.scope = strings.Clone(key.application), strings.Clone(key.keyID), strings.Clone(key.scope)
	scopes, _ := grammar.ParseScopes(key.scope) // checked when the token was parsed
	number, c = uint32(len(all)), &class{key, slices.Clip(scopes)}
	longer := append(all, c)
	t.classes.Store(&longer)
	t.numbers[key] = number
	return number, c, true
}

func (s *shard) at(slot uint32) *entry { return &s.chunks[(slot-1)/chunkSize][(slot-1)%chunkSize] }

func (s *shard) sumChain(sum *sumPrefix) *uint32 {
	return &s.bySum[binary.BigEndian.Uint32(sum[:])%uint32(len(s.bySum))]
}

func (s *shard) recordChain(record uint32) *uint32 {
	return &s.byRecord[record%uint32(len(s.byRecord))]
}

// find returns the slot of a token, or 0.
func (s *shard) find(sum *sumPrefix) uint32 {
	slot := *s.sumChain(sum)
	for slot != 0 && s.at(slot).sum != *sum {
		slot = s.at(slot).nextSum
	}
	return slot
}

// lockWithRoom locks the shard for an insertion. It allocates without the lock, because an
// allocation may have to assist the garbage collector.
func (s *shard) lockWithRoom() {
	s.mu.Lock()
	for s.lacksChunk() {
		s.mu.Unlock()
		chunk := new([chunkSize]entry)
		s.mu.Lock()
		if s.lacksChunk() {
			s.chunks = append(s.chunks, chunk)
		}
	}
}

func (s *shard) lacksChunk() bool {
	return s.free == 0 && int(s.filled) < len(s.bySum) && int(s.filled) == chunkSize*len(s.chunks)
}

// insert puts a new entry into both chains.
func (s *shard) insert(sum *sumPrefix, record uint32) (slot uint32) {
	slot = s.room()
	e := s.at(slot)
	e.sum, e.record = *sum, record
	e.used.Store(false)
	first := s.sumChain(sum)
	e.nextSum, *first = *first, slot
	first = s.recordChain(record)
	e.nextRecord, *first = *first, slot
	s.count++
	return slot
}

// room returns a free slot. In a full shard it removes the first entry that was not used
// since the clock hand last passed.
func (s *shard) room() (slot uint32) {
	if s.free == 0 && int(s.filled) < len(s.bySum) {
		s.filled++
		return s.filled
	}
	for s.free == 0 {
		s.hand = s.hand%s.filled + 1
		if !s.at(s.hand).used.Swap(false) {
			s.remove(s.hand)
		}
	}
	slot = s.free
	s.free = s.at(slot).nextSum
	return slot
}

// remove takes an entry out of both chains and frees its slot.
func (s *shard) remove(slot uint32) {
	e := s.at(slot)
	link := s.sumChain(&e.sum)
	for *link != slot {
		link = &s.at(*link).nextSum
	}
	*link = e.nextSum
	link = s.recordChain(e.record)
	for *link != slot {
		link = &s.at(*link).nextRecord
	}
	*link = e.nextRecord
	e.nextSum, s.free = s.free, slot
	s.count--
}

func (s *shard) forget(record uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for slot := *s.recordChain(record); slot != 0; {
		e := s.at(slot)
		next := e.nextRecord
		if e.record == record {
			s.remove(slot)
		}
		slot = next
	}
}
