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
// [Authority.UpdateApplication]. Its JSON form is safe to show: it holds no
// secret, and of the backend credentials only the client id.
type Application struct {
	// ID is 32 letters and digits, given at creation. It is the OAuth client id.
	ID string `json:"id"`
	// Aliases are further client ids: those an imported or adopted application
	// has at Meet, so that its integrator changes nothing.
	Aliases []string `json:"aliases,omitempty"`
	// Name is for people. It need not be unique.
	Name string `json:"name"`
	// Type is what /identity/source shows. Default: "classic".
	Type string `json:"type"`
	// Active is false for an application that was disabled: none of its
	// credentials and tokens is valid.
	Active bool `json:"active"`
	// Scopes are what its tokens may do. Removing one acts on live tokens.
	Scopes Scopes `json:"scopes"`
	// Domains are the mail domains it may act for: "example.org" exactly,
	// ".example.org" for every name below it, "*" for "Meet decides". None
	// means nobody.
	Domains []string `json:"domains"`
	// DeniedMails are addresses it may not act for, whatever Domains says. They are
	// encrypted at rest.
	DeniedMails []Mail `json:"denied_mails,omitempty"`
	// TokenLifetime is how long its access tokens live. Default (0): the
	// installation's.
	TokenLifetime Duration `json:"token_lifetime,omitempty"`
	// Refresh allows it refresh tokens.
	Refresh bool `json:"refresh,omitempty"`
	// Networks are the source addresses it may call from. None means any.
	Networks []netip.Prefix `json:"networks,omitempty"`
	// RoomDefaults fill what its room creations leave out.
	RoomDefaults RoomDefaults `json:"room_defaults,omitzero"`
	// Limits override the installation's limits by name, such as "token": "60/1m"
	// or "read_user": "off"; see [limit.ParseOverrides].
	Limits map[string]string `json:"limits,omitempty"`
	// Backend are its credentials at Meet. None means the gateway's own.
	Backend *BackendCredentials `json:"backend,omitempty"`
	// Note is free text for operators. It is encrypted at rest.
	Note string `json:"note,omitempty"`

	// The fields below are kept by the Authority; a caller's values are ignored.

	// Secrets are its live secrets, newest first; at most two.
	Secrets []SecretInfo `json:"secrets,omitempty"`
	// Version counts its changes, for [Authority.UpdateApplication].
	Version int64 `json:"version"`
	// Created, Updated and LastUsed are instants; LastUsed is written at most
	// once a minute.
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	LastUsed time.Time `json:"last_used,omitzero"`
	// NotGranted are scopes that Meet did not grant it when it was last asked.
	NotGranted []NotGranted `json:"not_granted,omitempty"`

	generation    uint64
	edits         uint64 // counted by countingEdits
	storedSecrets []secrets.Stored
	sealed        sealed
	read          time.Time         // from Redis
	fields        map[string]string // what it was read from, if it is remembered
	rates         *limit.Rates
}

// RoomDefaults are the properties given to new rooms that do not name them.
type RoomDefaults struct {
	// AccessLevel is "trusted", "restricted" or "public". Default (""): the
	// gateway's policy decides.
	AccessLevel string `json:"access_level,omitempty"`
	// Configuration is a JSON object as Meet takes it.
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

// DomainFor returns which of the application's domains an address is in: the first
// that allows it, "" if none does.
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

// hasClientID reports whether the application has a client id: its own id, or one
// that it lists.
func (app *Application) hasClientID(clientID string) bool {
	return app.ID == clientID || slices.Contains(app.Aliases, clientID)
}

// DeniedUnreadable reports whether the application's denied mail addresses were encrypted
// with a secret that is not configured here. It cannot be used until they are set again.
func (app *Application) DeniedUnreadable() bool { return app.sealed.denied != "" }

// DenyMails replaces the addresses that the application may not act for, including those
// that cannot be read. Setting DeniedMails to none keeps unreadable ones. It is for
// [Authority.UpdateApplication].
func (app *Application) DenyMails(mails []Mail) { app.DeniedMails, app.sealed.denied = mails, "" }

// BackendUnreadable reports whether the application's backend credentials were encrypted
// with a secret that is not configured here. It cannot be used until they are set again or
// forgotten.
func (app *Application) BackendUnreadable() bool {
	return app.Backend == nil && app.sealed.backend != ""
}

// ForgetBackend removes the backend credentials, including unreadable ones and those that
// could be learned. Setting Backend to nil keeps these two. It is for
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

// Rates returns the application's own limits; nil if it has none. They are the
// installation's where the application does not set them.
func (app *Application) Rates() *limit.Rates { return app.rates }

// Warnings tells what an operator should know about the application's settings.
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
