// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// CredentialType is the kind of a credential, as the identity API names it.
type CredentialType string

// The kinds of credential.
const (
	AccessToken  CredentialType = "access_token"
	RefreshToken CredentialType = "refresh_token"
	Basic        CredentialType = "basic"
)

// Identity describes a valid credential. Application and User are shared between requests
// and must not be changed.
type Identity struct {
	// Credential is the kind of the credential.
	Credential CredentialType
	// Application is the application that it was issued to.
	Application *Application
	// User is the user that it is for; nil for an application's own credential. It may lack
	// BackendUserID, LastSeen and LastSeenBy, for which see [Authority.User].
	User *User
	// Scopes are those that it was issued with and the application still has.
	Scopes Scopes
	// Issued and Expires bound its life. Expires is zero if it does not expire.
	Issued, Expires time.Time
	// TokenID is the "jti" of an access token, else "".
	TokenID string
	// Generations are those of an access token's grant, see [Authority.Generations].
	Generations Generations
}

// verifier decides whether credentials are valid.
type verifier struct {
	*core
	signer    *signer
	grants    *grants
	refreshes *refreshes
	keyUse    *installation.KeyUse
	stats     stats
}

// Verify finds out whether an access token is valid, and whose it is. It runs on every
// request. While the feed is fresh it answers for a known token from memory; otherwise it
// asks Redis.
//
// Errors: ErrTokenMalformed, ErrTokenForeign, ErrTokenExpired, ErrTokenInvalid,
// ErrInactiveApplication, ErrUnavailable. [Reason] has details for logs.
func (v *verifier) Verify(ctx context.Context, raw string) (*Identity, error) {
	sum := hashToken(raw)
	now := v.now()
	fresh := v.feed.Fresh()
	if fresh {
		if t, ok := v.cache.token(sum); ok && !outdated(t.readAt(), now) {
			v.stats.hits.Add(1)
			id, err := v.judge(ctx, &t, now)
			return id, of(t.Application, err)
		}
	}
	v.stats.misses.Add(1)
	t, err := v.parse(ctx, raw, sum)
	if err != nil {
		return nil, err
	}
	if fresh {
		if _, ok := v.grants.remembered(t, now); ok {
			id, err := v.readRecordAndJudge(ctx, t, sum, now)
			return id, of(t.Application, err)
		}
	}
	id, err := v.readAndJudge(ctx, t, sum)
	return id, of(t.Application, err)
}

// hashToken hashes a token without copying one of usual length to the heap.
func hashToken(raw string) [sha256.Size]byte {
	var usual [1024]byte
	return sha256.Sum256(append(usual[:0], raw...))
}

// Inspect is Verify without memory. It also accepts refresh tokens, so it is only for
// /identity and introspection.
func (v *verifier) Inspect(ctx context.Context, raw string) (*Identity, error) {
	if strings.HasPrefix(raw, RefreshPrefix) {
		return v.refreshes.inspect(ctx, raw)
	}
	sum := hashToken(raw)
	t, err := v.parse(ctx, raw, sum)
	if err != nil {
		return nil, err
	}
	id, err := v.readAndJudge(ctx, t, sum)
	return id, of(t.Application, err)
}

// parse checks the claims and the signature of a token. The signature of a token in memory
// was checked before.
func (v *verifier) parse(ctx context.Context, raw string, sum [sha256.Size]byte) (*accessToken, error) {
	if known, ok := v.cache.token(sum); ok {
		return &known, known.inTime(v.now())
	}
	t, err := v.signer.parse(raw)
	if err != nil {
		return nil, v.keyUse.OrMissing(ctx, err)
	}
	return t, t.inTime(v.now())
}

const readingRecord = "reading a token's record"

// readRecordAndJudge is readAndJudge for a token whose grant is in memory: it only reads the
// token's record.
func (v *verifier) readRecordAndJudge(ctx context.Context, t *accessToken, sum [sha256.Size]byte, now time.Time) (*Identity, error) {
	key := t.key()
	var since memory.Epoch
	var value []byte
	err := v.feed.Read(ctx, readingRecord, func(ctx context.Context, _ feed.Reader) (found bool, err error) {
		since = v.cache.epochs.Now(key)
		value, err = v.db.GetBatched(ctx, key)
		return len(value) > 0, err
	})
	if err != nil {
		return nil, err
	}
	if err := v.compare(t, sum, value, key, since); err != nil {
		return nil, err
	}
	return v.judge(ctx, t, now)
}

// readAndJudge reads a token's record and its grant from Redis, in one round trip.
func (v *verifier) readAndJudge(ctx context.Context, t *accessToken, sum [sha256.Size]byte) (*Identity, error) {
	key := t.key()
	var since memory.Epoch
	var value []byte
	var records grantRecords
	err := v.feed.Read(ctx, readingRecord, func(ctx context.Context, r feed.Reader) (found bool, err error) {
		since = v.cache.epochs.Now(key)
		records = v.grants.records(t.Application, t.userID())
		if value, records.hashes, err = redisdb.ValueAndHashes(ctx, r, key, records.keys[:]...); err != nil || len(value) == 0 {
			return false, err
		}
		state, _, issuedUnder, err := decodeRecord(value)
		return err != nil || state == recordRevoked || records.complete(issuedUnder), nil
	})
	if err != nil {
		return nil, err
	}
	if err := v.compare(t, sum, value, key, since); err != nil {
		return nil, err
	}
	if t.expired(v.now()) {
		return nil, deny(ErrTokenExpired, "expired")
	}
	s, err := v.grants.keep(&records)
	if err != nil {
		return nil, err
	}
	return v.judgeIn(ctx, t, s)
}

// compare compares a token with its record, which was read after since, and remembers the
// token if the record is live.
func (v *verifier) compare(t *accessToken, sum [sha256.Size]byte, value []byte, key string, since memory.Epoch) error {
	if len(value) == 0 {
		return deny(ErrTokenInvalid, "unknown_token")
	}
	state, recorded, issuedUnder, err := decodeRecord(value)
	if err != nil {
		return unavailable(readingRecord, err)
	}
	if subtle.ConstantTimeCompare(recorded[:], sum[:]) != 1 {
		return deny(ErrTokenInvalid, "record_mismatch")
	}
	if state == recordRevoked {
		return deny(ErrTokenInvalid, "revoked")
	}
	t.Generations, t.Read = issuedUnder, v.now().Unix()
	v.cache.fillToken(sum, t, key, since)
	return nil
}

// judge decides on a token whose signature and record are good.
func (v *verifier) judge(ctx context.Context, t *accessToken, now time.Time) (*Identity, error) {
	if t.expired(now) {
		return nil, deny(ErrTokenExpired, "expired")
	}
	s, err := v.grants.of(ctx, t, now)
	if err != nil {
		return nil, err
	}
	return v.judgeIn(ctx, t, s)
}

// judgeIn decides on a token, given the state of its grant.
func (v *verifier) judgeIn(ctx context.Context, t *accessToken, s grantState) (*Identity, error) {
	err := s.check(t.issuedUnder(), t.issuedAt(), t.KeyID)
	if isReversible(err) {
		s, err = v.checkNow(ctx, t)
	}
	if err != nil {
		return nil, err
	}
	return &Identity{
		Credential: AccessToken, Application: s.application, User: s.user, Scopes: t.scopes(s.application),
		Issued: t.issuedAt(), Expires: t.expiresAt(), TokenID: string(t.ID[:]), Generations: s.cacheKey(),
	}, nil
}

// checkNow checks a token's grant without memory: an operator may have reversed what made the
// token invalid, and this gateway may not know yet.
func (v *verifier) checkNow(ctx context.Context, t *accessToken) (s grantState, err error) {
	err = v.feed.Refuse(ctx, "judging a token", func(ctx context.Context) (err error) {
		if s, err = v.grants.read(ctx, t.Application, t.userID(), t.issuedUnder()); err != nil {
			return err
		}
		return s.check(t.issuedUnder(), t.issuedAt(), t.KeyID)
	})
	return s, err
}
