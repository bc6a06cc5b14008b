package tokens

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
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

	generation uint64
	grants     map[string]uint64 // generation by application id
}

// Fields of a user's hash.
const (
	fieldMail        = "m" // sealed
	fieldBackendUser = "b"
	fieldFirstSeen   = "f" // unix milliseconds, as fieldLastSeen
	fieldFirstBy     = "fb"
	fieldLastSeen    = "l"
	fieldLastBy      = "lb"
)

// touchScript sets fields of a hash if it (still) has the first given field.
var touchScript = redis.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1`)

// bumpScript counts a generation up if the hash (still) has the first given
// field, and answers the new value, or 0.
var bumpScript = redis.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
return redis.call('HINCRBY', KEYS[1], ARGV[2], 1)`)

// newUserScript makes a user's record unless the id is taken.
var newUserScript = redis.NewScript(`
if redis.call('HSETNX', KEYS[1], 'm', ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'f', ARGV[2], 'fb', ARGV[3])
return 1`)

// User returns a user by public id or mail address. Errors: ErrNotFound,
// ErrUnavailable.
func (a *Authority) User(ctx context.Context, idOrMail string) (*User, error) {
	if isID(idOrMail, userIDLength) {
		return a.readUser(ctx, idOrMail)
	}
	m, err := ParseMail(idOrMail)
	if err != nil {
		return nil, fmt.Errorf("user: %w", ErrNotFound)
	}
	id, err := a.findUserID(ctx, m)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, fmt.Errorf("user: %w", ErrNotFound)
	}
	return a.readUser(ctx, id)
}

// findUserID looks the address up under every configured key, and keeps it
// under the first. "" means that the address was never seen.
func (a *Authority) findUserID(ctx context.Context, m Mail) (string, error) {
	for i, k := range a.keys.keys {
		id, err := a.store.rdb.Get(ctx, keyMail(k, m)).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return "", unavailable("looking up a user", err)
		}
		if i > 0 {
			if err := a.store.rdb.SetNX(ctx, keyMail(a.keys.first(), m), id, 0).Err(); err != nil {
				return "", unavailable("indexing a user", err)
			}
		}
		return id, nil
	}
	return "", nil
}

// userFor returns the user with the address, and makes it if need be.
func (a *Authority) userFor(ctx context.Context, m Mail, by string) (*User, error) {
	if id, ok := a.cache.mails.GetIfPresent(m); ok {
		u, err := a.user(ctx, id)
		if !errors.Is(err, ErrNotFound) {
			return u, err
		}
		a.cache.mails.Invalidate(m)
	}
	id, err := a.findUserID(ctx, m)
	if err != nil {
		return nil, err
	}
	if id == "" {
		if id, err = a.newUser(ctx, m, by); err != nil {
			return nil, err
		}
	}
	u, err := a.user(ctx, id)
	if errors.Is(err, ErrNotFound) {
		// The index outlived the record (an old snapshot): bring the record back.
		if err = a.makeUser(ctx, id, m, by); err == nil {
			u, err = a.user(ctx, id)
		}
	}
	if err != nil {
		return nil, err
	}
	a.cache.mails.Set(m, id)
	return u, nil
}

// newUser allocates an id for the address. Of several at once one wins, and all
// get its id.
func (a *Authority) newUser(ctx context.Context, m Mail, by string) (string, error) {
	for {
		id := randomID(userIDLength)
		err := a.makeUser(ctx, id, m, by)
		if errors.Is(err, ErrConflict) {
			continue // 62^8 ids: it happens, rarely
		}
		if err != nil {
			return "", err
		}
		key := keyMail(a.keys.first(), m)
		won, err := a.store.rdb.SetNX(ctx, key, id, 0).Result()
		if err != nil {
			return "", unavailable("indexing a user", err)
		}
		if won {
			return id, nil
		}
		winner, err := a.store.rdb.Get(ctx, key).Result()
		if err != nil {
			return "", unavailable("looking up a user", err)
		}
		if winner != id { // a repeated SETNX may have met its own first try
			if err := a.store.rdb.Del(ctx, keyUser(id)).Err(); err != nil {
				return "", unavailable("removing a user", err)
			}
		}
		return winner, nil
	}
}

func (a *Authority) makeUser(ctx context.Context, id string, m Mail, by string) error {
	sealed := a.keys.seal([]byte(m), keyUser(id))
	made, err := newUserScript.Run(ctx, a.store.rdb, []string{keyUser(id)}, sealed, a.now().UnixMilli(), by).Int64()
	if err != nil {
		return unavailable("making a user", err)
	}
	if made == 0 {
		return fmt.Errorf("user %s: %w", id, ErrConflict)
	}
	return nil
}

// user returns the user from memory while that is known to be current.
func (a *Authority) user(ctx context.Context, id string) (*User, error) {
	if a.feed.fresh() {
		if u, ok := a.cache.users.GetIfPresent(id); ok {
			return u, nil
		}
	}
	return a.readUser(ctx, id)
}

// readUser reads the user from Redis into the cache.
func (a *Authority) readUser(ctx context.Context, id string) (*User, error) {
	key := keyUser(id)
	since := a.cache.now(key)
	m, err := a.store.rdb.HGetAll(ctx, key).Result()
	if err != nil {
		return nil, unavailable("reading a user", err)
	}
	u, err := a.decodeUser(id, m)
	if err != nil {
		return nil, err
	}
	fill(a.cache, a.cache.users, id, u, key, since)
	return u, nil
}

func (a *Authority) decodeUser(id string, m map[string]string) (*User, error) {
	if m[fieldMail] == "" {
		return nil, fmt.Errorf("user: %w", ErrNotFound)
	}
	mail, old, err := a.keys.open([]byte(m[fieldMail]), keyUser(id))
	if err != nil {
		return nil, unavailable("reading user "+id, err)
	}
	if old {
		resealed := a.keys.seal(mail, keyUser(id))
		a.inBackground(func(ctx context.Context) {
			_ = touchScript.Run(ctx, a.store.rdb, []string{keyUser(id)}, fieldMail, fieldMail, resealed).Err()
		})
	}
	u := &User{
		ID: id, Mail: Mail(mail), BackendUserID: m[fieldBackendUser],
		FirstSeen: parseInstant(m[fieldFirstSeen]), FirstSeenBy: m[fieldFirstBy],
		LastSeen: parseInstant(m[fieldLastSeen]), LastSeenBy: m[fieldLastBy],
		generation: parseUint(m[fieldGeneration]),
	}
	for k, v := range m {
		if app, ok := strings.CutPrefix(k, prefixGrantGen); ok {
			if u.grants == nil {
				u.grants = map[string]uint64{}
			}
			u.grants[app] = parseUint(v)
		}
	}
	return u, nil
}

// noteSeen writes that an application acted for the user, at most once a
// minute, and Meet's id of the user when it changed.
func (a *Authority) noteSeen(u *User, by, backendUserID string) {
	now := a.now()
	changed := backendUserID != "" && backendUserID != u.BackendUserID
	if !changed && u.LastSeenBy == by && now.Sub(u.LastSeen) < time.Minute {
		return
	}
	if backendUserID == "" {
		backendUserID = u.BackendUserID
	}
	a.inBackground(func(ctx context.Context) {
		err := touchScript.Run(ctx, a.store.rdb, []string{keyUser(u.ID)}, fieldMail,
			fieldLastSeen, now.UnixMilli(), fieldLastBy, by, fieldBackendUser, backendUserID).Err()
		if err == nil {
			// Only this node's copy: nobody decides anything by these fields.
			a.cache.dropUser(u.ID)
		}
	})
}
