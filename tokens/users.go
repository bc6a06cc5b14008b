// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// User is a mail address that some application acted for. What identifies it is
// the address: Meet's own id of the user may change (merged duplicates).
//
// A value that came from an [Authority] is shared and must not be changed.
type User struct {
	// ID is 8 letters and digits, given once per folded address.
	ID string `json:"id"`
	// Mail is the address. It is encrypted at rest.
	Mail Mail `json:"mail"`
	// BackendUserID is Meet's id of the user as last seen; "" if never.
	BackendUserID string `json:"backend_user_id,omitempty"`
	// FirstSeen and FirstSeenBy tell when and by which application the address
	// was first acted for.
	FirstSeen   time.Time `json:"first_seen"`
	FirstSeenBy string    `json:"first_seen_by,omitempty"`
	// LastSeen and LastSeenBy tell the latest, at a resolution of a minute.
	LastSeen   time.Time `json:"last_seen,omitzero"`
	LastSeenBy string    `json:"last_seen_by,omitempty"`

	// generation is the instant (unix seconds) at which the record was made, plus
	// the number of revocations since: a record that was lost and made again
	// does not bring old tokens back.
	generation uint64
	// A revoked grant is kept as the value that grantCount had got by it. Tokens
	// carry the grantCount of their birth. Only the latest are kept one by one;
	// grantFloor stands for all the others.
	grants     map[string]uint64 // by application id
	grantCount uint64
	grantFloor uint64

	// others are further ids of the address; see same.
	others []string

	read time.Time // from Redis
}

// revokedUpTo returns the grantCount below which an application's tokens for
// the user are revoked.
func (u *User) revokedUpTo(applicationID string) uint64 {
	return max(u.grants[applicationID], u.grantFloor)
}

// maxGrants is how many revoked grants of a user are kept one by one.
const maxGrants = 64

// Fields of a user's hash.
const (
	fieldMail        = "m" // sealed
	fieldBackendUser = "b"
	fieldFirstSeen   = "f" // unix milliseconds, as fieldLastSeen
	fieldFirstBy     = "fb"
	fieldLastSeen    = "l"
	fieldLastBy      = "lb"
	fieldGrantCount  = "gc"
	fieldGrantFloor  = "gf"
	prefixOther      = "o:" // + another id of the address
)

// touchScript sets fields of a hash if it (still) has the first given field.
var touchScript = redisdb.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1`)

// countUp defines up, which counts a generation up: at least to the second that it
// is. A generation that was set back, since what had counted it up is lost and
// remembered by nobody, then does not become again one that tokens were born under.
const countUp = `
local function up(field)
  local value = math.max(tonumber(redis.call('HGET', KEYS[1], field) or '0') + 1, tonumber(redis.call('TIME')[1]))
  redis.call('HSET', KEYS[1], field, string.format('%.0f', value))
  return value
end`

// bumpScript counts a generation up if the hash (still) has the first given
// field, and answers the new value, or 0.
var bumpScript = redisdb.NewScript(countUp + `
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
return up(ARGV[2])`)

// revokeGrantScript revokes a user's grant to an application and answers the
// value it has got, or 0 if there is no such user. With a value given it makes
// sure of that one, and answers 0 if there is nothing to do. ARGV: application,
// number of grants to keep, value.
var revokeGrantScript = journal.NewScript(countUp + `
if redis.call('HEXISTS', KEYS[1], 'm') == 0 then return 0 end
local function number(field) return tonumber(redis.call('HGET', KEYS[1], field) or '0') end
local value = tonumber(ARGV[3] or '')
if value then
  if number('g:' .. ARGV[1]) >= value or number('gf') >= value then return 0 end
  if number('gc') < value then redis.call('HSET', KEYS[1], 'gc', ARGV[3]) end
else
  value = up('gc')
end
redis.call('HSET', KEYS[1], 'g:' .. ARGV[1], string.format('%.0f', value))
local keep = tonumber(ARGV[2])
if redis.call('HLEN', KEYS[1]) > keep then
  local all = redis.call('HGETALL', KEYS[1])
  local count, oldest, least = 0, nil, nil
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'g:' then
      count = count + 1
      local v = tonumber(all[i + 1])
      if not least or v < least then oldest, least = all[i], v end
    end
  end
  if count > keep then
    redis.call('HDEL', KEYS[1], oldest)
    if number('gf') < least then redis.call('HSET', KEYS[1], 'gf', least) end
  end
end
return value`)

// newUserScript makes a user's record unless the id is taken. ARGV: sealed
// mail, first seen, by, generation, grant count. Finding its own write there
// is success: the answer to it may have been lost on the way.
var newUserScript = redisdb.NewScript(`
if redis.call('HSETNX', KEYS[1], 'm', ARGV[1]) == 0 then
  if redis.call('HGET', KEYS[1], 'm') == ARGV[1] then return 1 end
  return 0
end
redis.call('HSET', KEYS[1], 'f', ARGV[2], 'fb', ARGV[3], 'g', ARGV[4], 'gc', ARGV[5])
return 1`)

// users keeps the users, and the index of their mail addresses.
type users struct{ *core }

// User returns a user by public id or mail address. Errors: ErrNotFound,
// ErrUnavailable.
func (s *users) User(ctx context.Context, idOrMail string) (*User, error) {
	if vault.IsID(idOrMail, vault.UserID) {
		return s.read(ctx, idOrMail)
	}
	m, err := ParseMail(idOrMail)
	if err != nil {
		return nil, fmt.Errorf("user: %w", ErrNotFound)
	}
	var id string
	err = s.feed.Read(ctx, "looking up a user", func(ctx context.Context, _ feed.Reader) (found bool, err error) {
		id, err = s.findID(ctx, m)
		return id != "", err
	})
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, fmt.Errorf("user: %w", ErrNotFound)
	}
	return s.read(ctx, id)
}

// An address is indexed under every configured key. While a secret is rotated,
// gateways have the keys in different orders, or lack one, and all must give the
// address the same id. So each goes through the entries in the order of the ids of the
// keys, carrying an id: it puts that where no entry is, and goes on with the one that
// is there. The id that it carries at the end is the one of the address. If there is a
// key that all have, all pass its entry, which was set once, and what they put
// behind it is what they found there. Entries before it that differ are set right.

// mailKeys are the names of the entries of an address, in that order.
func (s *users) mailKeys(m Mail) []string {
	names := make([]string, 0, len(s.keys.Keys))
	for _, k := range s.keys.Sorted() {
		names = append(names, redisdb.KeyMail(k, string(m)))
	}
	return names
}

// findID looks the address up under every configured key, and keeps it under all
// of them. "" means that the address was never seen.
func (s *users) findID(ctx context.Context, m Mail) (string, error) {
	var last string
	agreed := true
	for i, name := range s.mailKeys(m) {
		id, err := s.db.Get(ctx, name)
		if err != nil {
			return "", unavailable("looking up a user", err)
		}
		agreed = agreed && (i == 0 || id == last)
		last = cmp.Or(id, last)
	}
	if last == "" || agreed {
		return last, nil
	}
	return s.agreeOnID(ctx, m, last)
}

// claimScript sets an entry of the index unless it is there, and answers it.
var claimScript = redisdb.NewScript(`
redis.call('SETNX', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])`)

// replaceScript sets a key that still has a value. ARGV: that, what it becomes.
var replaceScript = redisdb.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1`)

// agreeOnID returns the id of an address, which is id if it has none.
func (s *users) agreeOnID(ctx context.Context, m Mail, id string) (string, error) {
	names := s.mailKeys(m)
	found := make([]string, len(names))
	for i, name := range names {
		var err error
		if id, err = s.db.Eval(ctx, claimScript, name, id).Text(); err != nil {
			return "", unavailable("indexing a user", err)
		}
		found[i] = id
	}
	for i, other := range found {
		if other == id {
			continue
		}
		if err := s.same(ctx, id, other); err != nil {
			return "", err
		}
		if err := s.db.Eval(ctx, replaceScript, names[i], other, id).Err(); err != nil {
			return "", unavailable("indexing a user", err)
		}
	}
	return id, nil
}

// same notes at each of two users that the other has the same address, so that a
// revocation ends both. There can be two if Redis has lost what was
// written, or where a version before this agreement ran.
func (s *users) same(ctx context.Context, ids ...string) error {
	for i, id := range ids {
		err := s.db.Eval(ctx, touchScript, redisdb.KeyUser(id), fieldMail, prefixOther+ids[1-i], 1).Err()
		if err != nil {
			return unavailable("noting another id of a user", err)
		}
	}
	return nil
}

// userFor returns the user with the address as Redis has it now, and the
// installation with it. It makes the user if need be.
func (c *circumstances) userFor(ctx context.Context, m Mail, by string) (*User, *installation.State, error) {
	id, remembered := c.cache.mails.GetIfPresent(m)
	for {
		if !remembered {
			var err error
			if id, err = c.users.findID(ctx, m); err != nil {
				return nil, nil, err
			}
			if id == "" {
				if id, err = c.users.create(ctx, m, by); err != nil {
					return nil, nil, err
				}
			}
		}
		in, u, err := c.readUser(ctx, id)
		if errors.Is(err, ErrNotFound) {
			if remembered {
				c.cache.mails.Invalidate(m)
				remembered = false
				continue
			}
			// The index outlived the record (an old snapshot): bring the record back.
			if err := c.users.write(ctx, id, m, by); err != nil && !errors.Is(err, ErrConflict) {
				return nil, nil, err
			}
			in, u, err = c.readUser(ctx, id)
		}
		if err != nil {
			return nil, nil, err
		}
		if !remembered {
			c.cache.mails.Set(m, id)
		}
		return u, in, nil
	}
}

// create allocates an id for the address. Of several at once one wins, and all
// get its id.
func (s *users) create(ctx context.Context, m Mail, by string) (string, error) {
	for {
		id := vault.RandomID(vault.UserID)
		err := s.write(ctx, id, m, by)
		if errors.Is(err, ErrConflict) {
			continue // 62^8 ids: it happens, rarely
		}
		if err != nil {
			return "", err
		}
		winner, err := s.agreeOnID(ctx, m, id)
		if err != nil {
			return "", err
		}
		if winner != id {
			if _, err := s.db.Delete(ctx, redisdb.KeyUser(id)); err != nil {
				return "", unavailable("removing a user", err)
			}
		}
		return winner, nil
	}
}

func (s *users) write(ctx context.Context, id string, m Mail, by string) error {
	sealed := s.keys.Seal([]byte(m), redisdb.KeyUser(id))
	now := s.now()
	made, err := s.db.Eval(ctx, newUserScript, redisdb.KeyUser(id), sealed, now.UnixMilli(), by, now.Unix(), 0).Int64()
	if err != nil {
		return unavailable("making a user", err)
	}
	if made == 0 {
		return fmt.Errorf("user %s: %w", id, ErrConflict)
	}
	return nil
}

// remember has a user written again, as a token was just born for it, if Redis
// loses it.
func (s *users) remember(u *User) {
	key := redisdb.KeyUser(u.ID)
	version := int64(u.generation + u.grantCount) // neither goes back
	if e, known := s.feed.Journal().Get(journal.Users, key); known && e.Version >= version && e.Age() < userStep {
		return
	}
	s.feed.Journal().Add(journal.Entry{
		Rank: journal.Users, Name: key, Version: version, Key: key, Script: newUserScript,
		Args: []any{s.keys.Seal([]byte(u.Mail), key), u.FirstSeen.UnixMilli(), u.FirstSeenBy, u.generation, u.grantCount},
	})
	// An address can have two ids after a loss: each claims its entries, and the one that
	// finds another id there is noted as the same user.
	for _, name := range s.mailKeys(u.Mail) {
		s.feed.Journal().Add(journal.Entry{Rank: journal.Users, Name: name + " " + u.ID, Key: name, Script: claimAgainScript, Args: []any{u.ID}})
	}
}

// userStep is how much longer than what was issued for it a user is remembered, at
// most, so that it need not be noted with every token.
const userStep = journal.Memory / 6

// claimAgainScript is claimScript that answers whether another gateway has given the
// address another id meanwhile.
var claimAgainScript = redisdb.NewScript(`
redis.call('SETNX', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1]) == ARGV[1] and 0 or 1`)

// contested notes two ids of one address at each other, if another id holds an entry
// of the index.
func (s *users) contested(ctx context.Context, name, id string) error {
	other, err := s.db.Get(ctx, name)
	if err != nil {
		return unavailable("looking up a user", err)
	}
	if other == "" || other == id {
		return nil
	}
	s.cache.mails.InvalidateAll()
	return s.same(ctx, id, other)
}

// read reads the user from Redis into the cache.
func (s *users) read(ctx context.Context, id string) (*User, error) {
	key := redisdb.KeyUser(id)
	since := s.cache.epochs.Now(key)
	m, err := s.findHash(ctx, "reading a user", key)
	if err != nil {
		return nil, err
	}
	return s.keep(id, m, since)
}

// keep decodes a user that was read since into the cache.
func (s *users) keep(id string, m map[string]string, since memory.Epoch) (*User, error) {
	u, err := s.decode(id, m)
	if err != nil {
		return nil, err
	}
	s.cache.epochs.Fill(redisdb.KeyUser(id), since, func() { s.cache.users.Set(id, u) })
	return u, nil
}

func (s *users) decode(id string, m map[string]string) (*User, error) {
	if m[fieldMail] == "" {
		return nil, fmt.Errorf("user: %w", ErrNotFound)
	}
	mail, old, err := s.keys.Open([]byte(m[fieldMail]), redisdb.KeyUser(id))
	if err != nil {
		return nil, unavailable("reading user "+id, err)
	}
	if old {
		resealed := s.keys.Seal(mail, redisdb.KeyUser(id))
		s.background.Go(func(ctx context.Context) {
			_ = s.db.Eval(ctx, touchScript, redisdb.KeyUser(id), fieldMail, fieldMail, resealed).Err()
		})
	}
	u := &User{
		ID: id, Mail: Mail(mail), BackendUserID: m[fieldBackendUser],
		FirstSeen: parseInstant(m[fieldFirstSeen]), FirstSeenBy: m[fieldFirstBy],
		LastSeen: parseInstant(m[fieldLastSeen]), LastSeenBy: m[fieldLastBy],
		read:       s.now(),
		generation: redisdb.ParseUint(m[fieldGeneration]),
		grantCount: redisdb.ParseUint(m[fieldGrantCount]), grantFloor: redisdb.ParseUint(m[fieldGrantFloor]),
	}
	for k, v := range m {
		if other, ok := strings.CutPrefix(k, prefixOther); ok {
			u.others = append(u.others, other)
		}
		if app, ok := strings.CutPrefix(k, prefixGrantGen); ok {
			if u.grants == nil {
				u.grants = map[string]uint64{}
			}
			u.grants[app] = redisdb.ParseUint(v)
		}
	}
	return u, nil
}

// noteSeen writes that an application acted for the user, at most once a
// minute, and Meet's id of the user when it changed.
func (s *users) noteSeen(u *User, by, backendUserID string) {
	now := s.now()
	changed := backendUserID != "" && backendUserID != u.BackendUserID
	if !changed && now.Sub(u.LastSeen) < time.Minute {
		return
	}
	if backendUserID == "" {
		backendUserID = u.BackendUserID
	}
	s.background.Go(func(ctx context.Context) {
		// Nobody decides anything by these fields, so what caches hold stays: a user
		// forgotten here would have to be read again, perhaps when Redis is unavailable.
		_ = s.db.Eval(ctx, touchScript, redisdb.KeyUser(u.ID), fieldMail,
			fieldLastSeen, now.UnixMilli(), fieldLastBy, by, fieldBackendUser, backendUserID).Err()
	})
}
