// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// When the first secret is a new one, what is used is moved to it as it is used. The
// rest is moved by [Authority.Rekey], a pass over everything that stays, which an
// operator starts. What was moved is passed over, so a pass that was cut off is begun
// again, and two at a time do no harm.
//
// A user is moved whole, and an application's credentials at Meet. The hash of a
// client secret or a refresh token can only be made by who presents it: those are
// counted, and a secret is safe to remove when none is left.
//
// Everything else that is made with a secret lives for a while and may be lost
// then, but for the answers kept under an Idempotency-Key: for them a secret
// stays [IdempotencyLifetime] longer.
const (
	// rekeyPause follows each hundred keys or so: at most 5000 a second.
	rekeyPause = 20 * time.Millisecond
	// rekeyShown is how many applications are named.
	rekeyShown = 20
)

// rekeyReport is what the last pass has left behind, as stored.
type rekeyReport struct {
	Key   string               `json:"key"`   // the first key of who made the pass
	Began int64                `json:"began"` // unix milliseconds
	Left  map[string]*leftover `json:"left"`  // by key id
}

// leftover is what is still made with a key.
type leftover struct {
	Users         int      `json:"users,omitempty"` // that could not be moved
	Applications  int      `json:"applications,omitempty"`
	Named         []string `json:"named,omitempty"` // the first of them
	RefreshTokens int      `json:"refresh_tokens,omitempty"`
	// RefreshOf counts them by application, for the first applications.
	RefreshOf map[string]int `json:"refresh_of,omitempty"`
}

func (l *leftover) String() string {
	var parts []string
	if l.Applications > 0 {
		parts = append(parts, fmt.Sprintf("%d applications have not used their secret since (%s)", l.Applications, strings.Join(l.Named, ", ")))
	}
	if l.RefreshTokens > 0 {
		whose := make([]string, 0, len(l.RefreshOf))
		for _, name := range slices.Sorted(maps.Keys(l.RefreshOf)) {
			whose = append(whose, fmt.Sprintf("%s: %d", name, l.RefreshOf[name]))
		}
		parts = append(parts, fmt.Sprintf("%d refresh tokens have not been used since (%s)", l.RefreshTokens, strings.Join(whose, ", ")))
	}
	if l.Users > 0 {
		parts = append(parts, fmt.Sprintf("%d users are not moved", l.Users))
	}
	return strings.Join(parts, "; ")
}

// leave notes that an application is left.
func (l *leftover) leave(application string) {
	l.Applications++
	if len(l.Named) < rekeyShown {
		l.Named = append(l.Named, application)
		slices.Sort(l.Named)
	}
}

// leaveRefresh notes that a refresh token of an application is left.
func (l *leftover) leaveRefresh(application string) {
	l.RefreshTokens++
	if l.RefreshOf == nil {
		l.RefreshOf = map[string]int{}
	}
	if _, named := l.RefreshOf[application]; named || len(l.RefreshOf) < rekeyShown {
		l.RefreshOf[application]++
	}
}

// named is an application as operators know it: its name, and its id.
func named(app *Application) string { return app.Name + " " + app.ID }

// of returns what is left of a key.
func (r *rekeyReport) of(key string) *leftover {
	if r.Left[key] == nil {
		r.Left[key] = new(leftover)
	}
	return r.Left[key]
}

// rekeying moves everything that stays to the first secret.
type rekeying struct {
	*core
	installations *installation.Store
	applications  *applications
	registry      *registry
	users         *users
	circumstances *circumstances
	families      *family.Store
	keyUse        *installation.KeyUse
}

// report returns the report of the last pass; an empty one if there is none.
func (p *rekeying) report(ctx context.Context) (*rekeyReport, error) {
	r := new(rekeyReport)
	text, err := p.db.Get(ctx, redisdb.KeyRekeyed)
	if err != nil {
		return nil, unavailable("reading what is left of a secret", err)
	}
	if text != "" && json.Unmarshal([]byte(text), r) != nil {
		return new(rekeyReport), nil // of another version: it proves nothing here
	}
	return r, nil
}

// covers reports whether the pass was made after the key was used last, and has
// left nothing.
func (r *rekeyReport) covers(key string, in *installation.State) bool {
	left := r.Left[key]
	return time.UnixMilli(r.Began).After(in.LastSigned[key]) && (left == nil || left.String() == "")
}

// Rekey moves everything that stays to the first secret, and notes what cannot be moved:
// [Status] tells it, and which secrets are safe to remove. seen is told how many
// records were looked at so far. Errors: ErrUnavailable, also if another gateway uses
// a secret that this one does not have.
func (p *rekeying) Rekey(ctx context.Context, seen func(records int)) error {
	const doing = "moving to another secret"
	in, err := p.installations.Load(ctx)
	if err != nil {
		return err
	}
	if len(p.keyUse.Missing(in)) > 0 {
		return unavailable(doing, installation.ErrMissingKey)
	}
	r := &rekeyReport{Key: p.keys.First().ID, Began: p.now().UnixMilli(), Left: map[string]*leftover{}}
	var one sync.Mutex // primaries of a Cluster are looked at side by side
	looked := 0
	err = p.db.Scan(ctx, redisdb.KeyPrefix+"[aru]:*", func(ctx context.Context, keys []string) error {
		one.Lock()
		defer one.Unlock()
		for _, key := range keys {
			if err := p.one(ctx, key, r); err != nil {
				return err
			}
		}
		looked += len(keys)
		seen(looked)
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
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding what is left of a secret: %w", err)
	}
	if err := p.db.Set(ctx, redisdb.KeyRekeyed, text, 0); err != nil {
		return unavailable("writing what is left of a secret", err)
	}
	return nil
}

// one moves what is kept at one key, and notes what cannot be moved.
func (p *rekeying) one(ctx context.Context, key string, r *rekeyReport) error {
	kind, id, _ := strings.Cut(strings.TrimPrefix(key, redisdb.KeyPrefix), ":")
	switch kind + ":" {
	case "a:":
		return p.application(ctx, id, r)
	case "u:":
		return p.user(ctx, id, r)
	default:
		return p.family(ctx, key, r)
	}
}

// family notes a family of refresh tokens that is still made with a former
// secret. One that has ended, was revoked or lost its application needs no key.
func (p *rekeying) family(ctx context.Context, key string, r *rekeyReport) error {
	f, made, err := p.families.MadeWith(ctx, key)
	switch {
	case err != nil || made == "" || made == r.Key:
		return err
	case f == nil:
		r.of(made).leaveRefresh("unreadable")
		return nil
	}
	_, app, u, err := p.circumstances.ofFamily(ctx, f)
	switch {
	case errors.Is(err, ErrUnavailable):
		return err
	case errors.Is(err, ErrTokenInvalid) && (app == nil || u == nil || app.MayDelegate(u.Mail) == nil):
		return nil
	}
	// It lives, or would again once the application is enabled or allowed the domain.
	r.of(made).leaveRefresh(named(app))
	return nil
}

func (p *rekeying) user(ctx context.Context, id string, r *rekeyReport) error {
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
		r.of(made).Users++
		return nil
	}
	// The index first: it is what a user is found by. It is found under any key,
	// and then kept under the first.
	if _, err := p.users.findID(ctx, Mail(mail)); err != nil {
		return err
	}
	if err := p.db.Eval(ctx, touchScript, key, fieldMail, fieldMail, p.keys.Seal(mail, key)).Err(); err != nil {
		return unavailable("moving a user to another secret", err)
	}
	return nil
}

func (p *rekeying) application(ctx context.Context, id string, r *rekeyReport) error {
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
		for _, k := range p.keys.Keys[1:] { // it is damaged, and may be mended
			r.of(k.ID).leave(id)
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
		r.of(made).leave(named(app))
	}
	return nil
}
