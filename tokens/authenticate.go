// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/clientids"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// nobodyDocument stands in for an application that does not exist, so that an unknown id
// costs as much as a wrong secret: two reads, a record of the usual size decoded, two
// HMACs.
const nobodyDocument = `{"f":1,"id":"","aliases":["00000000-0000-0000-0000-000000000000"],"name":"nobody","type":"classic","active":false,` +
	`"scopes":["rooms:list","rooms:retrieve","rooms:create"],"domains":["example.org","example.com"],` +
	`"backend":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",` +
	`"secrets":[{"id":"00000000","k":"hmac","key":"","h":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","c":1000000000000}],` +
	`"created":1000000000000,"updated":1000000000000,"w":"0000000000000000000000"}`

// logins authenticates applications by their secrets.
type logins struct {
	*core
	applications *applications
	registry     *registry
	keyUse       *installation.KeyUse
	secrets      *secrets.Checker
}

// Authenticate returns the application with a client id, which is its id or an alias, if the
// secret is right (RFC 6749 §2.3.1).
//
// It does the same work if the id is unknown, the secret is wrong or the application is
// disabled. Only a caller with the right secret learns that the application is inactive.
//
// Errors: ErrInvalidClient, ErrInactiveApplication, ErrBusy, ErrUnavailable.
func (l *logins) Authenticate(ctx context.Context, clientID, secret string) (*Application, *SecretInfo, error) {
	client, err := l.FindClient(ctx, clientID)
	if err != nil {
		return nil, nil, err
	}
	return l.CheckSecret(ctx, client, secret)
}

// Client is the application with a client id, before its secret is checked. It does not show
// whether an application has the id: only [Authority.CheckSecret] tells.
type Client struct {
	presented string
	seen      feed.Snapshot // before it was read
	app       *Application
	// since and aliasSince were taken before the application and the alias were read.
	since, aliasSince memory.Epoch
	// remembered is true if the application came from memory, not from Redis.
	remembered bool
}

// ID is the id of the application, or the presented client id if no application has it. It is
// what attempts are counted by.
func (c *Client) ID() string { return cmp.Or(c.app.ID, c.presented) }

// Known is the id of the application, or "" if there is none. Unlike the presented client id
// it is safe to log.
func (c *Client) Known() string { return c.app.ID }

// Rates are the limits of the application's own, or nil.
func (c *Client) Rates() *limit.Rates { return c.app.Rates() }

// Remembered reports whether the application came from memory. Before refusing a request,
// call [Authority.CheckSecretNow], which asks Redis.
func (c *Client) Remembered() bool { return c.remembered }

// FindClient returns the client with a client id, from memory while that is current. It
// does the same work for an unknown id. Errors: ErrUnavailable.
func (l *logins) FindClient(ctx context.Context, clientID string) (*Client, error) {
	if app := l.applications.remembered(clientID); app != nil && !app.hasImported() {
		return &Client{presented: clientID, app: app, remembered: true}, nil
	}
	return l.findNow(ctx, clientID)
}

// findNow is FindClient that asks Redis.
func (l *logins) findNow(ctx context.Context, clientID string) (*Client, error) {
	c := &Client{presented: clientID, seen: l.feed.Snapshot()}
	return c, l.read(ctx, c)
}

// CheckSecret checks a client's secret. It accepts from memory, but asks Redis before it
// refuses. Errors are those of [Authority.Authenticate].
func (l *logins) CheckSecret(ctx context.Context, client *Client, secret string) (*Application, *SecretInfo, error) {
	if !client.remembered {
		// As much work as for a known application and a wrong secret.
		if _, err := l.secrets.Find(ctx, nil, "", secret); err != nil {
			return nil, nil, err
		}
		return l.checkRead(ctx, client, secret)
	}
	if v, err := l.secrets.Find(ctx, client.app.storedSecrets, client.app.ID, secret); err == nil && v != nil {
		if done, err := l.accept(client.app, v, secret); err == nil && done.denied == nil {
			return done.app, done.secret, nil
		}
	}
	return l.CheckSecretNow(ctx, client, secret)
}

// CheckSecretNow is CheckSecret without memory.
func (l *logins) CheckSecretNow(ctx context.Context, client *Client, secret string) (*Application, *SecretInfo, error) {
	if client.remembered {
		now, err := l.findNow(ctx, client.presented)
		if err != nil {
			return nil, nil, err
		}
		*client = *now
	}
	return l.checkRead(ctx, client, secret)
}

// checkRead is CheckSecret for an application that was read from Redis.
func (l *logins) checkRead(ctx context.Context, client *Client, secret string) (*Application, *SecretInfo, error) {
	var last login
	err := l.feed.RefuseSince(ctx, client.seen, "checking a secret", func(ctx context.Context) (err error) {
		if last.app != nil { // a repetition
			now, err := l.findNow(ctx, client.presented)
			if err != nil {
				return err
			}
			if *client = *now; client.app.sameRecord(last.app) {
				return last.denied
			}
		}
		if last, err = l.decide(ctx, client.app, secret); err != nil {
			last = login{} // nothing was decided
			return err
		}
		return last.denied
	})
	switch {
	case err == nil:
		l.remember(client)
		return last.app, last.secret, nil
	case errors.Is(err, ErrInactiveApplication): // and the secret is right
		return last.app, nil, ofKnown(last.app, err)
	default:
		return nil, nil, ofKnown(last.app, err)
	}
}

// remember puts an application and its client id into memory.
func (l *logins) remember(c *Client) {
	id := c.app.ID
	l.cache.epochs.Fill(redisdb.KeyApplication(id), c.since, func() { l.cache.applications.Store(id, c.app) })
	if c.presented != id {
		l.cache.epochs.Fill(redisdb.KeyAlias(c.presented), c.aliasSince, func() { l.cache.aliases.Store(c.presented, id) })
	}
}

// ofKnown is [of] for an application that may not exist.
func ofKnown(app *Application, err error) error {
	if app == nil || app.ID == "" {
		return err
	}
	return of(app.ID, err)
}

// login is the outcome of one check of a secret.
type login struct {
	app    *Application
	secret *SecretInfo
	denied error
}

// sameRecord reports whether two readings of an application found the same.
func (app *Application) sameRecord(b *Application) bool {
	return app.ID == b.ID && app.Version == b.Version && app.Updated.Equal(b.Updated)
}

// decide checks the secret of an application, which may not exist.
func (l *logins) decide(ctx context.Context, app *Application, secret string) (login, error) {
	done := login{app: app}
	v, err := l.secrets.Find(ctx, app.storedSecrets, app.ID, secret)
	if err != nil {
		return done, err
	}
	if v == nil && app.ID != "" {
		if err := l.unmatched(ctx, app); err != nil {
			return done, err
		}
	}
	if v == nil || app.ID == "" {
		done.denied = deny(ErrInvalidClient, "unknown_client_or_wrong_secret")
		return done, nil
	}
	return l.accept(app, v, secret)
}

// accept decides on a client whose secret is right.
func (l *logins) accept(app *Application, v *secrets.Stored, secret string) (login, error) {
	done := login{app: app}
	if l.applications.codec.unseal(app); app.unusable() {
		return done, unavailable("reading application "+app.ID, vault.ErrUnsealable)
	}
	if v.Kind != SecretHMAC || v.Key != l.keys.First().ID {
		l.rehash(app.ID, v.ID, secret)
	}
	if !app.Active {
		done.denied = deny(ErrInactiveApplication, "application_inactive")
		return done, nil
	}
	for i := range app.Secrets {
		if s := &app.Secrets[i]; s.ID == v.ID {
			l.noteUse(app, s)
			done.secret = s
			return done, nil
		}
	}
	done.denied = deny(ErrInvalidClient, "secret_expired")
	return done, nil
}

// read reads the application of a client. It sends the same commands if there is none. The
// caller verifies a refusal that follows.
func (l *logins) read(ctx context.Context, c *Client) (err error) {
	clientID, known := c.presented, grammar.IsClientID(c.presented)
	if !known {
		clientID = "?"
	}
	var id string
	var m map[string]string
	err = l.feed.Read(ctx, "reading an application", func(ctx context.Context, r feed.Reader) (bool, error) {
		c.aliasSince = l.cache.epochs.Now(redisdb.KeyAlias(clientID))
		entry, err := r.Get(ctx, redisdb.KeyAlias(clientID)).Result()
		if err = redisdb.IgnoreNil(err); err != nil {
			return false, err
		}
		id = cmp.Or(clientids.Owner(entry), clientID)
		c.since = l.cache.epochs.Now(redisdb.KeyApplication(id))
		m, err = r.HGetAll(ctx, redisdb.KeyApplication(id)).Result()
		return true, err //nolint:wrapcheck // wrapped by Read
	})
	if err != nil {
		return err
	}
	nobody := map[string]string{fieldDocument: nobodyDocument, fieldVersion: "1"}
	if !known || m[fieldDocument] == "" {
		c.app, err = l.applications.codec.decodeSealed("", nobody)
		return err
	}
	c.app, err = l.applications.codec.decodeSealed(id, m)
	if err == nil && !c.app.hasClientID(clientID) {
		c.app, err = l.applications.codec.decodeSealed("", nobody) // a left-over index entry
	}
	return err
}

// unmatched returns ErrUnavailable if a secret may not match only because this gateway
// lacks the key of its hash.
func (l *logins) unmatched(ctx context.Context, app *Application) error {
	for _, v := range app.storedSecrets {
		if v.Kind == SecretHMAC && l.keys.ByID(v.Key) == nil && !v.Expired(l.now()) {
			if err := l.keyUse.Misses(ctx, v.Key, "checking a secret"); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasImported reports whether the application has an imported secret that was never used.
// Comparing it takes a slow hash.
func (app *Application) hasImported() bool {
	return slices.ContainsFunc(app.storedSecrets, func(v secrets.Stored) bool { return v.Kind != SecretHMAC })
}

// rehash replaces the stored hash of a secret by an HMAC under the first key, in the
// background.
func (l *logins) rehash(applicationID, secretID, secret string) {
	l.background.Go(func(ctx context.Context) {
		_, err := l.registry.change(ctx, applicationID, 0, func(n *Application) error {
			for i, v := range n.storedSecrets {
				if v.ID == secretID {
					r := secrets.New(l.keys, v.ID, applicationID, secret, time.UnixMilli(v.Created))
					r.Expires, r.Client = v.Expires, v.Client
					n.storedSecrets[i] = r
					return nil
				}
			}
			return ErrNotFound
		})
		// If this fails, the next use tries again.
		_ = err
	})
}

// noteUse records when the application and its secret were last used, at most once a
// minute.
func (l *logins) noteUse(app *Application, s *SecretInfo) {
	now := l.now()
	if now.Sub(s.LastUsed) < time.Minute || !l.cache.useIsDue(useKey{app.ID, s.ID}, "", now) {
		return
	}
	l.background.Go(func(ctx context.Context) {
		ms := now.UnixMilli()
		// Not HSET, which would bring back a part of a deleted record.
		err := l.db.Eval(ctx, touchScript, redisdb.KeyApplication(app.ID),
			fieldVersion, fieldLastUsed, ms, prefixSecretUsed+s.ID, ms).Err()
		_ = err // best effort
	})
}
