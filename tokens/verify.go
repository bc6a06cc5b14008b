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

// CredentialType is the kind of a credential, in the words of the identity API.
type CredentialType string

// The three kinds of credential.
const (
	AccessToken  CredentialType = "access_token"
	RefreshToken CredentialType = "refresh_token"
	Basic        CredentialType = "basic"
)

// Identity is what a valid credential turned out to be. What it points to is shared
// between requests and must not be changed.
type Identity struct {
	// Credential is the kind of the credential.
	Credential CredentialType
	// Application is who was given it.
	Application *Application
	// User is for whom; nil for an application's own credential.
	User *User
	// Scopes are what it may do now: what it was issued with and the
	// application still has.
	Scopes Scopes
	// Issued and Expires bound its life; Expires is zero for no end.
	Issued, Expires time.Time
	// TokenID is its "jti"; "" for other kinds.
	TokenID string
	// Generations are those that an access token was judged under.
	Generations Generations
}

// verifier judges credentials.
type verifier struct {
	*core
	signer        *signer
	circumstances *circumstances
	refreshes     *refreshes
	keyUse        *installation.KeyUse
	stats         stats
}

// Verify finds out whether an access token is valid, and whose it is. It is on
// the path of every request: while the feed is fresh and the token known, it
// answers from memory; when the feed is stale, it asks Redis.
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
			if err != nil {
				return nil, of(t.Application, err)
			}
			return id, nil
		}
	}
	v.stats.misses.Add(1)
	t, err := v.parse(ctx, raw, sum)
	if err != nil {
		return nil, err
	}
	if !fresh || !v.circumstances.known(t, now) {
		return v.readAndJudge(ctx, t, sum)
	}
	if err := v.read(ctx, t, sum); err != nil {
		return nil, of(t.Application, err)
	}
	id, err := v.judge(ctx, t, now)
	return id, of(t.Application, err)
}

// hashToken hashes a token without copying one of usual length to the heap.
func hashToken(raw string) [sha256.Size]byte {
	var usual [1024]byte
	return sha256.Sum256(append(usual[:0], raw...))
}

// Inspect decides as Verify does, but always on what Redis says now. It also
// accepts refresh tokens: /identity and introspection do, nothing else may.
func (v *verifier) Inspect(ctx context.Context, raw string) (*Identity, error) {
	if strings.HasPrefix(raw, RefreshPrefix) {
		return v.refreshes.inspect(ctx, raw)
	}
	sum := hashToken(raw)
	t, err := v.parse(ctx, raw, sum)
	if err != nil {
		return nil, err
	}
	return v.readAndJudge(ctx, t, sum)
}

// parse checks what a token says and its signature. That a token which is remembered
// was signed need not be found out again.
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

// read compares the token with its record.
func (v *verifier) read(ctx context.Context, t *accessToken, sum [sha256.Size]byte) error {
	key := t.key()
	var since memory.Epoch
	var value []byte
	err := v.feed.Read(ctx, readingRecord, func(ctx context.Context, _ feed.Reader) (found bool, err error) {
		since = v.cache.epochs.Now(key)
		value, err = v.db.GetTogether(ctx, key)
		return len(value) > 0, err
	})
	if err != nil {
		return err
	}
	return v.keep(t, sum, value, key, since)
}

const readingRecord = "reading a token's record"

// keep compares the token with the record that was read since, and remembers it.
func (v *verifier) keep(t *accessToken, sum [sha256.Size]byte, value []byte, key string, since memory.Epoch) error {
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
	t.Generations, t.Read = issuedUnder.list(), v.now().UnixNano()
	v.cache.fillToken(sum, t, key, since)
	return nil
}

// readAndJudge is read and judge on what Redis says now, in one trip.
func (v *verifier) readAndJudge(ctx context.Context, t *accessToken, sum [sha256.Size]byte) (*Identity, error) {
	key := t.key()
	var since memory.Epoch
	var value []byte
	var on dependencies
	err := v.feed.Read(ctx, readingRecord, func(ctx context.Context, r feed.Reader) (found bool, err error) {
		since = v.cache.epochs.Now(key)
		on = v.circumstances.before(t.Application, t.userID())
		if value, on.hashes, err = redisdb.ValueAndHashes(ctx, r, key, on.keys[:]...); err != nil || len(value) == 0 {
			return false, err
		}
		state, _, issuedUnder, err := decodeRecord(value)
		return err != nil || state == recordRevoked || on.complete(issuedUnder), nil
	})
	if err != nil {
		return nil, err
	}
	id, err := func() (*Identity, error) {
		if err := v.keep(t, sum, value, key, since); err != nil {
			return nil, err
		}
		now := v.now()
		if t.expired(now) {
			return nil, deny(ErrTokenExpired, "expired")
		}
		in, app, u, err := v.circumstances.keep(&on)
		if err != nil {
			return nil, err
		}
		return v.judgeUnder(ctx, t, in, app, u)
	}()
	return id, of(t.Application, err)
}

// judge decides on a token whose signature and record are good: what can have
// changed since.
func (v *verifier) judge(ctx context.Context, t *accessToken, now time.Time) (*Identity, error) {
	if t.expired(now) {
		return nil, deny(ErrTokenExpired, "expired")
	}
	in, app, u, err := v.circumstances.of(ctx, t, now)
	if err != nil {
		return nil, err
	}
	return v.judgeUnder(ctx, t, in, app, u)
}

// judgeUnder decides on a token under the circumstances.
func (v *verifier) judgeUnder(ctx context.Context, t *accessToken, in *installation.State, app *Application, u *User) (*Identity, error) {
	err := t.overruled(in, app, u)
	if mayBeUndone(err) {
		// It may have been undone where this gateway does not hear of it.
		err = v.feed.Refuse(ctx, "judging a token", func(ctx context.Context) (err error) {
			if in, app, u, err = v.circumstances.read(ctx, t.Application, t.userID(), t.issuedUnder()); err == nil {
				err = t.overruled(in, app, u)
			}
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	return &Identity{
		Credential: AccessToken, Application: app, User: u, Scopes: t.scopes(app),
		Issued: t.issuedAt(), Expires: t.expiresAt(), TokenID: string(t.ID[:]), Generations: generationsOf(in, app, u),
	}, nil
}

// overruled tells whether something revokes or forbids the token.
func (t *accessToken) overruled(in *installation.State, app *Application, u *User) error {
	return overruled(in, app, u, t.issuedUnder(), t.issuedAt(), t.KeyID)
}

// mayBeUndone reports whether what overrules a token can be taken back: an
// application can be made active again, and be given a domain again. A revocation
// is for good.
func mayBeUndone(err error) bool {
	switch Reason(err) {
	case "application_inactive", "mail_denied", "domain_not_allowed":
		return true
	}
	return false
}
