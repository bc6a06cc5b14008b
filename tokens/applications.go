// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/journal"
	"github.com/meet-gateway/meet-gateway/tokens/internal/memory"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// applicationRecord is an application as it is stored: field "d" of its hash.
type applicationRecord struct {
	Format  int      `json:"f"`
	ID      string   `json:"id"` // so that a reply is known to be the answer to the question asked
	Aliases []string `json:"aliases,omitempty"`
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Active  bool     `json:"active"`
	Scopes  Scopes   `json:"scopes,omitempty"`
	Domains []string `json:"domains,omitempty"`
	// Denied and Note are read only: they are in clear in records that were written
	// before DeniedMails and Remark, which hold them sealed.
	Denied      []Mail            `json:"denied,omitempty"`
	DeniedMails string            `json:"denied_mails,omitempty"` // sealed JSON of a list
	Lifetime    int64             `json:"ttl,omitempty"`          // seconds
	Refresh     bool              `json:"refresh,omitempty"`
	Networks    []netip.Prefix    `json:"nets,omitempty"`
	Rooms       *RoomDefaults     `json:"rooms,omitempty"`
	Limits      map[string]string `json:"limits,omitempty"`
	Backend     string            `json:"backend,omitempty"` // sealed JSON of client id and secret
	Note        string            `json:"note,omitempty"`
	Remark      string            `json:"remark,omitempty"` // sealed JSON of the note
	Secrets     []secrets.Stored  `json:"secrets,omitempty"`
	Edits       uint64            `json:"e,omitempty"`
	Created     int64             `json:"created"` // unix milliseconds, as Updated
	Updated     int64             `json:"updated"`
	// Write is different for every write, so that a write that is repeated
	// because its answer was lost can be told from another one that says the same.
	Write string `json:"w"`
}

// Formats of a record. Who knows the first alone would not see that addresses are
// denied, and must not take the second for it.
const (
	applicationFormat       = 1
	applicationFormatDenied = 2 // with DeniedMails
)

// applicationCodec turns applications into what is stored of them, and back.
type applicationCodec struct {
	keys *vault.Ring
	now  func() time.Time
}

func (c *applicationCodec) encode(app *Application) (string, error) {
	r := applicationRecord{
		Format: applicationFormat, ID: app.ID, Aliases: app.Aliases, Name: app.Name, Type: app.Type, Active: app.Active,
		Scopes: app.Scopes, Domains: app.Domains,
		Lifetime: int64(time.Duration(app.TokenLifetime) / time.Second), Refresh: app.Refresh, Networks: app.Networks,
		Limits: app.Limits, Secrets: app.storedSecrets, Edits: app.edits,
		Created: app.Created.UnixMilli(), Updated: app.Updated.UnixMilli(),
		Write: vault.RandomID(vault.TokenID),
	}
	if !app.RoomDefaults.IsZero() {
		r.Rooms = &app.RoomDefaults
	}
	if err := c.seal(app, &r); err != nil {
		return "", err
	}
	if r.DeniedMails != "" {
		r.Format = applicationFormatDenied
	}
	b, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encoding application: %w", err)
	}
	return string(b), nil
}

// decode returns the application that a hash holds: ErrNotFound,
// ErrUnavailable.
func (c *applicationCodec) decode(id string, m map[string]string) (*Application, error) {
	app, err := c.decodeSealed(id, m)
	if err != nil {
		return nil, err
	}
	c.unseal(app)
	return app, nil
}

// decodeSealed is decode that leaves encrypted what is: not every
// application has any of it, and who does not know the secret must not learn from the
// time it takes.
func (c *applicationCodec) decodeSealed(id string, m map[string]string) (*Application, error) {
	if m[fieldDocument] == "" {
		return nil, fmt.Errorf("application: %w", ErrNotFound)
	}
	var r applicationRecord
	if err := json.Unmarshal([]byte(m[fieldDocument]), &r); err != nil || r.Format < applicationFormat || r.Format > applicationFormatDenied || r.ID != id {
		return nil, unavailable("reading application "+id, errors.New("its record is damaged, another one's or of a later version"))
	}
	version, _ := strconv.ParseInt(m[fieldVersion], 10, 64)
	app := &Application{
		ID: id, Aliases: r.Aliases, Name: r.Name, Type: r.Type, Active: r.Active,
		Scopes: r.Scopes, Domains: r.Domains, DeniedMails: r.Denied,
		TokenLifetime: Duration(time.Duration(r.Lifetime) * time.Second), Refresh: r.Refresh, Networks: r.Networks,
		Limits: r.Limits, Note: r.Note, Version: version,
		Created: time.UnixMilli(r.Created).UTC(), Updated: time.UnixMilli(r.Updated).UTC(),
		LastUsed: parseInstant(m[fieldLastUsed]), read: c.now(), rates: parseRates(r.Limits),
		NotGranted: notGranted(m, r.Scopes),
		generation: redisdb.ParseUint(m[fieldGeneration]), edits: r.Edits, storedSecrets: r.Secrets, sealed: sealed{r.Backend, r.DeniedMails, r.Remark},
	}
	if r.Rooms != nil {
		app.RoomDefaults = *r.Rooms
	}
	now := c.now()
	for _, v := range r.Secrets {
		if !v.Expired(now) {
			app.Secrets = append(app.Secrets, v.Info(parseInstant(m[prefixSecretUsed+v.ID])))
		}
	}
	return app, nil
}

func parseInstant(ms string) time.Time {
	n := redisdb.ParseUint(ms)
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(n)).UTC()
}

// saveScript writes a record if its version is the expected one, and if it still
// wants the client ids that it is to list from now on. Finding its own
// write there is success: the answer to it may have been lost on the way. Of
// the last uses of secrets those named in ARGV[3] stay; client ids follow from ARGV[4].
var saveScript = redisdb.NewScript(redisNow + `
local have = redis.call('HMGET', KEYS[1], 'v', 'd')
local version = tonumber(have[1] or '0')
local expected = tonumber(ARGV[1])
if version == expected + 1 and have[2] == ARGV[2] then return version end
if version ~= expected then return -1 end
for i = 4, #ARGV do
  local want = redis.call('HGET', KEYS[1], 'w:' .. ARGV[i])
  if not want or tonumber(string.match(want, '^%d+')) <= now() then return -2 end
end
redis.call('HSET', KEYS[1], 'v', expected + 1, 'd', ARGV[2])
redis.call('PERSIST', KEYS[1])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 2) == 'w:' then redis.call('HDEL', KEYS[1], field) end
  if string.sub(field, 1, 2) == 's:' and not string.find(ARGV[3], field, 1, true) then redis.call('HDEL', KEYS[1], field) end
end
return expected + 1`)

// deleteScript deletes a record if its version is the expected one, or any if that is 0.
// For as long as a gateway that has not heard of it could make a new application
// again (see editAgain), a mark stays. ARGV: version, life of the mark in ms.
var deleteScript = redisdb.NewScript(`
local version = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
if version == 0 then return 0 end
if ARGV[1] ~= '0' and version ~= tonumber(ARGV[1]) then return -1 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'gone', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`)

// registry makes, changes and removes applications.
type registry struct {
	*core
	applications *applications
	clientIDs    *clientIDs
	meetClients  *meetClients
}

// CreateApplication registers an application and returns it with its first
// secret, which is not shown again. Fields that the Authority keeps are ignored.
//
// Errors: ErrInvalidApplication, ErrConflict if an alias is taken, ErrUnavailable.
func (r *registry) CreateApplication(ctx context.Context, app Application) (*Application, string, error) {
	return r.CreateApplicationWithSecret(ctx, app, vault.NewSecret(SecretPrefix))
}

// CreateApplicationWithSecret is [Authority.CreateApplication] with a secret that was
// made before, by [NewClientSecret]: it must have that form and its checksum, since
// secrets are hashed and not stretched.
func (r *registry) CreateApplicationWithSecret(ctx context.Context, app Application, secret string) (*Application, string, error) {
	if !strings.HasPrefix(secret, SecretPrefix) || len(secret) != len(vault.NewSecret(SecretPrefix)) || !ChecksumOK(secret) {
		return nil, "", fmt.Errorf("%w: client_secret: it must be one that \"meet secret new\" made, without a typo", ErrInvalidApplication)
	}
	created, err := r.create(ctx, app, func(n *Application) {
		n.storedSecrets = []secrets.Stored{secrets.New(r.keys, vault.RandomID(8), n.ID, secret, n.Created)}
	})
	if err != nil {
		return nil, "", err
	}
	return created, secret, nil
}

func (r *registry) create(ctx context.Context, app Application, addSecrets func(*Application)) (*Application, error) {
	n := app.clone()
	if err := n.normalise(); err != nil {
		return nil, err
	}
	n.ID = vault.RandomID(vault.ApplicationID)
	n.Created = r.now().UTC().Truncate(time.Millisecond)
	n.Updated = n.Created
	n.Version, n.generation, n.edits, n.NotGranted = 0, 0, 0, nil
	addSecrets(n)
	wanted := r.clientIDs.newWant(n.ID, n.Version, n.Aliases)
	if err := wanted.take(ctx); err != nil {
		return nil, err
	}
	if err := r.meetClients.note(ctx, n); err != nil {
		wanted.drop(ctx)
		return nil, err
	}
	// The index comes first: an entry without a record is skipped by lists, a
	// record without an entry would be found by nobody.
	if err := r.db.AddSorted(ctx, redisdb.KeyIndex, indexMember(n.Name, n.ID)); err != nil {
		wanted.drop(ctx)
		return nil, unavailable("writing the index of applications", err)
	}
	// That others are told later does no harm: nobody knows the application yet.
	created, err := r.save(ctx, n, wanted.aliases)
	if errors.Is(err, errNotSaved) {
		wanted.drop(ctx)
		_ = r.meetClients.forget(ctx, n) // a note too many does no harm, as an entry without a record
		_ = r.db.RemoveSorted(ctx, redisdb.KeyIndex, indexMember(n.Name, n.ID))
	}
	if err != nil && !errors.Is(err, feed.ErrUntold) {
		return nil, err
	}
	return created, nil
}

// errNotSaved means that a record was certainly not written.
var errNotSaved = errors.New("the record was not written")

// errWantOver means that taking client ids took longer than wantTime.
var errWantOver = errors.New("taking client ids took too long")

// save writes n over the version it came from and tells everybody. wanted are the
// client ids that it lists and did not list before. It returns the application as it
// is now; also with feed.ErrUntold, and with no other error.
func (r *registry) save(ctx context.Context, n *Application, wanted []string) (*Application, error) {
	const doing = "writing an application"
	doc, err := r.applications.codec.encode(n)
	if err != nil {
		return nil, err
	}
	var live strings.Builder
	for _, v := range n.storedSecrets {
		live.WriteString(prefixSecretUsed + v.ID + " ")
	}
	args := []any{n.Version, doc, live.String()}
	for _, alias := range wanted {
		args = append(args, alias)
	}
	var written *Application
	err = r.feed.Commit(ctx, feed.Commit{
		Doing: doing, Script: saveScript, Key: redisdb.KeyApplication(n.ID), Args: args,
		Outcome: func(reply *redisdb.Reply) ([]journal.Entry, error) {
			version, err := reply.Int64()
			switch {
			case err != nil:
				return nil, unavailable(doing, err)
			case version == -1:
				return nil, fmt.Errorf("application %s: %w: %w", n.ID, ErrConflict, errNotSaved)
			case version == -2:
				return nil, unavailable(doing, fmt.Errorf("%w: %w", errWantOver, errNotSaved))
			}
			written, err = r.written(n, version, doc)
			return editAgain(n, version, doc), err
		},
	})
	if err != nil && !errors.Is(err, feed.ErrUntold) {
		return nil, err
	}
	return written, err
}

// written is the application that Redis has after n was stored as doc. It is not
// read back: a secret that was just made must not be lost to an outage that comes
// in between.
func (r *registry) written(n *Application, version int64, doc string) (*Application, error) {
	m := map[string]string{
		fieldDocument: doc, fieldVersion: strconv.FormatInt(version, 10),
		fieldGeneration: strconv.FormatUint(n.generation, 10),
	}
	note := func(field string, used time.Time) {
		if !used.IsZero() {
			m[field] = strconv.FormatInt(used.UnixMilli(), 10)
		}
	}
	note(fieldLastUsed, n.LastUsed)
	for _, s := range n.Secrets {
		note(prefixSecretUsed+s.ID, s.LastUsed)
	}
	for _, g := range n.NotGranted {
		field, value := g.field()
		m[field] = value
	}
	return r.applications.codec.decode(n.ID, m)
}

// editAgain writes an edit again where it was lost, and an application that is lost
// as a whole within a minute of its creation: whoever was just given its secret must
// not be refused. Where the edit is remembered no more, its fallback stays.
func editAgain(n *Application, version int64, doc string) []journal.Entry {
	key := redisdb.KeyApplication(n.ID)
	return []journal.Entry{
		{
			Rank: journal.Edits, Name: key, Version: version, Key: key, Script: editAgainScript, Args: []any{version, doc},
			Expires: n.Created.Add(journal.Memory), Stays: true,
		},
		{Rank: journal.Fallbacks, Name: key, Version: version, Key: key, Script: closeAgainScript, Args: []any{version, map[bool]int{true: 1}[!n.Active]}},
	}
}

// editAgainScript writes an application's record if an older one is there, or none and
// none was deleted lately. One that is as it should be, and new, is answered as well:
// what it is found by may be lost. ARGV: for how long from now it may be made, in ms;
// version, document.
var editAgainScript = journal.NewScript(`
local have, want = tonumber(redis.call('HGET', KEYS[1], 'v') or '0'), tonumber(ARGV[2])
local new = ARGV[1] ~= '0'
if have == want and new then return 1 end
if have >= want or have == 0 and (not new or redis.call('HEXISTS', KEYS[1], 'gone') == 1) then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'd', ARGV[3])
redis.call('PERSIST', KEYS[1])
return 1`)

// closeApplication defines close, which ends the tokens of an application, and
// disables it if asked to.
const closeApplication = countUp + `
local function close(off)
  up('g')
  if off then
    local document = string.gsub(redis.call('HGET', KEYS[1], 'd'), '"active":%a+', '"active":false', 1)
    redis.call('HSET', KEYS[1], 'd', document)
  end
end`

// closeAgainScript is for an edit that is lost and remembered no more: it ends the
// tokens that the edit could have ended, and disables the application if the edit did.
// ARGV: version, "1" if it was disabled.
var closeAgainScript = journal.NewScript(closeApplication + `
local have = tonumber(redis.call('HGET', KEYS[1], 'v') or '0')
if have == 0 or have >= tonumber(ARGV[1]) then return 0 end
close(ARGV[2] == '1')
redis.call('HSET', KEYS[1], 'v', ARGV[1])
return 1`)

// deleteAgainScript disables an application whose deletion was lost, once, and ends
// its tokens.
var deleteAgainScript = journal.NewScript(closeApplication + `
if redis.call('HEXISTS', KEYS[1], 'v') == 0 or redis.call('HSETNX', KEYS[1], 'gone', 1) == 0 then return 0 end
close(true)
redis.call('HINCRBY', KEYS[1], 'v', 1)
return 1`)

// deleteAgain takes the place of the edits of an application.
func deleteAgain(id string) journal.Entry {
	key := redisdb.KeyApplication(id)
	return journal.Entry{Rank: journal.Edits, Name: key, Version: math.MaxInt64, Key: key, Script: deleteAgainScript}
}

// confirmScript writes the version of a record that is (still) as expected once
// more, so that replicas which have that have what was written before.
var confirmScript = redisdb.NewScript(`
local have = redis.call('HMGET', KEYS[1], 'v', 'd')
if have[1] ~= ARGV[1] or have[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'v', have[1])
return 1`)

// ConfirmApplication makes sure of an application as it is, for whoever finds
// nothing to change: what is there may come from a try that ended in
// ErrUnavailable, that no replica has and that no gateway remembers. Errors:
// ErrNotFound, ErrConflict if it changes all the time, ErrUnavailable.
func (r *registry) ConfirmApplication(ctx context.Context, id string) (*Application, error) {
	const doing, tries = "confirming an application", 10
	for range tries {
		m, err := r.findHash(ctx, "reading an application", redisdb.KeyApplication(id))
		if err != nil {
			return nil, err
		}
		app, err := r.applications.codec.decode(id, m)
		if err != nil {
			return nil, err
		}
		doc := m[fieldDocument]
		var record applicationRecord
		if json.Unmarshal([]byte(doc), &record) == nil && record.inClear() {
			return r.UpdateApplication(ctx, id, app.Version, func(*Application) error { return nil })
		}
		err = r.feed.Commit(ctx, feed.Commit{
			Doing: doing, Script: confirmScript, Key: redisdb.KeyApplication(id), Args: []any{app.Version, doc},
			Outcome: func(reply *redisdb.Reply) ([]journal.Entry, error) {
				if n, _ := reply.Int64(); n == 0 {
					return nil, fmt.Errorf("application %s: %w", id, ErrConflict)
				}
				return editAgain(app, app.Version, doc), nil
			},
		})
		if errors.Is(err, ErrConflict) {
			continue // somebody has changed it meanwhile
		}
		if err != nil {
			return nil, err
		}
		return app, r.clientIDs.repair(ctx, app)
	}
	return nil, fmt.Errorf("application %s: %w", id, ErrConflict)
}

// indexMember sorts by name, then id.
func indexMember(name, id string) string { return strings.ToLower(name) + "\x00" + id }

// applications finds applications, in Redis or in memory.
type applications struct {
	*core
	codec *applicationCodec
}

// read reads an application from Redis. ErrNotFound, ErrUnavailable.
func (a *applications) read(ctx context.Context, id string) (*Application, error) {
	m, err := a.findHash(ctx, "reading an application", redisdb.KeyApplication(id))
	if err != nil {
		return nil, err
	}
	return a.codec.decode(id, m)
}

// findHash reads a hash. It is empty if there is none.
func (c *core) findHash(ctx context.Context, doing, key string) (m map[string]string, err error) {
	err = c.feed.Read(ctx, doing, func(ctx context.Context, r feed.Reader) (found bool, err error) {
		m, err = r.HGetAll(ctx, key).Result()
		return len(m) > 0, err //nolint:wrapcheck // wrapped by Read
	})
	return m, err
}

// foundApplication is an application as stored, and since when it was read.
type foundApplication struct {
	id         string
	hash       map[string]string
	since      memory.Epoch
	aliasSince memory.Epoch
}

// find reads the application with the id or alias. Its hash is empty if
// there is none.
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
		if err := read(ctx, r, entryOwner(entry)); err != nil {
			return false, err
		}
		if !listsAlias(found.hash, idOrAlias) {
			found.hash = nil
		}
		return len(found.hash) > 0, nil
	})
	return found, err
}

// listsAlias reports whether a record lists a client id. One that cannot be read may.
func listsAlias(hash map[string]string, alias string) bool {
	var record struct {
		Aliases []string `json:"aliases"`
	}
	return hash[fieldDocument] != "" &&
		(json.Unmarshal([]byte(hash[fieldDocument]), &record) != nil || slices.Contains(record.Aliases, alias))
}

// Application returns the application with the id or alias, from memory while
// that is known to be current. Errors: ErrNotFound, ErrUnavailable.
func (a *applications) Application(ctx context.Context, idOrAlias string) (*Application, error) {
	if !grammar.IsClientID(idOrAlias) {
		return nil, fmt.Errorf("application: %w", ErrNotFound)
	}
	if a.feed.Fresh() {
		id := idOrAlias
		if target, ok := a.cache.aliases.GetIfPresent(idOrAlias); ok {
			id = target
		}
		if app, ok := a.cache.applications.GetIfPresent(id); ok && !outdated(app.read, a.now()) && app.hasClientID(idOrAlias) {
			return app, nil
		}
	}
	found, err := a.find(ctx, idOrAlias)
	if err != nil {
		return nil, err
	}
	app, err := a.keep(found.id, found.hash, found.since)
	if err == nil && found.id != idOrAlias {
		a.cache.epochs.Fill(redisdb.KeyAlias(idOrAlias), found.aliasSince, func() { a.cache.aliases.Set(idOrAlias, found.id) })
	}
	return app, err
}

// keep decodes an application that was read since, for use, into the
// cache.
func (a *applications) keep(id string, m map[string]string, since memory.Epoch) (*Application, error) {
	app, err := a.codec.decode(id, m)
	if err != nil {
		return nil, err
	}
	if app.unusable() {
		return nil, unavailable("reading application "+id, vault.ErrUnsealable)
	}
	a.cache.epochs.Fill(redisdb.KeyApplication(id), since, func() { a.cache.applications.Set(id, app) })
	return app, nil
}

// ListOptions select a page of applications, ordered by name.
type ListOptions struct {
	// Prefix limits the list to names that begin with it, whatever their case.
	Prefix string
	// After is the Next of the page before. Default: the first page.
	After string
	// Limit is how many at most. Default: 50; at most 1000.
	Limit int
}

// ApplicationPage is a page of applications.
type ApplicationPage struct {
	Applications []*Application `json:"applications"`
	// Next is what to give as After for the page behind this one; "" at the end.
	Next string `json:"next,omitempty"`
}

// Applications lists applications by name. Errors: ErrUnavailable.
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
		// A renaming that was cut short leaves two entries: show the true one.
		if indexMember(app.Name, app.ID) == members[i] {
			page.Applications = append(page.Applications, app)
		}
	}
	return page, nil
}

// UpdateApplication changes an application as one step: if somebody else
// changed it since version, nothing is written and the error is ErrConflict.
// Version 0 takes whatever is there, again until nobody is in between. change
// may be called several times and may return an error to leave all as it is.
//
// Errors: ErrNotFound, ErrConflict, ErrInvalidApplication, ErrUnavailable, and
// that of change.
func (r *registry) UpdateApplication(ctx context.Context, id string, version int64, change func(*Application) error) (*Application, error) {
	app, err := r.change(ctx, id, version, counted(change))
	if err != nil {
		return nil, err
	}
	return app, nil
}

// change is UpdateApplication that also returns the application if it
// was written and what follows from that failed.
func (r *registry) change(ctx context.Context, id string, version int64, change func(*Application) error) (*Application, error) {
	const tries = 10
	for try := 1; ; try++ {
		old, err := r.applications.read(ctx, id)
		if err != nil {
			return nil, err
		}
		if version != 0 && old.Version != version {
			// What the caller believes may come from a change that was not published.
			_ = r.feed.Forget(ctx, redisdb.KeyApplication(id)) // it is done later if it fails
			return nil, fmt.Errorf("application %s has version %d: %w", id, old.Version, ErrConflict)
		}
		app, err := r.edit(ctx, old, change)
		if !errors.Is(err, ErrConflict) || version != 0 || try == tries {
			return app, err
		}
	}
}

func (r *registry) edit(ctx context.Context, old *Application, change func(*Application) error) (*Application, error) {
	n := old.clone()
	if err := change(n); err != nil {
		return nil, err
	}
	// What the Authority keeps is not the caller's to change.
	n.ID, n.Version, n.Created, n.generation = old.ID, old.Version, old.Created, old.generation
	n.LastUsed, n.Secrets, n.NotGranted = old.LastUsed, old.Secrets, old.NotGranted
	if err := n.normalise(); err != nil {
		return nil, err
	}
	n.Updated = r.now().UTC().Truncate(time.Millisecond)
	added, removed := without(n.Aliases, old.Aliases), without(old.Aliases, n.Aliases)
	wanted := r.clientIDs.newWant(n.ID, n.Version, added)
	if err := wanted.take(ctx); err != nil {
		return nil, err
	}
	if err := r.noteBeforeSave(ctx, old, n, removed); err != nil {
		wanted.drop(ctx)
		return nil, err
	}
	written, err := r.save(ctx, n, added)
	if errors.Is(err, errNotSaved) {
		wanted.drop(ctx)
	}
	if written == nil {
		return nil, err
	}
	r.clientIDs.release(ctx, n.ID, removed)
	return written, errors.Join(err, r.reindex(ctx, n.ID, indexMember(old.Name, n.ID), indexMember(n.Name, n.ID)))
}

// noteBeforeSave notes what must be known before a record is written; too much of it
// does no harm.
func (r *registry) noteBeforeSave(ctx context.Context, old, n *Application, removed []string) error {
	if err := r.meetClients.note(ctx, n); err != nil {
		return err
	}
	if err := r.meetClients.markRemoved(ctx, removed...); err != nil {
		return err
	}
	if n.Name == old.Name {
		return nil
	}
	if err := r.db.AddSorted(ctx, redisdb.KeyIndex, indexMember(n.Name, n.ID)); err != nil {
		return unavailable("writing the index of applications", err)
	}
	return nil
}

// reindex replaces an application's entry in the index after it was renamed. If
// somebody else renames it back at the same time, one of the two sees what the
// other has written last.
func (r *registry) reindex(ctx context.Context, id, before, now string) error {
	if before == now {
		return nil
	}
	if err := r.db.AddSorted(ctx, redisdb.KeyIndex, now); err != nil {
		return unavailable("writing the index of applications", err)
	}
	if err := r.db.RemoveSorted(ctx, redisdb.KeyIndex, before); err != nil {
		return unavailable("writing the index of applications", err)
	}
	app, err := r.applications.read(ctx, id)
	if err != nil || indexMember(app.Name, id) != before {
		return nil //nolint:nilerr // gone, or not to be had: there is nothing to put right
	}
	if err := r.db.AddSorted(ctx, redisdb.KeyIndex, before); err != nil {
		return unavailable("writing the index of applications", err)
	}
	return nil
}

func without(list, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(drop, s) })
}

// DeleteApplication removes an application and with it the validity of all its
// credentials. Version 0 removes any version. Errors: ErrNotFound, ErrConflict,
// ErrUnavailable.
func (r *registry) DeleteApplication(ctx context.Context, id string, version int64) error {
	app, err := r.applications.read(ctx, id)
	if err != nil {
		if errors.Is(err, ErrNotFound) && grammar.IsClientID(id) {
			// It may be gone by a try that ended in ErrUnavailable, and so come back.
			_ = r.feed.Forget(ctx, redisdb.KeyApplication(id), deleteAgain(id)) // it is done later if it fails
		}
		return err
	}
	// First, so that a deletion that is cut short is not undone by adoption either.
	if err := r.meetClients.markRemoved(ctx, app.clientIDsAtMeet()...); err != nil {
		return err
	}
	const doing = "deleting an application"
	err = r.feed.Commit(ctx, feed.Commit{
		Doing: doing, Script: deleteScript, Key: redisdb.KeyApplication(id), Args: []any{version, (2 * journal.Memory).Milliseconds()},
		Outcome: func(reply *redisdb.Reply) ([]journal.Entry, error) {
			done, err := reply.Int64()
			if err != nil {
				return nil, unavailable(doing, err)
			}
			if done < 0 {
				return nil, fmt.Errorf("application %s: %w", id, ErrConflict)
			}
			// Done or not there any more: it was, so this or somebody else's try deleted it.
			return []journal.Entry{deleteAgain(id)}, nil
		},
	})
	if errors.Is(err, ErrConflict) {
		_ = r.feed.Forget(ctx, redisdb.KeyApplication(id)) // as in change
	}
	if err != nil {
		return err
	}
	r.clientIDs.release(ctx, id, app.Aliases)
	if err := r.meetClients.forget(ctx, app); err != nil {
		return err
	}
	if err := r.db.RemoveSorted(ctx, redisdb.KeyIndex, indexMember(app.Name, id)); err != nil {
		return unavailable("writing the index of applications", err)
	}
	return nil
}

// RotateSecret gives the application a new secret and returns it, once. The
// secrets it had go on working for grace (0: not at all). At most two live at
// a time: the older of two is dropped. Version as in UpdateApplication, and so are
// the errors; with ErrUnavailable the secret may be there all the same, known to
// nobody, as if this had been called once.
func (r *registry) RotateSecret(ctx context.Context, id string, version int64, grace time.Duration) (*Application, string, error) {
	secret := vault.NewSecret(SecretPrefix)
	app, err := r.change(ctx, id, version, func(n *Application) error {
		now := r.now()
		live := slices.DeleteFunc(n.storedSecrets, func(v secrets.Stored) bool { return v.Expired(now) })
		n.storedSecrets = []secrets.Stored{secrets.New(r.keys, vault.RandomID(8), id, secret, now)}
		if grace <= 0 || len(live) == 0 {
			return nil
		}
		retiring := live[0]
		end := now.Add(grace).UnixMilli()
		if retiring.Expires == 0 || end < retiring.Expires {
			retiring.Expires = end
		}
		n.storedSecrets = append(n.storedSecrets, retiring)
		return nil
	})
	if app == nil {
		return nil, "", err
	}
	// Redis has the secret. Whoever checks it asks Redis, so nobody has to be told.
	return app, secret, nil
}
