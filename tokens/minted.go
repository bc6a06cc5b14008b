package tokens

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// mints remembers the tokens that this gateway has just issued, so that they
// can be recorded again when Redis has lost them: a client that was given a
// token a moment ago must not be told that it is not valid.
type mints struct {
	mu   sync.Mutex
	ring []mint
	next int
}

type mint struct {
	at      time.Time
	expires time.Time
	key     string
	record  []byte
	user    *User
}

const (
	maxMints = 4096
	// mintMemory is how far back Redis is expected to lose mints at most.
	mintMemory = time.Minute
)

func (m *mints) add(n mint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.ring) < maxMints {
		m.ring = append(m.ring, n)
		return
	}
	m.ring[m.next] = n
	m.next = (m.next + 1) % maxMints
}

// since returns what was issued after t and has not expired by now.
func (m *mints) since(t, now time.Time) []mint {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []mint
	for _, n := range m.ring {
		if n.at.After(t) && n.expires.After(now) {
			out = append(out, n)
		}
	}
	return out
}

// recordAgain makes sure that Redis has the records of the tokens just issued,
// and their users. What is there, revoked or not, stays as it is.
func (a *Authority) recordAgain(ctx context.Context) error {
	now := a.now()
	done := map[string]bool{}
	for _, m := range a.mints.since(now.Add(-mintMemory), now) {
		if u := m.user; !done[u.ID] {
			done[u.ID] = true
			if err := a.restoreUser(ctx, u); err != nil {
				return err
			}
		}
		err := a.store.rdb.SetArgs(ctx, m.key, m.record, redis.SetArgs{Mode: "NX", TTL: m.expires.Sub(now)}).Err()
		if err != nil && !errors.Is(err, redis.Nil) {
			return unavailable("recording a token again", err)
		}
	}
	return nil
}
