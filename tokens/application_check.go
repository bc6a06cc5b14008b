// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// Bounds of an application's fields. They keep a record small enough to be read on a request.
const (
	maxName    = 255
	maxNote    = 4000
	maxAliases = 8
	maxScopes  = 64
	maxDomains = 1000
	maxDenied  = 1000
	maxNets    = 100
	maxConfig  = 16 << 10
)

// Checked returns the application as it would be registered: with folded values, without
// duplicates, with defaults. The error is ErrInvalidApplication and names the field.
func (app *Application) Checked() (*Application, error) {
	c := app.clone()
	if err := c.normalise(); err != nil {
		return nil, err
	}
	return c, nil
}

// normalise does in place what Checked does in a copy.
func (app *Application) normalise() error {
	for _, part := range []func() error{app.foldNames, app.foldScopes, app.foldDomains, app.foldDeniedMails, app.checkLimits, app.checkMeet} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrInvalidApplication, field, fmt.Sprintf(format, args...))
}

func (app *Application) foldNames() error {
	app.Name = strings.TrimSpace(app.Name)
	if app.Name == "" || len(app.Name) > maxName || hasControl(app.Name) {
		return invalid("name", "must be 1 to %d bytes without control characters", maxName)
	}
	app.Type = cmp.Or(app.Type, "classic")
	if len(app.Type) > 32 || !vault.IsSlug(app.Type) {
		return invalid("type", "must be letters, digits and inner hyphens, at most 32")
	}
	if len(app.Note) > maxNote {
		return invalid("note", "must be at most %d bytes", maxNote)
	}
	if len(app.Aliases) > maxAliases {
		return invalid("aliases", "must be at most %d", maxAliases)
	}
	for _, a := range app.Aliases {
		if !grammar.IsClientID(a) {
			return invalid("aliases", "%q is not a client id", a)
		}
	}
	app.Aliases = uniq(app.Aliases)
	return nil
}

func (app *Application) foldScopes() error {
	scopes, err := NewScopes(app.Scopes...)
	if err != nil {
		return invalid("scopes", "%v", err)
	}
	if len(scopes) > maxScopes {
		return invalid("scopes", "must be at most %d", maxScopes)
	}
	app.Scopes = scopes
	return nil
}

func (app *Application) foldDomains() error {
	if len(app.Domains) > maxDomains {
		return invalid("domains", "must be at most %d", maxDomains)
	}
	for i, d := range app.Domains {
		d = strings.TrimSpace(d)
		if d != "*" {
			name, below := strings.CutPrefix(d, ".")
			folded, ok := grammar.FoldDomain(name)
			if !ok {
				return invalid("domains", "%q is neither a domain name, nor .name for the names below it, nor *", d)
			}
			if d = folded; below {
				d = "." + folded
			}
		}
		app.Domains[i] = d
	}
	app.Domains = uniq(app.Domains)
	return nil
}

func (app *Application) foldDeniedMails() error {
	if len(app.DeniedMails) > maxDenied {
		return invalid("denied_mails", "must be at most %d", maxDenied)
	}
	for i, m := range app.DeniedMails {
		folded, err := ParseMail(string(m))
		if err != nil {
			return invalid("denied_mails", "number %d is not a mail address", i+1)
		}
		app.DeniedMails[i] = folded
	}
	app.DeniedMails = uniq(app.DeniedMails)
	return nil
}

func (app *Application) checkLimits() error {
	if d := time.Duration(app.TokenLifetime); d != 0 && (d < minLifetime || d > maxLifetime) {
		return invalid("token_lifetime", "must be from %v to %v", minLifetime, maxLifetime)
	}
	if len(app.Networks) > maxNets {
		return invalid("networks", "must be at most %d", maxNets)
	}
	for i, p := range app.Networks {
		if !p.IsValid() {
			return invalid("networks", "number %d is not an address range", i+1)
		}
		app.Networks[i] = p.Masked()
	}
	if _, err := limit.ParseOverrides(app.Limits); err != nil {
		return invalid("limits", "%v", err)
	}
	return nil
}

// checkMeet checks what is sent to Meet: properties of rooms, and credentials.
func (app *Application) checkMeet() error {
	if level := app.RoomDefaults.AccessLevel; level != "" && level != "trusted" && level != "restricted" && level != "public" {
		return invalid("room_defaults.access_level", "must be trusted, restricted or public")
	}
	if c := app.RoomDefaults.Configuration; len(c) > 0 {
		var object map[string]json.RawMessage
		if len(c) > maxConfig || json.Unmarshal(c, &object) != nil || object == nil {
			return invalid("room_defaults.configuration", "must be a JSON object of at most %d bytes", maxConfig)
		}
	}
	if b := app.Backend; b != nil {
		if b.ClientID == "" || b.ClientSecret == "" || len(b.ClientID) > 255 || len(b.ClientSecret) > secrets.MaxLength {
			return invalid("backend", "client id and client secret belong together, at most 255 and %d bytes", secrets.MaxLength)
		}
	}
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func uniq[T comparable](in []T) []T {
	var out []T
	for _, v := range in {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}
