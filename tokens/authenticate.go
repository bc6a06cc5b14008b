// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// nobody stands for the application that does not exist, so that an unknown id
// costs what a wrong secret costs: two reads, a record of the usual size decoded,
// two HMACs.
const nobodyDocument = `{"f":1,"id":"","aliases":["00000000-0000-0000-0000-000000000000"],"name":"nobody","type":"classic","active":false,` +
	`"scopes":["rooms:list","rooms:retrieve","rooms:create"],"domains":["example.org","example.com"],` +
	`"backend":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",` +
	`"secrets":[{"id":"00000000","k":"hmac","key":"","h":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","c":1000000000000}],` +
	`"created":1000000000000,"updated":1000000000000,"w":"0000000000000000000000"}`

// Authenticate finds out whether an application presented its secret (RFC 6749
// §2.3.1). clientID is its id or an alias.
//
// It reads Redis every time and does the same work whether the id is unknown,
// the secret wrong or the application disabled; only who has the right secret
// is told that the application is inactive.
//
// Errors: ErrInvalidClient, ErrInactiveApplication, ErrBusy, ErrUnavailable.
func (a *Authority) Authenticate(ctx context.Context, clientID, secret string) (*Application, *SecretInfo, error) {
	client, err := a.FindClient(ctx, clientID)
	if err != nil {
		return nil, nil, err
	}
	return a.CheckSecret(ctx, client, secret)
}

// Client is who a client id belongs to, before the secret was looked at. It may be
// nobody: that is found out, and told, by [Authority.CheckSecret] alone.
type Client struct {
	presented string
	seen      feed.Snapshot // before it was read
	app       *Application
}

// ID is the id of the application, whichever of its client ids was presented, or the
// client id as it was presented if no application has it. Attempts are counted by it.
func (c *Client) ID() string { return cmp.Or(c.app.ID, c.presented) }

// Known is the id of the application, or "" for nobody. It is for the log: what was only
// presented may be anything.
func (c *Client) Known() string { return c.app.ID }

// Rates are the limits of the application's own, or nil.
func (c *Client) Rates() *limit.Rates { return c.app.Rates() }

// FindClient finds out who a client id belongs to. It does the same work if nobody
// has it. Errors: ErrUnavailable.
func (a *Authority) FindClient(ctx context.Context, clientID string) (*Client, error) {
	seen := a.feed.Snapshot()
	app, err := a.applicationForLogin(ctx, clientID)
	if err != nil {
		return nil, err
	}
	return &Client{presented: clientID, seen: seen, app: app}, nil
}

// CheckSecret finds out whether a secret is one of the client's. Errors are those of
// [Authority.Authenticate].
func (a *Authority) CheckSecret(ctx context.Context, client *Client, secret string) (*Application, *SecretInfo, error) {
	var last login
	err := a.feed.RefuseSince(ctx, client.seen, "checking a secret", func(ctx context.Context) (err error) {
		if last.app != nil { // it is decided again
			if client, err = a.FindClient(ctx, client.presented); err != nil {
				return err
			}
			if client.app.sameRecord(last.app) {
				return last.denied
			}
		}
		if last, err = a.judgeLogin(ctx, client.app, secret); err != nil {
			return err
		}
		return last.denied
	})
	switch {
	case err == nil:
		return last.app, last.secret, nil
	case errors.Is(err, ErrInactiveApplication): // said to who has the right secret
		return last.app, nil, ofKnown(last.app, err)
	default:
		return nil, nil, ofKnown(last.app, err)
	}
}

// ofKnown is [of] for an application that may be nobody.
func ofKnown(app *Application, err error) error {
	if app == nil || app.ID == "" {
		return err
	}
	return of(app.ID, err)
}

// login is what became of an attempt to log in.
type login struct {
	app    *Application
	secret *SecretInfo
	denied error
}

// sameRecord reports whether two readings of an application found the same.
func (app *Application) sameRecord(b *Application) bool {
	return app.ID == b.ID && app.Version == b.Version && app.Updated.Equal(b.Updated)
}

// judgeLogin decides whether the secret is one of the application's, which may be
// nobody.
func (a *Authority) judgeLogin(ctx context.Context, app *Application, secret string) (login, error) {
	l := login{app: app}
	v, err := a.matchSecret(ctx, app, secret)
	if err != nil {
		return l, err
	}
	if v == nil {
		if err := a.unmatched(ctx, app); err != nil {
			return l, err
		}
	}
	if v == nil || app.ID == "" {
		l.denied = deny(ErrInvalidClient, "unknown_client_or_wrong_secret")
		return l, nil
	}
	if a.unseal(app); app.unusable() {
		return l, unavailable("reading application "+app.ID, vault.ErrUnsealable)
	}
	if v.Kind != SecretHMAC || v.Key != a.keys.First().ID {
		a.rehash(app.ID, v.ID, secret)
	}
	if !app.Active {
		l.denied = deny(ErrInactiveApplication, "application_inactive")
		return l, nil
	}
	for i := range app.Secrets {
		if s := &app.Secrets[i]; s.ID == v.ID {
			a.noteUse(app, s)
			l.secret = s
			return l, nil
		}
	}
	l.denied = deny(ErrInvalidClient, "secret_expired")
	return l, nil
}

// applicationForLogin reads the application, or nobody, with the same commands.
// Whoever is turned away for it asks whether that stands.
func (a *Authority) applicationForLogin(ctx context.Context, clientID string) (*Application, error) {
	known := isClientID(clientID)
	if !known {
		clientID = "?"
	}
	var id string
	var m map[string]string
	err := a.feed.Read(ctx, "reading an application", func(ctx context.Context, r feed.Reader) (bool, error) {
		entry, err := r.Get(ctx, redisdb.KeyAlias(clientID)).Result()
		if err = redisdb.IgnoreNil(err); err != nil {
			return false, err
		}
		id = cmp.Or(entryOwner(entry), clientID)
		m, err = r.HGetAll(ctx, redisdb.KeyApplication(id)).Result()
		return true, err //nolint:wrapcheck // wrapped by Read
	})
	if err != nil {
		return nil, err
	}
	nobody := map[string]string{fieldDocument: nobodyDocument, fieldVersion: "1"}
	if !known || m[fieldDocument] == "" {
		return a.decodeSealed("", nobody)
	}
	app, err := a.decodeSealed(id, m)
	if err == nil && !app.hasClientID(clientID) {
		return a.decodeSealed("", nobody) // the entry of the index is left over
	}
	return app, err
}

// matchSecret returns the live verifier that the secret belongs to, or nil.
func (a *Authority) matchSecret(ctx context.Context, app *Application, secret string) (*verifier, error) {
	if len(secret) > maxSecret {
		secret = "" // matches nothing, and costs the same
	}
	now := a.now()
	var match *verifier
	var imported []*verifier
	for i := range max(len(app.verifiers), maxSecrets) {
		if i >= len(app.verifiers) {
			// As many HMACs for one secret, or none, as for two.
			matches(a.keys, verifier{Key: a.keys.First().ID}, app.ID, secret)
			continue
		}
		v := &app.verifiers[i]
		if v.Kind != SecretHMAC {
			imported = append(imported, v)
			continue
		}
		if matches(a.keys, *v, app.ID, secret) && !v.expired(now) {
			match = v
		}
	}
	if match != nil {
		// Who has this secret need not wait for the slow hash of another, which
		// strangers can keep busy. Nobody else sees the difference.
		return match, nil
	}
	for _, v := range imported {
		ok, err := a.matchImported(ctx, v, secret)
		if err != nil {
			return nil, err
		}
		if ok && !v.expired(now) {
			match = v
		}
	}
	return match, nil
}

// unmatched returns ErrUnavailable if a secret that matches nothing may be one
// whose hash was made with a key that this gateway lacks.
func (a *Authority) unmatched(ctx context.Context, app *Application) error {
	for _, v := range app.verifiers {
		if v.Kind == SecretHMAC && a.keys.ByID(v.Key) == nil && !v.expired(a.now()) {
			if err := a.missesKey(ctx, v.Key, "checking a secret"); err != nil {
				return err
			}
		}
	}
	return nil
}

// rehash replaces how a secret is stored by an HMAC under the first key, in the
// background: the application is authenticated already.
func (a *Authority) rehash(applicationID, secretID, secret string) {
	a.background.Go(func(ctx context.Context) {
		_, err := a.updateApplication(ctx, applicationID, 0, func(n *Application) error {
			for i, v := range n.verifiers {
				if v.ID == secretID {
					r := newVerifier(a.keys, v.ID, applicationID, secret, time.UnixMilli(v.Created))
					r.Expires, r.Client = v.Expires, v.Client
					n.verifiers[i] = r
					return nil
				}
			}
			return ErrNotFound
		})
		// Not done is no harm: the next use tries again.
		_ = err
	})
}

// noteUse writes when the application and its secret were last used, at most
// once a minute.
func (a *Authority) noteUse(app *Application, s *SecretInfo) {
	now := a.now()
	if now.Sub(s.LastUsed) < time.Minute {
		return
	}
	a.background.Go(func(ctx context.Context) {
		ms := now.UnixMilli()
		// The record may have been deleted meanwhile: HSET would bring a part of it back.
		err := a.db.Eval(ctx, touchScript, redisdb.KeyApplication(app.ID),
			fieldVersion, fieldLastUsed, ms, prefixSecretUsed+s.ID, ms).Err()
		_ = err // a missing last-used instant is not worth an error
	})
}

func (a *Authority) matchImported(ctx context.Context, v *verifier, secret string) (bool, error) {
	ok, err := a.hash.verify(ctx, v.Hash, secret)
	if err != nil {
		return false, fmt.Errorf("checking an imported secret: %w", err)
	}
	return ok, nil
}
