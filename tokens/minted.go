// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// mints remembers the tokens that this gateway has just issued, so that they
// can be recorded again when Redis has lost them: a client that was given a
// token a moment ago must not be told that it is not valid.
//
// They are kept in chunks, of which the oldest goes when all that is in it is
// older than mintMemory, or when there are too many. The zero value is empty.
type mints struct {
	mu     sync.Mutex
	chunks []*mintChunk // oldest first
}

// mintChunk is written to its end once, so that what is in it can be read without
// the lock.
type mintChunk struct {
	made  []mint
	users []userBirth // each once, and again when tokens were revoked
	known map[string]generations
}

type mint struct {
	at      time.Duration // on the feed's clock
	expires int64         // unix milliseconds
	key     string
	record  string
}

// userBirth is what a user's record begins with.
type userBirth struct {
	id, by                 string
	mail                   Mail
	first                  int64 // unix milliseconds
	generation, grantCount uint64
}

const (
	// mintMemory is how far Redis is expected to be behind what it acknowledged. It
	// counts back from when Redis was last found to be the primary: what was issued
	// just before an outage is remembered for as long as that lasts.
	mintMemory = time.Minute
	// maxMintChunks times mintsPerChunk bound the memory: 131,072 tokens, 16 MB, or
	// 42 MB with as many users. That is a minute of 2,000 tokens a second, and 20
	// seconds of the 6,000 that two cores can issue.
	maxMintChunks = 32
	mintsPerChunk = 4096
	// mintsPerTrip is how many tokens are recorded again with one round trip.
	mintsPerTrip = 512
)

// add remembers a token and the user it was issued for.
func (m *mints) add(n mint, u *User) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.chunks) == 0 || len(m.last().made) == mintsPerChunk {
		if len(m.chunks) == maxMintChunks {
			m.dropOldest()
		}
		m.chunks = append(m.chunks, &mintChunk{known: map[string]generations{}})
	}
	c := m.last()
	c.made = append(c.made, n)
	born := generations{user: u.generation, grant: u.grantCount}
	if last, known := c.known[u.ID]; !known || born.after(last) {
		c.known[u.ID] = born
		c.users = append(c.users, userBirth{
			id: u.ID, by: u.FirstSeenBy, mail: u.Mail, first: u.FirstSeen.UnixMilli(),
			generation: u.generation, grantCount: u.grantCount,
		})
	}
}

func (m *mints) last() *mintChunk { return m.chunks[len(m.chunks)-1] }

func (m *mints) dropOldest() {
	m.chunks[0] = nil
	m.chunks = m.chunks[1:]
}

// forget drops what was issued before t.
func (m *mints) forget(t time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.chunks) > 0 {
		made := m.chunks[0].made
		if made[len(made)-1].at >= t {
			return
		}
		m.dropOldest()
	}
}

// all returns what is remembered.
func (m *mints) all() []mintChunk {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]mintChunk, len(m.chunks))
	for i, c := range m.chunks {
		out[i] = mintChunk{made: c.made, users: c.users}
	}
	return out
}

func (m *mints) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.chunks) == 0
}

// again sends what has to be written again in trips of a few hundred commands.
type again struct {
	redis.Pipeliner
	doing string
}

// full sends what has come together, once that is enough.
func (a again) full(ctx context.Context) error {
	if a.Len() < mintsPerTrip {
		return nil
	}
	return a.send(ctx)
}

func (a again) send(ctx context.Context) error {
	if a.Len() == 0 {
		return nil
	}
	cmds, _ := a.Exec(ctx) // each has its own error
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return unavailable(a.doing, err)
		}
	}
	return nil
}

// bornAgain makes sure that Redis has the users that tokens were just issued for, as
// they were for the last ones.
func (a *Authority) bornAgain(ctx context.Context) error {
	done := map[string]bool{}
	pipe := again{a.store.rdb.Pipeline(), "recording a user again"}
	type claim struct {
		user   userBirth
		owners []*redis.Cmd
	}
	var claims []claim // of one trip
	// Another gateway may have given the address another id meanwhile.
	unite := func() error {
		for _, c := range claims {
			for _, owner := range c.owners {
				id, err := owner.Text()
				if err != nil || id == c.user.id {
					continue // an error was found when it was sent
				}
				a.cache.mails.Invalidate(c.user.mail)
				if err := a.sameUser(ctx, c.user.id, id); err != nil {
					return err
				}
			}
		}
		claims = claims[:0]
		return nil
	}
	for _, chunk := range slices.Backward(a.mints.all()) {
		for _, u := range slices.Backward(chunk.users) {
			if done[u.id] {
				continue
			}
			done[u.id] = true
			claims = append(claims, claim{u, a.restoreUser(ctx, pipe, u)})
			if pipe.Len() < mintsPerTrip {
				continue
			}
			if err := pipe.send(ctx); err != nil {
				return err
			}
			if err := unite(); err != nil {
				return err
			}
		}
	}
	if err := pipe.send(ctx); err != nil {
		return err
	}
	return unite()
}

// recordAgain makes sure that Redis has the records of the tokens just issued.
// What is there, revoked or not, stays as it is; so it comes after what was
// revoked has been marked again.
func (a *Authority) recordAgain(ctx context.Context) error {
	now := a.now().UnixMilli()
	pipe := again{a.store.rdb.Pipeline(), "recording a token again"}
	for _, chunk := range a.mints.all() {
		for _, m := range chunk.made {
			if m.expires <= now {
				continue
			}
			pipe.SetArgs(ctx, m.key, m.record, redis.SetArgs{Mode: "NX", TTL: time.Duration(m.expires-now) * time.Millisecond})
			if err := pipe.full(ctx); err != nil {
				return err
			}
		}
	}
	return pipe.send(ctx)
}
