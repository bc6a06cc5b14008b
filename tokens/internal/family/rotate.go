// SPDX-License-Identifier: MIT

package family

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Pair is an access token and a refresh token, which a rotation hands out together.
type Pair struct {
	Access   string         `json:"a"`
	AccessID string         `json:"i"`
	Record   []byte         `json:"r"`
	Scopes   grammar.Scopes `json:"s"`
	Lifetime time.Duration  `json:"l"`
	Issued   int64          `json:"t"` // unix milliseconds
	Refresh  string         `json:"n"`
}

// RotateScript exchanges a token. The window is measured by the clock of Redis, because a
// server that hangs may run the script long after it was sent, while the holder retries.
// KEYS: family. ARGV: life, now, window (all ms), new hash, new pair, new access record
// key, when the new token expires, number of hashes of the presented token, these hashes,
// id of the key of the new hash, life of the access token (ms).
// It answers {"rotated"}, {"again", pair}, {"reused", access keys} or {"unknown"}.
var RotateScript = redisdb.NewScript(rotateSource)

var rotateSource = `
local have = redis.call('HMGET', KEYS[1], 'cur', 'prev', 'at', 'pair', 'acc', 'end', 'open')
if not have[1] then return {'unknown'} end
if have[6] then return {'reused', have[5] or ''} end
local time = redis.call('TIME')
local now = math.max(tonumber(ARGV[2]), tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local n = tonumber(ARGV[8])
local cur, prev = false, false
-- A pair that was not handed out before its access token expired is useless.
local dead = have[7] and have[3] and now - tonumber(have[3]) >= tonumber(ARGV[10 + n])
for i = 9, 8 + n do
  if ARGV[i] == have[1] then cur = true end
  if have[2] and ARGV[i] == have[2] then prev = true end
end
if cur or (prev and dead) then
  local before = cur and have[1] or have[2]
  local acc = ARGV[6]
  local count = 1
  for key in string.gmatch(have[5] or '', '%S+') do
    if count < ` + strconv.Itoa(maxAccess) + ` then acc = acc .. ' ' .. key; count = count + 1 end
  end
  redis.call('HSET', KEYS[1], 'cur', ARGV[4], 'prev', before, 'at', string.format('%.0f', now), 'pair', ARGV[5], 'acc', acc, 'till', ARGV[7], 'key', ARGV[9 + n], 'open', 1)
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  return {'rotated'}
end
if prev and (have[7] or now - tonumber(have[3]) <= tonumber(ARGV[3])) then return {'again', have[4]} end
redis.call('HSET', KEYS[1], 'end', ARGV[2])
return {'reused', have[5] or ''}`

// rotateAgainScript repeats a rotation that Redis has lost: the token that was exchanged
// is the current one again.
var rotateAgainScript = redisdb.NewScript(`
local current = redis.call('HGET', KEYS[1], 'cur')
local lost = false
for i = 9, 8 + tonumber(ARGV[8]) do lost = lost or ARGV[i] == current end
if not lost then return {'there'} end
` + rotateSource)

// Rotation is the outcome of an exchange: a pair, or reuse.
type Rotation struct {
	Pair *Pair
	// Reused is set if the token had been exchanged before. Records are then the keys of
	// the records of the family's access tokens.
	Reused  bool
	Records []string
}

// Rotate exchanges a token for the next pair. A previous token within its window gets
// the same pair as before. Errors: ErrInvalidGrant, ErrUnavailable.
func (s *Store) Rotate(ctx context.Context, p *Presented, raw string, next Pair) (*Rotation, error) {
	const doing = "rotating a refresh token"
	plain, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("encoding a refresh token: %w", err)
	}
	now := s.now()
	expires := s.expiry(&p.Family, now)
	key := redisdb.KeyFamily(p.ID)
	args := s.rotateArgs(raw, next, now, expires, s.keys.Seal(plain, key))
	reply, err := s.feed.Write(ctx, RotateScript, key, args...)
	if err != nil {
		return nil, failure.Unavailable(doing, err)
	}
	answer, err := reply.StringSlice()
	if err != nil || len(answer) == 0 {
		return nil, failure.Unavailable(doing, err)
	}
	given := &next
	switch answer[0] {
	case "rotated":
	case "again":
		if given, err = s.open(answer[1], key); err != nil {
			return nil, err
		}
		// The gateway that made the pair may be gone, so this one remembers it too.
		args[argHash], args[argPair], args[argRecord] = s.hashes(given.Refresh)[0], answer[1], redisdb.KeyToken(given.AccessID)
	case "reused":
		return &Rotation{Reused: true, Records: strings.Fields(answer[1])}, nil
	default:
		return nil, failure.Deny(failure.ErrInvalidGrant, "unknown_token")
	}
	return &Rotation{Pair: given}, s.feed.Keep(ctx, "recording a refresh token again", journal.Entry{
		Rank: journal.Families, Key: key, Script: rotateAgainScript, Args: args[1:], Expires: expires.Add(time.Minute),
	})
}

// Places of arguments of RotateScript.
const (
	argHash   = 3
	argPair   = 4
	argRecord = 5
)

func (s *Store) rotateArgs(raw string, next Pair, now, expires time.Time, sealed []byte) []any {
	hashes := s.hashes(raw)
	args := []any{
		(expires.Sub(now) + time.Minute).Milliseconds(), now.UnixMilli(), s.options.Window.Milliseconds(), s.hashes(next.Refresh)[0], sealed,
		redisdb.KeyToken(next.AccessID), expires.UnixMilli(), len(hashes),
	}
	for _, h := range hashes {
		args = append(args, h)
	}
	return append(args, s.keys.First().ID, (next.Lifetime - time.Second).Milliseconds())
}

// open decrypts a pair.
func (s *Store) open(sealed, key string) (*Pair, error) {
	const doing = "reading a refresh token's pair"
	plain, _, err := s.keys.Open([]byte(sealed), key)
	if err != nil {
		return nil, failure.Unavailable(doing, err)
	}
	p := new(Pair)
	if err := json.Unmarshal(plain, p); err != nil {
		return nil, failure.Unavailable(doing, err)
	}
	return p, nil
}

// givenScript begins the window in which the current pair is handed out again.
// ARGV: hash of the pair's refresh token, now (unix ms).
var givenScript = redisdb.NewScript(`
if redis.call('HGET', KEYS[1], 'cur') ~= ARGV[1] or redis.call('HDEL', KEYS[1], 'open') == 0 then return 0 end
local time = redis.call('TIME')
local now = math.max(tonumber(ARGV[2]), tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('HSET', KEYS[1], 'at', string.format('%.0f', now))
return 1`)

// NoteGiven notes that a pair is about to be handed out. If this fails, the previous
// token keeps getting the pair until the new one is used.
func (s *Store) NoteGiven(ctx context.Context, id string, given *Pair) {
	n := journal.Entry{
		Rank: journal.Families, Key: redisdb.KeyFamily(id), Script: givenScript,
		Args: []any{s.hashes(given.Refresh)[0], s.now().UnixMilli()},
	}
	_ = s.db.Eval(ctx, n.Script, n.Key, n.Args...)
	s.feed.Journal().Add(n) // when the rotation is made again, so is this
}
