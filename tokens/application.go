// SPDX-License-Identifier: MIT

package tokens

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// Application is an external platform that may call Meet on behalf of users.
//
// A value that came from an [Authority] is shared and must not be changed; use
// [Authority.UpdateApplication]. Its JSON form is safe to show: it has no secrets, and only
// the client id of the backend credentials.
type Application struct {
	// ID is 32 letters and digits, given at creation. It is the OAuth client id.
	ID string `json:"id"`
	// Aliases are further client ids, such as the one that an imported or adopted
	// application has at Meet: its integrator changes nothing.
	Aliases []string `json:"aliases,omitempty"`
	// Name is for operators. It need not be unique.
	Name string `json:"name"`
	// Type is what /identity/source shows. Default: "classic".
	Type string `json:"type"`
	// Active is false for a disabled application: its secrets and tokens are not valid.
	Active bool `json:"active"`
	// Scopes are what its tokens may do. Removing one also affects tokens issued before.
	Scopes Scopes `json:"scopes"`
	// Domains are the mail domains it may act for: "example.org" for that domain,
	// ".example.org" for all domains below it, "*" for all that Meet accepts. Default: none.
	Domains []string `json:"domains"`
	// DeniedMails are addresses it may not act for, even if Domains allows them. They are
	// encrypted at rest.
	DeniedMails []Mail `json:"denied_mails,omitempty"`
	// TokenLifetime is how long its access tokens live. Default (0): the
	// installation's.
	TokenLifetime Duration `json:"token_lifetime,omitempty"`
	// Refresh allows it refresh tokens.
	Refresh bool `json:"refresh,omitempty"`
	// Networks are the source addresses it may call from. None means any.
	Networks []netip.Prefix `json:"networks,omitempty"`
	// RoomDefaults are properties of its new rooms that a request does not set.
	RoomDefaults RoomDefaults `json:"room_defaults,omitzero"`
	// Limits override the installation's limits by name, such as "token": "60/1m"
	// or "read_user": "off"; see [limit.ParseOverrides].
	Limits map[string]string `json:"limits,omitempty"`
	// Backend are its credentials at Meet. Default: the gateway's.
	Backend *BackendCredentials `json:"backend,omitempty"`
	// Note is free text for operators. It is encrypted at rest.
	Note string `json:"note,omitempty"`

	// The Authority sets the fields below; a caller's values are ignored.

	// Secrets are its live secrets, newest first; at most two.
	Secrets []SecretInfo `json:"secrets,omitempty"`
	// Version counts its changes, for [Authority.UpdateApplication].
	Version int64 `json:"version"`
	// Created, Updated and LastUsed are times. LastUsed has a resolution of a minute.
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	LastUsed time.Time `json:"last_used,omitzero"`
	// NotGranted are scopes that Meet did not grant it in the last exchange.
	NotGranted []NotGranted `json:"not_granted,omitempty"`

	generation    uint64
	edits         uint64 // counted by countingEdits
	storedSecrets []secrets.Stored
	sealed        sealed
	read          time.Time         // from Redis
	fields        map[string]string // the hash that it was decoded from, if it is in memory
	rates         *limit.Rates
}

// RoomDefaults are properties of new rooms that a request does not set.
type RoomDefaults struct {
	// AccessLevel is "trusted", "restricted" or "public". Default (""): the
	// gateway's policy decides.
	AccessLevel string `json:"access_level,omitempty"`
	// Configuration is a JSON object in Meet's form.
	Configuration json.RawMessage `json:"configuration,omitempty"`
}

// IsZero reports whether nothing is set.
func (d RoomDefaults) IsZero() bool { return d.AccessLevel == "" && len(d.Configuration) == 0 }

// BackendCredentials are what an application presents at Meet. They are
// encrypted at rest; the secret is never shown again.
type BackendCredentials struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"-"`
}

// String hides the secret.
func (c BackendCredentials) String() string { return c.ClientID + ":(hidden)" }

// GoString is String.
func (c BackendCredentials) GoString() string { return c.String() }

// Duration is a time.Duration that is written as "1h30m0s" in JSON.
type Duration time.Duration

// MarshalText writes the form of [time.Duration.String].
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads the form of [time.ParseDuration].
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err //nolint:wrapcheck // the message is whole: time: invalid duration "x"
}

// MayDelegate reports whether the application may act for the address. The
// error is [ErrDomainNotAllowed].
func (app *Application) MayDelegate(m Mail) error {
	if slices.Contains(app.DeniedMails, m) {
		return deny(ErrDomainNotAllowed, "mail_denied")
	}
	if app.DomainFor(m) == "" {
		return deny(ErrDomainNotAllowed, "domain_not_allowed")
	}
	return nil
}

// DomainFor returns the first of the application's domains that allows an address, "" if none
// does.
func (app *Application) DomainFor(m Mail) string {
	domain := m.Domain()
	for _, d := range app.Domains {
		switch {
		case d == "*", d == domain, strings.HasPrefix(d, ".") && strings.HasSuffix(domain, d):
			return d
		}
	}
	return ""
}

// AllowsSource reports whether the application may call from the address.
func (app *Application) AllowsSource(ip netip.Addr) bool {
	if len(app.Networks) == 0 {
		return true
	}
	ip = ip.Unmap()
	return slices.ContainsFunc(app.Networks, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// hasClientID reports whether the application has a client id, as its id or an alias.
func (app *Application) hasClientID(clientID string) bool {
	return app.ID == clientID || slices.Contains(app.Aliases, clientID)
}

// DeniedUnreadable reports whether the application's denied mail addresses were encrypted
// with a secret that is not configured here. It cannot be used until they are set again.
func (app *Application) DeniedUnreadable() bool { return app.sealed.denied != "" }

// DenyMails replaces DeniedMails, including unreadable ones, which setting the field would
// keep. It is for [Authority.UpdateApplication].
func (app *Application) DenyMails(mails []Mail) { app.DeniedMails, app.sealed.denied = mails, "" }

// BackendUnreadable reports whether the application's backend credentials were encrypted
// with a secret that is not configured here. It cannot be used until they are set again or
// forgotten.
func (app *Application) BackendUnreadable() bool {
	return app.Backend == nil && app.sealed.backend != ""
}

// ForgetBackend removes the backend credentials, including unreadable ones and those that
// could be learned, which setting Backend to nil would keep. It is for
// [Authority.UpdateApplication].
func (app *Application) ForgetBackend() {
	app.Backend, app.sealed.backend = nil, ""
	app.storedSecrets = slices.Clone(app.storedSecrets) // copies of the application may share them
	for i := range app.storedSecrets {
		app.storedSecrets[i].Client = ""
	}
}

// unusable reports whether the application must not be used, because it would act under
// the wrong credentials at Meet or for a denied address.
func (app *Application) unusable() bool { return app.sealed.backend != "" || app.sealed.denied != "" }

// Rates returns the application's own limits, nil if it has none. The installation's apply
// where the application sets no limit.
func (app *Application) Rates() *limit.Rates { return app.rates }

// Warnings describes settings of the application that may be mistakes.
func (app *Application) Warnings() []string {
	var w []string
	if slices.Contains(app.Domains, "*") {
		w = append(w, `domain "*": Meet alone decides for whom this application may act`)
	}
	if len(app.Domains) == 0 {
		w = append(w, "no domain: this application may act for nobody")
	}
	if len(app.Scopes) == 0 {
		w = append(w, "no scope: tokens of this application may do nothing")
	}
	for _, n := range app.NotGranted {
		w = append(w, n.warning())
	}
	if app.BackendUnreadable() {
		w = append(w, "backend credentials were encrypted with a secret that is not configured: this application cannot be used until they are set again")
	}
	if app.DeniedUnreadable() {
		w = append(w, "denied mail addresses were encrypted with a secret that is not configured: this application cannot be used until they are set again")
	}
	if app.sealed.note != "" {
		w = append(w, "its note was encrypted with a secret that is not configured")
	}
	return w
}

// clone returns a copy whose fields may be changed.
func (app *Application) clone() *Application {
	c := *app
	c.Aliases = slices.Clone(app.Aliases)
	c.Scopes = slices.Clone(app.Scopes)
	c.Domains = slices.Clone(app.Domains)
	c.DeniedMails = slices.Clone(app.DeniedMails)
	c.Networks = slices.Clone(app.Networks)
	c.RoomDefaults.Configuration = slices.Clone(app.RoomDefaults.Configuration)
	c.storedSecrets = slices.Clone(app.storedSecrets)
	if app.Backend != nil {
		b := *app.Backend
		c.Backend = &b
	}
	if app.Limits != nil {
		c.Limits = maps.Clone(app.Limits)
	}
	return &c
}
