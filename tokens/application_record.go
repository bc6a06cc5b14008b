// SPDX-License-Identifier: MIT

package tokens

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Fields of applications and users as they are stored.
const (
	fieldGeneration  = installation.FieldGeneration
	prefixGrantGen   = "g:" // in users: + application id
	fieldDocument    = "d"  // in applications, as the following
	fieldVersion     = "v"
	fieldLastUsed    = "u"
	prefixSecretUsed = "s:" // + secret id
)

// applicationRecord is an application as it is stored: field "d" of its hash.
type applicationRecord struct {
	Format  int      `json:"f"`
	ID      string   `json:"id"` // shows that a reply belongs to the command that was sent
	Aliases []string `json:"aliases,omitempty"`
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Active  bool     `json:"active"`
	Scopes  Scopes   `json:"scopes,omitempty"`
	Domains []string `json:"domains,omitempty"`
	// Denied and Note are in old records, in clear. New ones have DeniedMails and Remark
	// instead, which are sealed.
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
	// Write is unique to every write, so that a write repeated after a lost reply can be
	// told from another write of the same content.
	Write string `json:"w"`
}

// Formats of a record. A version that knows only the first would not see denied addresses, so
// it must not read the second.
const (
	applicationFormat       = 1
	applicationFormatDenied = 2 // with DeniedMails
)

// inClear reports whether the record has fields in clear that new records encrypt.
func (r *applicationRecord) inClear() bool { return len(r.Denied) > 0 || r.Note != "" }

// applicationCodec encodes applications for Redis, and decodes them.
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

// decode decodes an application. Errors: ErrNotFound, ErrUnavailable.
func (c *applicationCodec) decode(id string, m map[string]string) (*Application, error) {
	app, err := c.decodeSealed(id, m)
	if err != nil {
		return nil, err
	}
	c.unseal(app)
	return app, nil
}

// decodeSealed is decode without decryption. Only some applications have anything
// encrypted, and the time that decryption takes must not show which to a caller that does
// not know the secret.
func (c *applicationCodec) decodeSealed(id string, m map[string]string) (*Application, error) {
	if m[fieldDocument] == "" {
		return nil, fmt.Errorf("application: %w", ErrNotFound)
	}
	var r applicationRecord
	if err := json.Unmarshal([]byte(m[fieldDocument]), &r); err != nil || r.Format < applicationFormat || r.Format > applicationFormatDenied || r.ID != id {
		return nil, unavailable("reading application "+id, errors.New("its record is damaged, of another application or of a later version"))
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

// sealed holds the encrypted fields of an application that were not decrypted: not yet, or
// because their secret is not configured. The latter stay until they are set again.
type sealed struct{ backend, denied, note string }

// Sealed values are bound to the application and the field: copied to another place they
// cannot be decrypted.
const (
	sealedBackend = ""
	sealedDenied  = " denied"
	sealedNote    = " note"
)

// seal sets the encrypted fields of a record.
func (c *applicationCodec) seal(app *Application, r *applicationRecord) error {
	r.Backend, r.DeniedMails, r.Remark = app.sealed.backend, app.sealed.denied, app.sealed.note
	put := func(into *string, what string, value any) error {
		plain, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("encoding an application: %w", err)
		}
		*into = base64.RawStdEncoding.EncodeToString(c.keys.Seal(plain, redisdb.KeyApplication(app.ID)+what))
		return nil
	}
	var problems [3]error
	if b := app.Backend; b != nil {
		problems[0] = put(&r.Backend, sealedBackend, [2]string{b.ClientID, b.ClientSecret})
	}
	if len(app.DeniedMails) > 0 {
		problems[1] = put(&r.DeniedMails, sealedDenied, app.DeniedMails)
	}
	if app.Note != "" {
		problems[2] = put(&r.Remark, sealedNote, app.Note)
	}
	return errors.Join(problems[:]...)
}

// unseal decrypts the encrypted fields that it can.
func (c *applicationCodec) unseal(app *Application) {
	open := func(text *string, what string, into any) bool {
		box, err := base64.RawStdEncoding.DecodeString(*text)
		if err != nil || *text == "" {
			return false
		}
		plain, _, err := c.keys.Open(box, redisdb.KeyApplication(app.ID)+what)
		if err != nil || json.Unmarshal(plain, into) != nil {
			return false
		}
		*text = ""
		return true
	}
	var pair [2]string
	if open(&app.sealed.backend, sealedBackend, &pair) {
		app.Backend = &BackendCredentials{ClientID: pair[0], ClientSecret: pair[1]}
	}
	open(&app.sealed.denied, sealedDenied, &app.DeniedMails)
	open(&app.sealed.note, sealedNote, &app.Note)
}
