package tokens

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// rotations remembers the refresh tokens that this gateway has just given, so that
// they can be recorded again when Redis has lost them. Without that the holder of
// a new token would be taken for the thief of an old one.
type rotations struct {
	mu   sync.Mutex
	ring []rotation
	next int
}

// rotation is one that was acknowledged, with what it was written with.
type rotation struct {
	at     time.Time
	key    string // of the family
	script *redis.Script
	args   []any
}

// maxRotations is how many are remembered, two for a token that was exchanged: one
// has the new pair, encrypted, the other says that it was given. 4 MB at most.
const maxRotations = 4096

func (r *rotations) add(n rotation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < maxRotations {
		r.ring = append(r.ring, n)
		return
	}
	r.ring[r.next] = n
	r.next = (r.next + 1) % maxRotations
}

// since returns what was given after t, oldest first: a token may have been
// exchanged several times.
func (r *rotations) since(t time.Time) []rotation {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []rotation
	for i := range r.ring {
		if n := r.ring[(r.next+i)%len(r.ring)]; n.at.After(t) {
			out = append(out, n)
		}
	}
	return out
}

// familyAgainScript records a first refresh token unless something of its family
// is there. ARGV: life in ms, fields and values.
var familyAgainScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1`)

// rotateAgainScript is rotateScript if the token that was exchanged is (again) the
// current one.
var rotateAgainScript = redis.NewScript(`
local current = redis.call('HGET', KEYS[1], 'cur')
local lost = false
for i = 8, 7 + tonumber(ARGV[7]) do lost = lost or ARGV[i] == current end
if not lost then return {'there'} end
` + rotateSource)

// noteRotation remembers a refresh token that was given, and records it once more
// if the server that has recorded it may be no more.
func (a *Authority) noteRotation(ctx context.Context, n rotation) error {
	n.at = a.now()
	a.rotations.add(n)
	if err := a.feed.confirm(ctx); err != nil {
		return err
	}
	if a.feed.replacedLately() {
		return a.repeatRotation(ctx, n)
	}
	return nil
}

func (a *Authority) repeatRotation(ctx context.Context, n rotation) error {
	if _, err := a.store.write(ctx, n.script, n.key, n.args...); err != nil {
		return unavailable("recording a refresh token again", err)
	}
	return nil
}

// rotateAgain makes sure that Redis has the refresh tokens given within mintMemory
// before it was last found well. One that was exchanged here may have been given by
// another gateway, and be lost until that has recorded it again: so this is done
// with every heartbeat while that may be.
func (a *Authority) rotateAgain(ctx context.Context) error {
	pipe := again{a.store.rdb.Pipeline(), "recording a refresh token again"}
	for _, n := range a.rotations.since(a.now().Add(-mintMemory - a.feed.unproven())) {
		// Whole, since a pipeline cannot send a script when its hash is unknown.
		n.script.Eval(ctx, pipe, []string{n.key}, n.args...)
		if err := pipe.full(ctx); err != nil {
			return err
		}
	}
	return pipe.send(ctx)
}
