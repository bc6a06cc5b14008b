// SPDX-License-Identifier: MIT

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
// until the token would have expired, so that nothing can record it again; where
// no record is (it was lost, and may be written again), a mark is put. ARGV:
// state, mark, its life in ms.
var revokeRecordScript = redis.NewScript(`
local value = redis.call('GET', KEYS[1])
if not value then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return ARGV[2]
end
redis.call('SETRANGE', KEYS[1], 0, ARGV[1])
return value`)

// RevokeToken ends one access token, given whole or by its id ("jti"), or the
// family of a refresh token. A token that is expired, unknown or not ours is not
// valid anyway: that is no error (RFC 7009 §2.2). Errors: ErrUnavailable.
func (a *Authority) RevokeToken(ctx context.Context, rawOrID string) error {
	if isID(rawOrID, tokenIDLength) {
		return a.revokeRecord(ctx, keyToken(rawOrID), [sha256.Size]byte{}, maxLifetime)
	}
	return a.revokeRaw(ctx, rawOrID, "")
}

// IsToken reports whether a text is what [Authority.RevokeToken] can end, or could
// have ended: a token of this installation, whole, or by its form the id of one.
// The error is ErrUnavailable.
func (a *Authority) IsToken(ctx context.Context, rawOrID string) (bool, error) {
	if isID(rawOrID, tokenIDLength) {
		return true, nil
	}
	if strings.HasPrefix(rawOrID, RefreshPrefix) {
		return ChecksumOK(rawOrID), nil
	}
	_, err := a.parseSigned(rawOrID)
	if err = a.orMissingKey(ctx, err); errors.Is(err, ErrUnavailable) {
		return false, err
	}
	return err == nil, nil
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
	sum := hashToken(raw)
	// Not parse: a token that is not valid yet by this node's clock is revoked too.
	t, err := a.parseSigned(raw)
	if err != nil {
		if err = a.orMissingKey(ctx, err); errors.Is(err, ErrUnavailable) {
			return err
		}
		return nil // what is not a token of ours needs no revoking
	}
	if owner != "" && t.appID() != owner {
		return deny(ErrNotOwner, "other_application")
	}
	rest := t.expiresAt().Sub(a.now())
	if rest <= 0 {
		return nil
	}
	return a.revokeRecord(ctx, keyToken(t.id), sum, min(rest, maxLifetime)+time.Second)
}

// revokedMark returns the record of a revoked token of which only the hash is
// known, in the form that changes have it; nil if it has not.
func revokedMark(sumText string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(sumText)
	if err != nil || len(b) != sha256.Size {
		return nil
	}
	mark := encodeRecord([sha256.Size]byte(b), generations{})
	mark[0] = recordRevoked
	return mark
}

// revokeRecord marks a record. sum is the hash of the token where it is known;
// life is how long the token can be valid at most.
func (a *Authority) revokeRecord(ctx context.Context, key string, sum [sha256.Size]byte, life time.Duration) error {
	sumText := base64.RawURLEncoding.EncodeToString(sum[:])
	cmd, err := a.store.write(ctx, revokeRecordScript, key, string([]byte{recordRevoked}), revokedMark(sumText), life.Milliseconds())
	if err != nil {
		if sum == [sha256.Size]byte{} {
			sumText = unknownValue
		}
		return a.uncertain(change{revokedToken, key, sumText}, "revoking a token", err)
	}
	value, err := cmd.Text()
	if err != nil {
		return unavailable("revoking a token", err)
	}
	if _, sum, _, err = decodeRecord([]byte(value)); err != nil {
		return unavailable("revoking a token", err)
	}
	if value[0] == recordRevoked && a.cache.wasTold(key) {
		return nil
	}
	if err := a.publish(ctx, change{revokedToken, key, base64.RawURLEncoding.EncodeToString(sum[:])}); err != nil {
		return err
	}
	a.cache.noteTold(key)
	return nil
}

// RevokeApplication ends all tokens of an application issued so far. Its secrets
// go on working. Errors: ErrNotFound, ErrUnavailable.
func (a *Authority) RevokeApplication(ctx context.Context, id string) error {
	return a.bump(ctx, bumpScript, keyApplication(id), change{kind: revokedApplication, id: id}, fieldVersion, fieldGeneration)
}

// RevokeUser ends all tokens for a user issued so far, whichever application
// has them. Errors: ErrNotFound, ErrUnavailable.
func (a *Authority) RevokeUser(ctx context.Context, idOrMail string) error {
	u, err := a.User(ctx, idOrMail)
	if err != nil {
		return err
	}
	return u.eachID(func(id string) error {
		return a.bump(ctx, bumpScript, keyUser(id), change{kind: revokedUser, id: id}, fieldMail, fieldGeneration)
	})
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
	return u.eachID(func(id string) error {
		return a.bump(ctx, revokeGrantScript, keyUser(id), change{kind: revokedGrant, id: id + "/" + app.ID}, app.ID, maxGrants)
	})
}

// eachID revokes all ids of a user's address. One that was never given to anybody may
// not be there.
func (u *User) eachID(revoke func(id string) error) error {
	for _, id := range u.others {
		if err := revoke(id); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return revoke(u.ID)
}

// bump runs a script that counts a generation up and answers it, or 0 if what it
// belongs to is not there.
func (a *Authority) bump(ctx context.Context, script *redis.Script, key string, c change, args ...any) error {
	c.value = unknownValue
	return a.feed.decided(ctx, "revoking", func() error {
		seen := a.feed.look()
		cmd, err := a.store.write(ctx, script, key, args...)
		if err != nil {
			return a.uncertain(c, "revoking", err)
		}
		generation, err := cmd.Int64()
		if err != nil {
			return unavailable("revoking", err)
		}
		if generation == 0 {
			return fmt.Errorf("revoking: %w", ErrNotFound)
		}
		if err := a.established(ctx, seen, c, "revoking"); err != nil {
			return err
		}
		c.value = strconv.FormatInt(generation, 10)
		return a.publish(ctx, c)
	})
}

// RevokeKey ends all access tokens signed with the key. The key stays
// configured; tokens it signs from now on are not valid either, so configure
// another one first. Errors: ErrNotFound for a key that is neither configured nor
// in use by other gateways, ErrConflict for the one that signs, ErrUnavailable.
func (a *Authority) RevokeKey(ctx context.Context, kid string) error {
	if _, ok := a.signing.AlgorithmOf(kid); !ok {
		used := false
		err := a.feed.finding(ctx, func() (bool, error) {
			in, err := a.loadInstallation(ctx)
			used = err == nil && in.uses(kid, a.now())
			return used, err
		})
		if err != nil {
			return err
		}
		if !used {
			return a.orSettling(ctx, fmt.Errorf("signing key: %w", ErrNotFound))
		}
	}
	if kid == a.signing.KeyID() {
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

// countScript counts a field of a hash up.
var countScript = redis.NewScript(countUp + `
return up(ARGV[1])`)

func (a *Authority) revokeEverything(ctx context.Context) error {
	return a.bump(ctx, countScript, keyInstallation, change{kind: revokedInstallation, id: "-"}, fieldGeneration)
}

// overrule raises a field of the installation.
func (a *Authority) overrule(ctx context.Context, field, value string, c change) error {
	if _, err := a.store.write(ctx, laterScript, keyInstallation, field, value); err != nil {
		return a.uncertain(c, "revoking", err)
	}
	return a.publish(ctx, c)
}
