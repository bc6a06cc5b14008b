// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/rekey"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// rekeyPause follows each hundred keys or so: at most 5000 a second.
const rekeyPause = 20 * time.Millisecond

// rekeying moves permanent data to a new first secret.
//
// Data moves when it is used, and in one pass over all data that an operator starts. A pass
// skips data that has moved, so it can be interrupted and repeated, and concurrent passes do
// no harm.
//
// Users and applications' credentials at Meet can be moved. The hash of a client secret or
// a refresh token cannot: that takes the secret itself. A pass counts those, and a secret is
// safe to remove when none is left.
//
// Everything else made with a secret expires soon and may be lost. Only answers stored under
// an Idempotency-Key make a secret necessary for [IdempotencyLifetime] longer.
type rekeying struct {
	*core
	installations *installation.Store
	applications  *applications
	registry      *registry
	users         *users
	grants        *grants
	families      *family.Store
	keyUse        *installation.KeyUse
}

// Rekey moves permanent data to the first secret, and records what it cannot move for
// [Authority.Status]. It calls seen with the number of records visited so far. The error is
// ErrUnavailable, also if another gateway uses a secret that this one lacks.
func (p *rekeying) Rekey(ctx context.Context, seen func(records int)) error {
	const doing = "moving to another secret"
	in, err := p.installations.Load(ctx)
	if err != nil {
		return err
	}
	if len(p.keyUse.Missing(in)) > 0 {
		return unavailable(doing, installation.ErrMissingKey)
	}
	r := rekey.New(p.keys.First().ID, p.now())
	var one sync.Mutex // the primaries of a Cluster are scanned concurrently
	visited := 0
	err = p.db.Scan(ctx, redisdb.KeyPrefix+"[aru]:*", func(ctx context.Context, keys []string) error {
		one.Lock()
		defer one.Unlock()
		for _, key := range keys {
			if err := p.one(ctx, key, r); err != nil {
				return err
			}
		}
		visited += len(keys)
		seen(visited)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rekeyPause):
			return nil
		}
	})
	if err != nil {
		return unavailable(doing, err)
	}
	return r.Save(ctx, p.db)
}

// one moves the data at one key of Redis, or records that it cannot be moved.
func (p *rekeying) one(ctx context.Context, key string, r *rekey.Report) error {
	kind, id, _ := strings.Cut(strings.TrimPrefix(key, redisdb.KeyPrefix), ":")
	switch kind {
	case "a":
		return p.application(ctx, id, r)
	case "u":
		return p.user(ctx, id, r)
	default:
		return p.family(ctx, key, r)
	}
}

// family records a family of refresh tokens that was made with a former secret. A family
// that has ended or was revoked needs no secret.
func (p *rekeying) family(ctx context.Context, key string, r *rekey.Report) error {
	f, made, err := p.families.MadeWith(ctx, key)
	switch {
	case err != nil || made == "" || made == r.Key:
		return err
	case f == nil:
		r.Of(made).LeaveRefreshToken("unreadable")
		return nil
	}
	s, err := p.grants.ofFamily(ctx, f)
	switch {
	case errors.Is(err, ErrUnavailable):
		return err
	case err != nil && !isReversible(err):
		return nil
	}
	r.Of(made).LeaveRefreshToken(s.application.Name + " " + s.application.ID)
	return nil
}

func (p *rekeying) user(ctx context.Context, id string, r *rekey.Report) error {
	key := redisdb.KeyUser(id)
	m, err := p.db.Fields(ctx, key, fieldMail)
	if err != nil {
		return unavailable("reading a user", err)
	}
	sealed := []byte(m[0])
	made := vault.SealedWith(sealed)
	if made == "" || made == r.Key {
		return nil
	}
	mail, _, err := p.keys.Open(sealed, key)
	if err != nil {
		r.Of(made).Users++
		return nil
	}
	// The index first: Find fills the entry of the first key.
	if _, err := p.users.index.Find(ctx, Mail(mail)); err != nil {
		return err
	}
	if err := p.db.Eval(ctx, touchScript, key, fieldMail, fieldMail, p.keys.Seal(mail, key)).Err(); err != nil {
		return unavailable("moving a user to another secret", err)
	}
	return nil
}

func (p *rekeying) application(ctx context.Context, id string, r *rekey.Report) error {
	m, err := p.db.Fields(ctx, redisdb.KeyApplication(id), fieldDocument)
	if err != nil {
		return unavailable("reading an application", err)
	}
	document := m[0]
	if document == "" {
		return nil
	}
	former := map[string]bool{}
	var record applicationRecord
	app, err := p.applications.codec.decode(id, map[string]string{fieldDocument: document, fieldVersion: "1"})
	if err != nil || json.Unmarshal([]byte(document), &record) != nil {
		for _, k := range p.keys.Keys[1:] { // damaged, but it may be repaired
			r.Of(k.ID).LeaveApplication(id)
		}
		return nil
	}
	move := record.inClear()
	for stored, unread := range map[string]string{
		record.Backend: app.sealed.backend, record.DeniedMails: app.sealed.denied, record.Remark: app.sealed.note,
	} {
		box, _ := base64.RawStdEncoding.DecodeString(stored)
		switch made := vault.SealedWith(box); {
		case stored == "" || made == r.Key:
		case unread != "":
			former[made] = true
		default:
			move = true
		}
	}
	if move {
		if _, err := p.registry.change(ctx, id, 0, func(*Application) error { return nil }); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	for _, v := range app.storedSecrets {
		if v.Kind == SecretHMAC && v.Key != r.Key && !v.Expired(p.now()) {
			former[v.Key] = true
		}
	}
	for made := range former {
		r.Of(made).LeaveApplication(app.Name + " " + app.ID)
	}
	return nil
}
