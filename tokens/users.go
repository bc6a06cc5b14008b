// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/mailindex"
	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// User is a mail address that some application acted for. The address identifies the
// user: Meet's own id may change when it merges duplicates.
//
// A value that came from an [Authority] may be shared and must not be changed.
type User struct {
	// ID is 8 letters and digits, one id per folded address.
	ID string `json:"id"`
	// Mail is the address. It is encrypted at rest.
	Mail Mail `json:"mail"`
	// BackendUserID is Meet's id of the user as last seen; "" if never.
	BackendUserID string `json:"backend_user_id,omitempty"`
	// FirstSeen and FirstSeenBy are when an application first acted for the address, and
	// which one.
	FirstSeen   time.Time `json:"first_seen"`
	FirstSeenBy string    `json:"first_seen_by,omitempty"`
	// LastSeen and LastSeenBy are the last time, at a resolution of a minute.
	LastSeen   time.Time `json:"last_seen,omitzero"`
	LastSeenBy string    `json:"last_seen_by,omitempty"`

	// generation starts at the time when the record was written, in unix seconds, and each
	// revocation raises it. So old tokens stay invalid if a lost record is written anew.
	generation uint64
	// Revoking a grant raises grantCount. A token carries the grantCount it was issued under.
	grantCount uint64
	revoked    *revokedGrants // nil if no grant was ever revoked

	// others are further ids of the same address; see same. Nil if there is none.
	others *[]string

	read time.Time // from Redis
}

// revokedGrants are the grantCounts of a user's revoked grants. Only the latest are kept one
// by one; floor covers the others.
type revokedGrants struct {
	latest map[string]uint64 // by application id
	floor  uint64
}

// revokedUpTo returns the grantCount below which an application's tokens for
// the user are revoked.
func (u *User) revokedUpTo(applicationID string) uint64 {
	if u.revoked == nil {
		return 0
	}
	return max(u.revoked.latest[applicationID], u.revoked.floor)
}

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

// touchScript sets fields of a hash if it has the first given field.
var touchScript = redisdb.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1`)

// newUserScript writes a user's record unless the id is taken. Finding its own earlier write
// is a success, since the reply may have been lost. ARGV: sealed mail, first seen, by,
// generation, grant count.
var newUserScript = redisdb.NewScript(`
if redis.call('HSETNX', KEYS[1], 'm', ARGV[1]) == 0 then
  if redis.call('HGET', KEYS[1], 'm') == ARGV[1] then return 1 end
  return 0
end
redis.call('HSET', KEYS[1], 'f', ARGV[2], 'fb', ARGV[3], 'g', ARGV[4], 'gc', ARGV[5])
return 1`)

// users keeps the users.
type users struct {
	*core
	index *mailindex.Index
}

func newUsers(c *core) *users {
	s := &users{core: c}
	s.index = mailindex.New(c.db, c.keys, s.same)
	return s
}

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
		id, err = s.index.Find(ctx, m)
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

// same records in each of two users that the other one has the same address, so that a
// revocation ends both. An address can have two users after Redis lost a write.
func (s *users) same(ctx context.Context, ids ...string) error {
	for i, id := range ids {
		err := s.db.Eval(ctx, touchScript, redisdb.KeyUser(id), fieldMail, prefixOther+ids[1-i], 1).Err()
		if err != nil {
			return unavailable("noting another id of a user", err)
		}
	}
	return nil
}

// findOrCreate returns the id of the user of a grant, and the user if this call created it.
func (s *users) findOrCreate(ctx context.Context, g Grant) (created *User, id string, err error) {
	if !g.Unseen {
		if id, err = s.index.Find(ctx, g.Mail); id != "" || err != nil {
			return nil, id, err
		}
	}
	return s.create(ctx, g.Mail, g.Application.ID)
}

// create allocates an id for the address. Concurrent calls on several gateways return the same
// id. The user is nil if another gateway created it.
func (s *users) create(ctx context.Context, m Mail, by string) (created *User, id string, err error) {
	for {
		id = vault.RandomID(vault.UserID)
		created, err = s.write(ctx, id, m, by)
		if errors.Is(err, ErrConflict) {
			continue // the id is taken, which is rare among 62^8
		}
		if err != nil {
			return nil, "", err
		}
		winner, err := s.index.Agree(ctx, m, id)
		if err != nil {
			return nil, "", err
		}
		if winner == id {
			return created, id, nil
		}
		if _, err := s.db.Delete(ctx, redisdb.KeyUser(id)); err != nil {
			return nil, "", unavailable("removing a user", err)
		}
		return nil, winner, nil
	}
}

// write writes the record of a new user. The error is ErrConflict if the id is taken.
func (s *users) write(ctx context.Context, id string, m Mail, by string) (*User, error) {
	key := redisdb.KeyUser(id)
	sealed := s.keys.Seal([]byte(m), key)
	now := s.now()
	since := s.cache.epochs.Now(key)
	made, err := s.db.Eval(ctx, newUserScript, key, sealed, now.UnixMilli(), by, now.Unix(), 0).Int64()
	if err != nil {
		return nil, unavailable("making a user", err)
	}
	if made == 0 {
		return nil, fmt.Errorf("user %s: %w", id, ErrConflict)
	}
	return s.keep(id, map[string]string{
		fieldMail: string(sealed), fieldFirstSeen: strconv.FormatInt(now.UnixMilli(), 10), fieldFirstBy: by,
		fieldGeneration: strconv.FormatInt(now.Unix(), 10),
	}, since)
}

// remember adds a user that a token was just issued for to the journal.
func (s *users) remember(u *User) {
	key := redisdb.KeyUser(u.ID)
	version := int64(u.generation + u.grantCount) // both only grow
	if e, known := s.feed.Journal().Get(journal.Users, key); known && e.Version >= version && e.Age() < userStep {
		return
	}
	s.feed.Journal().Add(journal.Entry{
		Rank: journal.Users, Name: key, Version: version, Key: key, Script: newUserScript,
		Args: []any{s.keys.Seal([]byte(u.Mail), key), u.FirstSeen.UnixMilli(), u.FirstSeenBy, u.generation, u.grantCount},
	})
	// After a loss an address can have two ids. Replaying these claims finds entries with
	// another id, which shows that both are the same user.
	for _, name := range s.index.Names(u.Mail) {
		s.feed.Journal().Add(journal.Entry{Rank: journal.Users, Name: name + " " + u.ID, Key: name, Script: mailindex.ClaimAgainScript, Args: []any{u.ID}})
	}
}

// userStep is how old a user's journal entry becomes before the next token renews it. Most
// tokens write none.
const userStep = journal.Memory / 6

// contested handles an index entry that another user of the same address may have
// claimed.
func (s *users) contested(ctx context.Context, name, id string) error {
	other, err := s.db.Get(ctx, name)
	if err != nil {
		return unavailable("looking up a user", err)
	}
	if other == "" || other == id {
		return nil
	}
	s.cache.mails.Clear()
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

// keep decodes a user that was read after since, and puts it into the cache.
func (s *users) keep(id string, m map[string]string, since memory.Epoch) (*User, error) {
	u, err := s.decode(id, m)
	if err != nil {
		return nil, err
	}
	if key := userIDOf(id); key != (userID{}) {
		packed := u.pack()
		s.cache.epochs.Fill(redisdb.KeyUser(id), since, func() { s.cache.users.Store(key, packed) })
	}
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
		grantCount: redisdb.ParseUint(m[fieldGrantCount]),
	}
	revoked := revokedGrants{floor: redisdb.ParseUint(m[fieldGrantFloor])}
	var others []string
	for k, v := range m {
		if other, ok := strings.CutPrefix(k, prefixOther); ok {
			others = append(others, other)
		}
		if app, ok := strings.CutPrefix(k, prefixGrantGen); ok {
			if revoked.latest == nil {
				revoked.latest = map[string]uint64{}
			}
			revoked.latest[app] = redisdb.ParseUint(v)
		}
	}
	if revoked.latest != nil || revoked.floor > 0 {
		u.revoked = new(revoked)
	}
	if others != nil {
		u.others = new(others)
	}
	return u, nil
}

// noteSeen records that an application acted for the user, and Meet's id of the user unless it is
// empty: at most once a minute, or if the id has changed.
func (s *users) noteSeen(u *User, by, backendUserID string) {
	now := s.now()
	backendUserID = strings.Clone(backendUserID) // it may be a part of Meet's token
	if !s.cache.useIsDue(useKey{id: u.ID}, backendUserID, now) {
		return
	}
	fields := []any{fieldMail, fieldLastSeen, now.UnixMilli(), fieldLastBy, by}
	if backendUserID != "" {
		fields = append(fields, fieldBackendUser, backendUserID)
	}
	s.background.Go(func(ctx context.Context) {
		// No decision depends on these fields, so memory does not have them.
		_ = s.db.Eval(ctx, touchScript, redisdb.KeyUser(u.ID), fields...).Err()
	})
}
