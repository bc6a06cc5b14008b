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

	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// When the first secret is a new one, what is used is moved to it as it is used.
// The rest is moved by a pass over everything that stays: one gateway at a time,
// slowly, as soon as no gateway makes things with the old secret any more. What
// was moved is passed over, so a pass that was cut off is simply begun again.
//
// A user is moved whole, and an application's credentials at Meet. The hash of a
// client secret or a refresh token can only be made by who presents it: those are
// counted, and a secret is safe to remove when none is left.
//
// Everything else that is made with a secret lives for a while and may be lost
// then, but for the answers kept under an Idempotency-Key: for them a secret
// stays [IdempotencyLifetime] longer.
const (
	// rekeyEvery is how often what is left is looked for.
	rekeyEvery = 10 * time.Minute
	// rekeyBatch keys are looked at, and then nothing for rekeyPause: at most 5000
	// a second.
	rekeyBatch = 100
	rekeyPause = 20 * time.Millisecond
	// rekeyLock is after what time somebody else may go on.
	rekeyLock = 30 * time.Second
	// rekeyShown is how many applications are named.
	rekeyShown = 20
)

// rekeyReport is what a pass has left behind, as stored.
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

// loadRekeyReport returns the report of the last pass; an empty one if there is none.
func (a *Authority) loadRekeyReport(ctx context.Context) (*rekeyReport, error) {
	r := new(rekeyReport)
	text, err := a.store.rdb.Get(ctx, keyRekeyed).Result()
	if errors.Is(err, redis.Nil) {
		return r, nil
	}
	if err != nil {
		return nil, unavailable("reading what is left of a secret", err)
	}
	if json.Unmarshal([]byte(text), r) != nil {
		return new(rekeyReport), nil // of a later version: it proves nothing here
	}
	return r, nil
}

// rekeyDue reports whether a pass is to be made: there is something to move, and
// nobody adds to it.
func (a *Authority) rekeyDue(in *installation, last *rekeyReport) bool {
	now := a.now()
	if len(a.keys.Keys) == 1 || len(a.missingKeys(in)) > 0 {
		return false
	}
	done := last.Key == a.keys.First().ID
	for _, k := range a.keys.Keys[1:] {
		if now.Before(in.lastSigned[k.ID]) {
			return false
		}
		done = done && last.covers(k.ID, in)
	}
	return !done && (last.Key != a.keys.First().ID || now.Sub(time.UnixMilli(last.Began)) >= rekeyEvery)
}

// covers reports whether the pass was made after the key was used last, and has
// left nothing.
func (r *rekeyReport) covers(key string, in *installation) bool {
	left := r.Left[key]
	return time.UnixMilli(r.Began).After(in.lastSigned[key]) && (left == nil || left.String() == "")
}

// rekey looks every now and then whether a pass is due, and makes it.
func (a *Authority) rekey(ctx context.Context) {
	tick := time.NewTicker(keyRound)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_ = a.rekeyIfDue(ctx) // Redis is away: the next round tries again
	}
}

func (a *Authority) rekeyIfDue(ctx context.Context) error {
	in, err := a.loadInstallation(ctx)
	if err != nil {
		return err
	}
	last, err := a.loadRekeyReport(ctx)
	if err != nil || !a.rekeyDue(in, last) {
		return err
	}
	won, err := a.store.rdb.SetNX(ctx, keyRekeying, a.feed.Node(), rekeyLock).Result()
	if err != nil || !won {
		return notNil(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.store.db.Timeout())
		defer cancel()
		_ = deleteEqualScript.Run(ctx, a.store.rdb, []string{keyRekeying}, a.feed.Node()).Err() // it ends by itself
	}()
	report, err := a.rekeyAll(ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encoding what is left of a secret: %w", err)
	}
	if err := a.store.rdb.Set(ctx, keyRekeyed, text, 0).Err(); err != nil {
		return unavailable("writing what is left of a secret", err)
	}
	return nil
}

// holdScript prolongs a lock that is still one's own. ARGV: owner, life in ms.
var holdScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)

// rekeyAll makes one pass.
func (a *Authority) rekeyAll(ctx context.Context) (*rekeyReport, error) {
	r := &rekeyReport{Key: a.keys.First().ID, Began: a.now().UnixMilli(), Left: map[string]*leftover{}}
	var one sync.Mutex // primaries of a Cluster are looked at side by side
	pass := func(ctx context.Context, c redis.Cmdable) error {
		one.Lock()
		defer one.Unlock()
		for cursor := uint64(0); ; {
			keys, next, err := c.Scan(ctx, cursor, keyPrefix+"[aru]:*", rekeyBatch).Result()
			if err != nil {
				return unavailable("looking for what is made with a former secret", err)
			}
			for _, key := range keys {
				if err := a.rekeyOne(ctx, key, r); err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				return nil
			}
			held, err := holdScript.Run(ctx, a.store.rdb, []string{keyRekeying}, a.feed.Node(), rekeyLock.Milliseconds()).Int()
			if err != nil || held == 0 {
				return unavailable("moving to another secret", errors.Join(err, errors.New("somebody else has taken over")))
			}
			select {
			case <-ctx.Done():
				return unavailable("moving to another secret", ctx.Err())
			case <-time.After(rekeyPause):
			}
		}
	}
	if c, ok := a.store.rdb.(*redis.ClusterClient); ok {
		err := c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return pass(ctx, c) })
		return r, err //nolint:wrapcheck // wrapped in pass
	}
	return r, pass(ctx, a.store.rdb)
}

// rekeyOne moves what is kept at one key, and notes what cannot be moved.
func (a *Authority) rekeyOne(ctx context.Context, key string, r *rekeyReport) error {
	kind, id, _ := strings.Cut(strings.TrimPrefix(key, keyPrefix), ":")
	switch kind + ":" {
	case "a:":
		return a.rekeyApplication(ctx, id, r)
	case "u:":
		return a.rekeyUser(ctx, id, r)
	default:
		return a.rekeyFamily(ctx, key, r)
	}
}

// rekeyFamily notes a family of refresh tokens that is still made with a former
// secret. One that has ended, was revoked or lost its application needs no key.
func (a *Authority) rekeyFamily(ctx context.Context, key string, r *rekeyReport) error {
	m, err := a.store.rdb.HMGet(ctx, key, fieldKey, fieldFamily, fieldTill, fieldEnded).Result()
	if err != nil {
		return unavailable("reading a refresh token", err)
	}
	made, _ := m[0].(string)
	document, _ := m[1].(string)
	till, _ := m[2].(string)
	if made == "" || made == r.Key || m[3] != nil || !a.now().Before(parseInstant(till)) {
		return nil
	}
	var f family
	if json.Unmarshal([]byte(document), &f) != nil {
		r.of(made).leaveRefresh("unreadable")
		return nil
	}
	g := f.BirthList
	births := generations{g[0], g[1], g[2], g[3]}
	in, app, u, err := a.readCircumstances(ctx, f.Application, f.User, births)
	if err == nil {
		err = overruled(in, app, u, births, time.UnixMilli(f.Created), "")
	}
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

func (a *Authority) rekeyUser(ctx context.Context, id string, r *rekeyReport) error {
	key := keyUser(id)
	sealed, err := a.store.rdb.HGet(ctx, key, fieldMail).Bytes()
	if err = notNil(err); err != nil {
		return unavailable("reading a user", err)
	}
	made := vault.SealedWith(sealed)
	if made == "" || made == r.Key {
		return nil
	}
	mail, _, err := a.keys.Open(sealed, key)
	if err != nil {
		r.of(made).Users++
		return nil
	}
	// The index first: it is what a user is found by. It is found under any key,
	// and then kept under the first.
	if _, err := a.findUserID(ctx, Mail(mail)); err != nil {
		return err
	}
	if err := touchScript.Run(ctx, a.store.rdb, []string{key}, fieldMail, fieldMail, a.keys.Seal(mail, key)).Err(); err != nil {
		return unavailable("moving a user to another secret", err)
	}
	return nil
}

func (a *Authority) rekeyApplication(ctx context.Context, id string, r *rekeyReport) error {
	document, err := a.store.rdb.HGet(ctx, keyApplication(id), fieldDocument).Result()
	if err = notNil(err); err != nil {
		return unavailable("reading an application", err)
	}
	if document == "" {
		return nil
	}
	former := map[string]bool{}
	var record applicationRecord
	app, err := a.decodeApplication(id, map[string]string{fieldDocument: document, fieldVersion: "1"})
	if err != nil || json.Unmarshal([]byte(document), &record) != nil {
		for _, k := range a.keys.Keys[1:] { // it is damaged, and may be mended
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
		if _, err := a.updateApplication(ctx, id, 0, func(*Application) error { return nil }); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	for _, v := range app.verifiers {
		if v.Kind == SecretHMAC && v.Key != r.Key && !v.expired(a.now()) {
			former[v.Key] = true
		}
	}
	for made := range former {
		r.of(made).leave(named(app))
	}
	return nil
}
