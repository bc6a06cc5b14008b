// SPDX-License-Identifier: MIT

package tokens

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
)

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
func (a *Authority) noteRotation(ctx context.Context, e journal.Entry) error {
	e.Rank, e.At = journal.Families, a.now()
	a.journal.Add(e)
	if err := a.feed.confirm(ctx); err != nil {
		return err
	}
	if !a.feed.replacedLately() {
		return nil
	}
	if _, err := a.store.write(ctx, e.Script, e.Key, e.Args...); err != nil {
		return unavailable("recording a refresh token again", err)
	}
	return nil
}

// replayJournal writes again what the journal has of the time of mintMemory before
// Redis was last found well. What was exchanged here may have been given by another
// gateway, and be lost until that has recorded it again: so this is done with every
// heartbeat while that may be.
func (a *Authority) replayJournal(ctx context.Context) error {
	pipe := again{a.store.rdb.Pipeline(), "writing the journal again"}
	for _, e := range a.journal.Since(a.now().Add(-mintMemory - a.feed.unproven())) {
		// Whole, since a pipeline cannot send a script when its hash is unknown.
		e.Script.Eval(ctx, pipe, []string{e.Key}, e.Args...)
		if err := pipe.full(ctx); err != nil {
			return err
		}
	}
	return pipe.send(ctx)
}
