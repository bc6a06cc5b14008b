package tokens

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Every revocation costs one write, whatever the number of tokens it ends. All
// return nil only after Redis has acknowledged the write (and the replicas asked
// for have) and the other gateways were told; ErrUnavailable means that it may or
// may not have happened and that doing it again is safe.

// revokeRecordScript marks a record as revoked and answers it. The mark stays
// until the token would have expired, so that nothing can record it again.
var revokeRecordScript = redis.NewScript(`
local value = redis.call('GET', KEYS[1])
if not value then return false end
redis.call('SETRANGE', KEYS[1], 0, ARGV[1])
return value`)

// RevokeToken ends one access token, given whole or by its id ("jti"), or the
// family of a refresh token. A token that is expired, unknown or not ours is not
// valid anyway: that is no error (RFC 7009 §2.2). Errors: ErrUnavailable.
func (a *Authority) RevokeToken(ctx context.Context, rawOrID string) error {
	if isID(rawOrID, tokenIDLength) {
		return a.revokeRecord(ctx, keyToken(rawOrID))
	}
	return a.revokeRaw(ctx, rawOrID, "")
}

// RevokeOwnToken is RevokeToken for the holder: only a token that was issued to
// the application is ended. Errors: ErrNotOwner, ErrUnavailable.
func (a *Authority) RevokeOwnToken(ctx context.Context, app *Application, raw string) error {
	return a.revokeRaw(ctx, raw, app.ID)
}

func (a *Authority) revokeRaw(ctx context.Context, raw, owner string) error {
	if strings.HasPrefix(raw, RefreshPrefix) {
		return a.revokeFamily(ctx, raw, owner)
	}
	t, err := a.parse(raw, sha256.Sum256([]byte(raw)))
	if err != nil {
		return nil //nolint:nilerr // what is not a token of ours needs no revoking
	}
	if owner != "" && t.appID != owner {
		return deny(ErrNotOwner, "other_application")
	}
	return a.revokeRecord(ctx, keyToken(t.id))
}

func (a *Authority) revokeRecord(ctx context.Context, key string) error {
	value, err := revokeRecordScript.Run(ctx, a.store.rdb, []string{key}, string([]byte{recordRevoked})).Text()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return unavailable("revoking a token", err)
	}
	_, sum, _, err := decodeRecord([]byte(value))
	if err != nil {
		return unavailable("revoking a token", err)
	}
	if err := a.store.acknowledged(ctx, key); err != nil {
		return err
	}
	return a.publish(ctx, change{revokedToken, key, base64.RawURLEncoding.EncodeToString(sum[:])})
}

// RevokeApplication ends all tokens of an application issued so far. Its secrets
// go on working. Errors: ErrNotFound, ErrUnavailable.
func (a *Authority) RevokeApplication(ctx context.Context, id string) error {
	return a.bump(ctx, keyApplication(id), fieldVersion, fieldGeneration, revokedApplication, id)
}

// RevokeUser ends all tokens for a user issued so far, whichever application
// has them. Errors: ErrNotFound, ErrUnavailable.
func (a *Authority) RevokeUser(ctx context.Context, idOrMail string) error {
	u, err := a.User(ctx, idOrMail)
	if err != nil {
		return err
	}
	return a.bump(ctx, keyUser(u.ID), fieldMail, fieldGeneration, revokedUser, u.ID)
}

// RevokeGrant ends all tokens that one application has for one user. Errors:
// ErrNotFound, ErrUnavailable.
func (a *Authority) RevokeGrant(ctx context.Context, applicationID, idOrMail string) error {
	u, err := a.User(ctx, idOrMail)
	if err != nil {
		return err
	}
	app, err := a.Application(ctx, applicationID)
	if err != nil {
		return err
	}
	return a.bump(ctx, keyUser(u.ID), fieldMail, prefixGrantGen+app.ID, revokedGrant, u.ID+"/"+app.ID)
}

// bump counts a generation up.
func (a *Authority) bump(ctx context.Context, key, mustHave, field string, kind changeKind, id string) error {
	generation, err := bumpScript.Run(ctx, a.store.rdb, []string{key}, mustHave, field).Int64()
	if err != nil {
		return unavailable("revoking", err)
	}
	if generation == 0 {
		return fmt.Errorf("revoking: %w", ErrNotFound)
	}
	if err := a.store.acknowledged(ctx, key); err != nil {
		return err
	}
	return a.publish(ctx, change{kind, id, strconv.FormatInt(generation, 10)})
}

// RevokeKey ends all access tokens signed with the key. The key stays
// configured; tokens it signs from now on are not valid either, so configure
// another one first. Errors: ErrNotFound for a key that is not configured,
// ErrConflict for the one that signs, ErrUnavailable.
func (a *Authority) RevokeKey(ctx context.Context, kid string) error {
	if _, ok := a.signing.verify[kid]; !ok {
		return fmt.Errorf("signing key: %w", ErrNotFound)
	}
	if kid == a.signing.kid {
		return fmt.Errorf("signing key %s is the one that signs; put another one first: %w", kid, ErrConflict)
	}
	return a.overrule(ctx, prefixWithdrawn+kid, "1", change{withdrawnKey, kid, "1"})
}

// RevokeBefore ends all tokens issued before the instant, which must not be in
// the future. Errors: ErrInvalidInstant, ErrUnavailable.
func (a *Authority) RevokeBefore(ctx context.Context, t time.Time) error {
	if t.After(a.now()) {
		return fmt.Errorf("%w: it lies in the future", ErrInvalidInstant)
	}
	ms := strconv.FormatInt(t.UnixMilli(), 10)
	return a.overrule(ctx, fieldNotBefore, ms, change{revokedBefore, "-", ms})
}

// RevokeAll ends all tokens issued so far. Errors: ErrUnavailable.
func (a *Authority) RevokeAll(ctx context.Context) error { return a.revokeEverything(ctx) }

func (a *Authority) revokeEverything(ctx context.Context) error {
	generation, err := a.store.rdb.HIncrBy(ctx, keyInstallation, fieldGeneration, 1).Result()
	if err != nil {
		return unavailable("revoking everything", err)
	}
	if err := a.store.acknowledged(ctx, keyInstallation); err != nil {
		return err
	}
	return a.publish(ctx, change{revokedInstallation, "-", strconv.FormatInt(generation, 10)})
}

// overrule raises a field of the installation.
func (a *Authority) overrule(ctx context.Context, field, value string, c change) error {
	if err := laterScript.Run(ctx, a.store.rdb, []string{keyInstallation}, field, value).Err(); err != nil {
		return unavailable("revoking", err)
	}
	if err := a.store.acknowledged(ctx, keyInstallation); err != nil {
		return err
	}
	return a.publish(ctx, c)
}

// laterIfScript is laterScript for a record that must (still) have a field.
var laterIfScript = redis.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local have = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or '0')
if have < tonumber(ARGV[3]) then redis.call('HSET', KEYS[1], ARGV[2], ARGV[3]) end
return 1`)

// repeat writes a change again that Redis has lost. What cannot be written again
// (an application edited) ends the tokens it could have ended.
func (a *Authority) repeat(ctx context.Context, c change) error {
	var err error
	switch c.kind {
	case revokedToken:
		err = revokeRecordScript.Run(ctx, a.store.rdb, []string{c.id}, string([]byte{recordRevoked})).Err()
		if errors.Is(err, redis.Nil) {
			err = nil // lost as well
		}
	case revokedApplication:
		err = laterIfScript.Run(ctx, a.store.rdb, []string{keyApplication(c.id)}, fieldVersion, fieldGeneration, c.value).Err()
	case revokedUser:
		err = laterIfScript.Run(ctx, a.store.rdb, []string{keyUser(c.id)}, fieldMail, fieldGeneration, c.value).Err()
	case revokedGrant:
		user, app, _ := strings.Cut(c.id, "/")
		err = laterIfScript.Run(ctx, a.store.rdb, []string{keyUser(user)}, fieldMail, prefixGrantGen+app, c.value).Err()
	case revokedInstallation:
		err = laterScript.Run(ctx, a.store.rdb, []string{keyInstallation}, fieldGeneration, c.value).Err()
	case revokedBefore:
		err = laterScript.Run(ctx, a.store.rdb, []string{keyInstallation}, fieldNotBefore, c.value).Err()
	case withdrawnKey:
		err = laterScript.Run(ctx, a.store.rdb, []string{keyInstallation}, prefixWithdrawn+c.id, c.value).Err()
	case changedApplication:
		return a.repeatEdit(ctx, c)
	case changedAlias, changedUser:
	}
	if err != nil {
		return unavailable("writing a lost change again", err)
	}
	return a.publish(ctx, c)
}

// repeatEdit ends the tokens of an application whose last edit is lost.
func (a *Authority) repeatEdit(ctx context.Context, c change) error {
	app, err := a.readApplication(ctx, c.id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if want, _ := strconv.ParseInt(c.value, 10, 64); want != 0 && app.Version >= want {
		return nil
	}
	return a.RevokeApplication(ctx, c.id)
}
