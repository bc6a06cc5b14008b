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

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/clientids"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// applications finds applications, in Redis or in memory.
type applications struct {
	*core
	codec *applicationCodec
}

// Application returns the application with an id or alias, from memory while that is
// current. Errors: ErrNotFound, ErrUnavailable.
func (a *applications) Application(ctx context.Context, idOrAlias string) (*Application, error) {
	if !grammar.IsClientID(idOrAlias) {
		return nil, fmt.Errorf("application: %w", ErrNotFound)
	}
	if app := a.remembered(idOrAlias); app != nil {
		return app, nil
	}
	found, err := a.find(ctx, idOrAlias)
	if err != nil {
		return nil, err
	}
	app, err := a.keep(found.id, found.hash, found.since)
	if err == nil && found.id != idOrAlias {
		a.cache.epochs.Fill(redisdb.KeyAlias(idOrAlias), found.aliasSince, func() { a.cache.aliases.Store(idOrAlias, found.id) })
	}
	return app, err
}

// CurrentApplication reads the application with an id or alias from Redis, with the times of
// last use, which memory does not have. It is for operators; requests use
// [Authority.Application]. Errors: ErrNotFound, ErrUnavailable.
func (a *applications) CurrentApplication(ctx context.Context, idOrAlias string) (*Application, error) {
	if !grammar.IsClientID(idOrAlias) {
		return nil, fmt.Errorf("application: %w", ErrNotFound)
	}
	found, err := a.find(ctx, idOrAlias)
	if err != nil {
		return nil, err
	}
	return a.codec.decode(found.id, found.hash)
}

// read reads an application from Redis. Errors: ErrNotFound, ErrUnavailable.
func (a *applications) read(ctx context.Context, id string) (*Application, error) {
	m, err := a.findHash(ctx, "reading an application", redisdb.KeyApplication(id))
	if err != nil {
		return nil, err
	}
	return a.codec.decode(id, m)
}

// exists returns nil if an application has the id. Errors: ErrNotFound, ErrUnavailable.
func (a *applications) exists(ctx context.Context, id string) error {
	_, err := a.read(ctx, id)
	return err
}

// remembered returns the application with an id or alias from memory, nil if memory does not
// have it or is not current.
func (a *applications) remembered(idOrAlias string) *Application {
	if !a.feed.Fresh() {
		return nil
	}
	id := idOrAlias
	if target, ok := a.cache.aliases.Load(idOrAlias); ok {
		id = target
	}
	app, ok := a.cache.applications.Load(id)
	if !ok || outdated(app.read, a.now()) || !app.hasClientID(idOrAlias) {
		return nil
	}
	return app
}

// keep decodes an application that was read after since, and puts it into the cache.
func (a *applications) keep(id string, m map[string]string, since memory.Epoch) (*Application, error) {
	remember := func(app *Application) {
		a.cache.epochs.Fill(redisdb.KeyApplication(id), since, func() { a.cache.applications.Store(id, app) })
	}
	// An unchanged record is not decoded again.
	if old, ok := a.cache.applications.Load(id); ok && len(m) > 0 && maps.Equal(old.fields, m) {
		if a.now().Sub(old.read) < maxAge/2 {
			return old, nil
		}
		again := *old
		again.read = a.now()
		remember(&again)
		return &again, nil
	}
	app, err := a.codec.decode(id, m)
	if err != nil {
		return nil, err
	}
	if app.unusable() {
		return nil, unavailable("reading application "+id, vault.ErrUnsealable)
	}
	app.fields = m
	remember(app)
	return app, nil
}

// foundApplication is the record of an application. since and aliasSince were taken before
// the record and the alias were read.
type foundApplication struct {
	id                string
	hash              map[string]string
	since, aliasSince memory.Epoch
}

// find reads the record of the application with an id or alias. The hash is empty if there is
// none.
func (a *applications) find(ctx context.Context, idOrAlias string) (found foundApplication, err error) {
	read := func(ctx context.Context, r feed.Reader, id string) (err error) {
		found.id, found.since = id, a.cache.epochs.Now(redisdb.KeyApplication(id))
		found.hash, err = r.HGetAll(ctx, redisdb.KeyApplication(id)).Result()
		return err //nolint:wrapcheck // wrapped by Read
	}
	err = a.feed.Read(ctx, "reading an application", func(ctx context.Context, r feed.Reader) (bool, error) {
		if err := read(ctx, r, idOrAlias); err != nil || len(found.hash) > 0 {
			return true, err
		}
		found.aliasSince = a.cache.epochs.Now(redisdb.KeyAlias(idOrAlias))
		entry, err := r.Get(ctx, redisdb.KeyAlias(idOrAlias)).Result()
		if err != nil {
			return false, err //nolint:wrapcheck // wrapped by Read
		}
		if err := read(ctx, r, clientids.Owner(entry)); err != nil {
			return false, err
		}
		if !listsAlias(found.hash, idOrAlias) {
			found.hash = nil
		}
		return len(found.hash) > 0, nil
	})
	return found, err
}

// listsAlias reports whether a record lists a client id. An unreadable record counts as
// listing it.
func listsAlias(hash map[string]string, alias string) bool {
	var record struct {
		Aliases []string `json:"aliases"`
	}
	return hash[fieldDocument] != "" &&
		(json.Unmarshal([]byte(hash[fieldDocument]), &record) != nil || slices.Contains(record.Aliases, alias))
}

// ListOptions select a page of applications, ordered by name.
type ListOptions struct {
	// Prefix limits the list to names that begin with it, in any letter case.
	Prefix string
	// After is Next of the previous page. Default: the first page.
	After string
	// Limit is the maximum length of the page. Default: 50; at most 1000.
	Limit int
}

// ApplicationPage is a page of applications.
type ApplicationPage struct {
	Applications []*Application `json:"applications"`
	// Next is After of the next page; "" on the last page.
	Next string `json:"next,omitempty"`
}

// Applications lists applications by name. Errors: ErrInvalidApplication for an After that is
// not of this list, ErrUnavailable.
func (a *applications) Applications(ctx context.Context, o ListOptions) (*ApplicationPage, error) {
	if o.Limit <= 0 {
		o.Limit = 50
	}
	o.Limit = min(o.Limit, 1000)
	prefix := strings.ToLower(o.Prefix)
	lower := "[" + prefix
	if o.After != "" {
		after, err := base64.RawURLEncoding.DecodeString(o.After)
		if err != nil || !strings.HasPrefix(string(after), prefix) {
			return nil, fmt.Errorf("%w: after: not the next of a page of this list", ErrInvalidApplication)
		}
		lower = "(" + string(after)
	}
	const doing = "listing applications"
	members, err := a.db.Sorted(ctx, redisdb.KeyIndex, lower, "("+prefix+"\xff", o.Limit+1)
	if err != nil {
		return nil, unavailable(doing, err)
	}
	page := &ApplicationPage{Applications: []*Application{}}
	if len(members) > o.Limit {
		members = members[:o.Limit]
		page.Next = base64.RawURLEncoding.EncodeToString([]byte(members[o.Limit-1]))
	}
	ids, keys := make([]string, len(members)), make([]string, len(members))
	for i, m := range members {
		ids[i] = m[strings.LastIndexByte(m, 0)+1:]
		keys[i] = redisdb.KeyApplication(ids[i])
	}
	hashes, err := a.db.Hashes(ctx, keys...)
	if err != nil {
		return nil, unavailable(doing, err)
	}
	for i, hash := range hashes {
		app, err := a.codec.decode(ids[i], hash)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// Renaming that failed half-way leaves two entries; only one has the name.
		if indexMember(app.Name, app.ID) == members[i] {
			page.Applications = append(page.Applications, app)
		}
	}
	return page, nil
}

// indexMember is an application's entry in the index, which is sorted by name, then id.
func indexMember(name, id string) string { return strings.ToLower(name) + "\x00" + id }

func (a *applications) addToIndex(ctx context.Context, member string) error {
	if err := a.db.AddSorted(ctx, redisdb.KeyIndex, member); err != nil {
		return unavailable("writing the index of applications", err)
	}
	return nil
}

func (a *applications) removeFromIndex(ctx context.Context, member string) error {
	if err := a.db.RemoveSorted(ctx, redisdb.KeyIndex, member); err != nil {
		return unavailable("writing the index of applications", err)
	}
	return nil
}

// findHash reads a hash. It is empty if there is none.
func (c *core) findHash(ctx context.Context, doing, key string) (m map[string]string, err error) {
	err = c.feed.Read(ctx, doing, func(ctx context.Context, r feed.Reader) (found bool, err error) {
		m, err = r.HGetAll(ctx, key).Result()
		return len(m) > 0, err //nolint:wrapcheck // wrapped by Read
	})
	return m, err
}
