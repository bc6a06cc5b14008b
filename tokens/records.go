// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// generations are those that a token was issued under. A token is revoked if one of them
// was counted up since.
type generations [4]uint64

// The places in generations.
const (
	ofInstallation = iota
	ofApplication
	ofUser
	ofGrant
)

// after reports whether any of them is later than in o, which is then out of date.
func (g generations) after(o generations) bool {
	return g[ofInstallation] > o[ofInstallation] || g[ofApplication] > o[ofApplication] || g[ofUser] > o[ofUser] || g[ofGrant] > o[ofGrant]
}

// A token's record in Redis is one byte of state, the hash of the whole token, and its
// generations as varints. Its key is made from the token's id. The hash shows that a reply
// belongs to this token and not to another request (CVE-2025-29923).
const (
	recordRevoked = 0
	recordLive    = 1
	recordHeader  = 1 + sha256.Size
)

func encodeRecord(sum [sha256.Size]byte, g generations) []byte {
	b := make([]byte, 0, recordHeader+8)
	b = append(append(b, recordLive), sum[:]...)
	for _, n := range g {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func decodeRecord(b []byte) (state byte, sum [sha256.Size]byte, g generations, err error) {
	if len(b) < recordHeader {
		return 0, sum, g, errors.New("token record is too short")
	}
	state = b[0]
	copy(sum[:], b[1:recordHeader])
	rest := b[recordHeader:]
	for i := range g {
		v, size := binary.Uvarint(rest)
		if size <= 0 {
			return 0, sum, g, errors.New("token record is too short")
		}
		g[i], rest = v, rest[size:]
	}
	if len(rest) != 0 || state > recordLive {
		return 0, sum, g, fmt.Errorf("unknown form of token record (state %d)", state)
	}
	return state, sum, g, nil
}

// records keeps the records of access tokens.
type records struct {
	*core
	users  *users
	keyUse *installation.KeyUse
}

// add records a signed token, which makes it valid. Adding it again changes nothing, also if
// it was revoked.
func (r *records) add(ctx context.Context, t *signed, u *User) error {
	if err := r.keyUse.NoteSigned(ctx, t.lifetime); err != nil {
		return err
	}
	const doing = "recording a token"
	key := redisdb.KeyToken(t.id)
	if err := r.db.SetNewBatched(ctx, key, t.record, t.lifetime); err != nil {
		return unavailable(doing, err)
	}
	r.users.remember(u)
	return r.feed.Keep(ctx, doing, journal.Entry{
		Rank: journal.Records, Key: key, Script: recordAgainScript, Args: []any{string(t.record)}, Expires: r.now().Add(t.lifetime),
	})
}

// recordAgainScript records a token unless it has a record, revoked or not. ARGV: life in ms,
// record.
var recordAgainScript = redisdb.NewScript(`
return redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PX', ARGV[1]) and 1 or 0`)

// revokeRecordScript marks a record as revoked and answers it. Without a record it writes a
// mark in its place, since a lost record may be replayed. The mark stays until the token would
// have expired. ARGV: state, mark, its life in ms.
var revokeRecordScript = redisdb.NewScript(`
local value = redis.call('GET', KEYS[1])
if not value then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return ARGV[2]
end
redis.call('SETRANGE', KEYS[1], 0, ARGV[1])
return value`)

// revokeAgainScript is revokeRecordScript for the journal. ARGV: life of the mark in ms,
// state, mark.
var revokeAgainScript = journal.NewScript(`
local state = redis.call('GETRANGE', KEYS[1], 0, 0)
if state == '' then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[1])
  return 1
end
if state == ARGV[2] then return 0 end
redis.call('SETRANGE', KEYS[1], 0, ARGV[2])
return 1`)

// revoke marks a record as revoked. sum is the hash of the token if it is known; life is how
// long the token can still be valid.
func (r *records) revoke(ctx context.Context, key string, sum [sha256.Size]byte, life time.Duration) error {
	state, mark := string([]byte{recordRevoked}), encodeRecord(sum, generations{})
	mark[0] = recordRevoked
	err := r.feed.Commit(ctx, feed.Commit{
		Doing: "revoking a token", Script: revokeRecordScript, Key: key, Args: []any{state, mark, life.Milliseconds()},
		Redo: []journal.Entry{{
			Rank: journal.Revocations, Key: key, Script: revokeAgainScript, Args: []any{state, string(mark)}, Expires: r.now().Add(life),
		}},
		Outcome: func(reply *redisdb.Reply) ([]journal.Entry, error) {
			value, err := reply.Text()
			if err != nil {
				return nil, unavailable("revoking a token", err)
			}
			if _, _, _, err = decodeRecord([]byte(value)); err != nil {
				return nil, unavailable("revoking a token", err)
			}
			if value[0] == recordRevoked && r.wasPublished(key) {
				return nil, errPublished
			}
			return nil, nil
		},
	})
	if errors.Is(err, errPublished) {
		return nil
	}
	if err == nil {
		r.setPublished(key)
	}
	return err
}

// errPublished means that a revocation was published before. Repeating it publishes nothing,
// and so does not push other changes out of the journals.
var errPublished = errors.New("the revocation was published before")

// wasPublished reports whether the revocation of a token or family was published before.
func (r *records) wasPublished(key string) bool {
	on, ok := r.cache.revocations.Load(key)
	return ok && !r.feed.Replaced(on)
}

func (r *records) setPublished(key string) { r.cache.revocations.Store(key, r.feed.Snapshot()) }
