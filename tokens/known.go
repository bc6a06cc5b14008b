// SPDX-License-Identifier: MIT

package tokens

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// knownTokens are the tokens that a gateway has verified, by the hash of the whole
// token. There are many: an entry holds no pointer, so that the garbage collector looks
// at none, and what tokens have in common is there once, in a class.
//
// When a shard is full, an entry that was not used since the hand last came by makes
// room.
type knownTokens struct {
	shards []knownShard // by hash of the token
	// records has the place of each entry by the name of its record: a revocation by id
	// does not know the token. Who needs both locks takes the shard's first.
	records []recordShard

	mostClasses int
	mu          sync.Mutex
	numbers     map[classKey]uint32
	classes     atomic.Pointer[[]*class] // by number; it only grows
}

// class is what many tokens have in common.
type class struct {
	classKey
	granted atomic.Pointer[granted]
}

type classKey struct {
	app, kid, scope           string // as in accessToken
	installation, application uint64 // generations
}

// granted is which scopes of a class an application still has.
type granted struct {
	application *Application
	scopes      Scopes
}

// knownToken is an entry. It must not hold pointers.
type knownToken struct {
	sum      [sha256.Size]byte
	id       tokenID
	user     userID
	used     atomic.Bool // since the hand came by
	class    uint32
	lifetime int32 // seconds
	issued   int64
	read     int64
	// userGenerations are the generation of the user and that of the grant.
	userGenerations [2]uint64
}

const (
	// chunk is how many entries are allocated at a time. One slice that grows would be
	// half empty.
	chunk = 32
	// wholeTokens is up to how many entries make one shard.
	wholeTokens = 4096
	manyShards  = 64
)

type knownShard struct {
	mu     sync.RWMutex
	slots  map[uint64]uint32 // by the beginning of the hash
	chunks []*[chunk]knownToken
	free   []uint32
	filled uint32 // slots that were ever used
	hand   uint32
	most   uint32
}

type recordShard struct {
	mu     sync.Mutex
	places map[redisdb.RecordID]place
}

// place is where an entry is.
type place struct{ shard, slot uint32 }

func newKnownTokens(entries int) *knownTokens {
	n := 1
	if entries > wholeTokens {
		n = manyShards
	}
	k := &knownTokens{shards: make([]knownShard, n), records: make([]recordShard, n), mostClasses: entries, numbers: map[classKey]uint32{}}
	k.classes.Store(new([]*class))
	for i := range k.shards {
		k.shards[i].most = uint32(max(entries/n, 1))
		k.shards[i].slots = map[uint64]uint32{}
		k.records[i].places = map[redisdb.RecordID]place{}
	}
	return k
}

func (k *knownTokens) shard(sum *[sha256.Size]byte) (uint32, *knownShard) {
	i := uint32(sum[31]) % uint32(len(k.shards))
	return i, &k.shards[i]
}

func (k *knownTokens) record(id redisdb.RecordID) *recordShard {
	return &k.records[int(id[15])%len(k.records)]
}

func (s *knownShard) at(slot uint32) *knownToken { return &s.chunks[slot/chunk][slot%chunk] }

// find returns the entry of a token, and nil if there is none.
func (s *knownShard) find(sum *[sha256.Size]byte) (e *knownToken, slot uint32) {
	slot, ok := s.slots[binary.BigEndian.Uint64(sum[:])]
	if !ok {
		return nil, 0
	}
	if e = s.at(slot); e.sum != *sum {
		return nil, 0 // begins like it
	}
	return e, slot
}

// get finds a token.
func (k *knownTokens) get(sum [sha256.Size]byte) (t accessToken, ok bool) {
	_, s := k.shard(&sum)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, _ := s.find(&sum)
	if e == nil {
		return t, false
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	c := (*k.classes.Load())[e.class]
	return accessToken{
		id: e.id, user: e.user, app: c.app, kid: c.kid, scope: c.scope, class: c,
		issued: e.issued, expires: e.issued + int64(e.lifetime), read: e.read,
		issuedUnder: generations{c.installation, c.application, e.userGenerations[0], e.userGenerations[1]},
	}, true
}

// set puts a token in. It reports false if there are too many classes for another one.
func (k *knownTokens) set(sum [sha256.Size]byte, t *accessToken) bool {
	number, c, ok := k.classOf(t)
	if !ok {
		return false
	}
	t.class = c
	i, s := k.shard(&sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot, taken := s.slots[binary.BigEndian.Uint64(sum[:])]; taken { // this token, or one that begins like it
		k.remove(s, slot)
	}
	slot := k.room(s)
	e := s.at(slot)
	e.sum, e.id, e.user, e.class = sum, t.id, t.user, number
	e.issued, e.lifetime, e.read = t.issued, int32(t.expires-t.issued), t.read
	e.userGenerations = [2]uint64{t.issuedUnder.user, t.issuedUnder.grant}
	e.used.Store(false)
	s.slots[binary.BigEndian.Uint64(sum[:])] = slot
	record := t.id.record()
	r := k.record(record)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.places[record] = place{i, slot}
	return true
}

// room returns a free slot, if need be that of an entry that makes room.
func (k *knownTokens) room(s *knownShard) uint32 {
	if len(s.free) == 0 && s.filled < s.most {
		if s.filled == chunk*uint32(len(s.chunks)) {
			s.chunks = append(s.chunks, new([chunk]knownToken))
		}
		s.filled++
		return s.filled - 1
	}
	for len(s.free) == 0 {
		slot := s.hand
		s.hand = (s.hand + 1) % s.filled
		if !s.at(slot).used.Swap(false) {
			k.remove(s, slot)
		}
	}
	slot := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	return slot
}

// remove takes an entry out of a shard that is locked.
func (k *knownTokens) remove(s *knownShard, slot uint32) {
	e := s.at(slot)
	delete(s.slots, binary.BigEndian.Uint64(e.sum[:]))
	s.free = append(s.free, slot)
	record := e.id.record()
	r := k.record(record)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.places, record)
}

// forget removes the token of a record.
func (k *knownTokens) forget(record redisdb.RecordID) {
	r := k.record(record)
	r.mu.Lock()
	p, ok := r.places[record]
	r.mu.Unlock()
	if !ok {
		return
	}
	s := &k.shards[p.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	// It may have made room since, for another one.
	if e, slot := s.find(&s.at(p.slot).sum); e != nil && slot == p.slot && e.id.record() == record {
		k.remove(s, slot)
	}
}

// len is how many there are.
func (k *knownTokens) len() (n int) {
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.RLock()
		n += len(s.slots)
		s.mu.RUnlock()
	}
	return n
}

// classOf returns the class of a token, and its number.
func (k *knownTokens) classOf(t *accessToken) (number uint32, c *class, ok bool) {
	key := classKey{t.app, t.kid, t.scope, t.issuedUnder.installation, t.issuedUnder.application}
	k.mu.Lock()
	defer k.mu.Unlock()
	all := *k.classes.Load()
	if number, ok = k.numbers[key]; ok {
		return number, all[number], true
	}
	if len(all) >= k.mostClasses {
		return 0, nil, false
	}
	// They were parts of a longer text.
	key.app, key.kid, key.scope = strings.Clone(key.app), strings.Clone(key.kid), strings.Clone(key.scope)
	number, c = uint32(len(all)), &class{classKey: key}
	longer := append(all, c)
	k.classes.Store(&longer)
	k.numbers[key] = number
	return number, c, true
}

// scopes are those that a token was issued with and the application still has.
func (t *accessToken) scopes(app *Application) Scopes {
	if t.class != nil {
		if g := t.class.granted.Load(); g != nil && g.application == app {
			return g.scopes
		}
	}
	all, _ := ParseScopes(t.scope) // parsing the token found them good
	scopes := all.Intersect(app.Scopes)
	if t.class != nil {
		t.class.granted.Store(&granted{app, scopes})
	}
	return scopes
}
