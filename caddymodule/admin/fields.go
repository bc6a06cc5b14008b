// SPDX-License-Identifier: MIT

package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// applicationField is a field of an application that an administrator sets.
type applicationField struct {
	name string
	// want describes the value, for errors.
	want string
	// set sets the field; JSON null sets the default.
	set func(*tokens.Application, json.RawMessage) error
	// get returns the value as it may be shown.
	get func(*tokens.Application) any
}

var errWrongType = errors.New("wrong type")

// applicationFields are all fields in the order in which they are shown.
var applicationFields = []applicationField{
	plainField("name", "a text", func(a *tokens.Application) *string { return &a.Name }),
	plainField("type", "a text", func(a *tokens.Application) *string { return &a.Type }),
	{
		"active", "true or false",
		func(a *tokens.Application, raw json.RawMessage) error {
			a.Active = true
			return decodeStrict(raw, &a.Active)
		},
		func(a *tokens.Application) any { return a.Active },
	},
	plainField("aliases", "a list of client ids", func(a *tokens.Application) *[]string { return &a.Aliases }),
	plainField("scopes", "a list of scopes", func(a *tokens.Application) *tokens.Scopes { return &a.Scopes }),
	plainField("domains", "a list of mail domains", func(a *tokens.Application) *[]string { return &a.Domains }),
	{"denied_mails", "a list of mail addresses", setDeniedMails, func(a *tokens.Application) any { return a.DeniedMails }},
	{"token_lifetime", `a duration such as "30m" or "1d"`, setTokenLifetime, func(a *tokens.Application) any { return a.TokenLifetime }},
	plainField("refresh", "true or false", func(a *tokens.Application) *bool { return &a.Refresh }),
	{"networks", `a list of address ranges such as "192.0.2.0/24"`, setNetworks, func(a *tokens.Application) any { return a.Networks }},
	plainField("room_defaults", "an object of access_level and configuration", func(a *tokens.Application) *tokens.RoomDefaults { return &a.RoomDefaults }),
	plainField("limits", "an object of texts", func(a *tokens.Application) *map[string]string { return &a.Limits }),
	{"backend", "an object of client_id and client_secret, or null", setBackend, getBackend},
	plainField("note", "a text", func(a *tokens.Application) *string { return &a.Note }),
}

func plainField[T any](name, want string, at func(*tokens.Application) *T) applicationField {
	return applicationField{
		name: name, want: want,
		set: func(a *tokens.Application, raw json.RawMessage) error {
			var value T
			if err := decodeStrict(raw, &value); err != nil {
				return err
			}
			*at(a) = value
			return nil
		},
		get: func(a *tokens.Application) any { return *at(a) },
	}
}

// setDeniedMails replaces the whole list, even one that cannot be decrypted.
func setDeniedMails(a *tokens.Application, raw json.RawMessage) error {
	var mails []tokens.Mail
	if err := decodeStrict(raw, &mails); err != nil {
		return err
	}
	a.DenyMails(mails)
	return nil
}

// setTokenLifetime accepts Caddy's durations, which have days.
func setTokenLifetime(a *tokens.Application, raw json.RawMessage) error {
	var text string
	if err := decodeStrict(raw, &text); err != nil {
		return err
	}
	a.TokenLifetime = 0
	if text == "" {
		return nil
	}
	d, err := caddy.ParseDuration(text)
	if err != nil {
		return errWrongType
	}
	a.TokenLifetime = tokens.Duration(d)
	return nil
}

// setNetworks accepts addresses as well as ranges.
func setNetworks(a *tokens.Application, raw json.RawMessage) error {
	var texts []string
	if err := decodeStrict(raw, &texts); err != nil {
		return err
	}
	a.Networks = nil
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			ip, err := netip.ParseAddr(text)
			if err != nil || ip.Zone() != "" {
				return badField("networks", "%q is neither an address nor a range such as 192.0.2.0/24.", text)
			}
			p = netip.PrefixFrom(ip, ip.BitLen())
		}
		a.Networks = append(a.Networks, p)
	}
	return nil
}

// setBackend sets the credentials at Meet. The secret may be omitted for the present client
// id, so that an export can be applied.
func setBackend(a *tokens.Application, raw json.RawMessage) error {
	var pair *struct {
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
	}
	if err := decodeStrict(raw, &pair); err != nil {
		return err
	}
	switch {
	case pair == nil:
		a.ForgetBackend()
	case pair.ClientSecret != "":
		a.Backend = &tokens.BackendCredentials{ClientID: pair.ClientID, ClientSecret: pair.ClientSecret}
	case a.Backend == nil || a.Backend.ClientID != pair.ClientID:
		return &wire.Problem{Status: 422, Field: "backend.client_secret", Detail: "It is needed with a client_id that is new here."}
	}
	return nil
}

func getBackend(a *tokens.Application) any {
	if a.Backend == nil {
		return nil
	}
	return map[string]string{"client_id": a.Backend.ClientID}
}

// decodeStrict reads a JSON value and refuses unknown fields. null changes nothing.
func decodeStrict(raw json.RawMessage, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if d.Decode(into) != nil {
		return errWrongType
	}
	return nil
}

func isApplicationField(name string) bool { return slices.Contains(applicationFieldNames(), name) }

func applicationFieldNames() []string {
	names := make([]string, 0, len(applicationFields))
	for _, f := range applicationFields {
		names = append(names, f.name)
	}
	return names
}

// setFields sets the given fields of the application.
func setFields(a *tokens.Application, given map[string]json.RawMessage) error {
	for _, f := range applicationFields {
		raw, ok := given[f.name]
		if !ok {
			continue
		}
		err := f.set(a, raw)
		if errors.Is(err, errWrongType) {
			return badField(f.name, "It must be %s.", f.want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changedFields names the fields in which two applications differ.
func changedFields(a, b *tokens.Application) []string {
	var names []string
	for _, f := range applicationFields {
		same := sameJSON(f.get(a), f.get(b)) || slices.Contains(unordered, f.name) && sameElements(f.get(a), f.get(b))
		switch f.name {
		case "denied_mails":
			same = same && a.DeniedUnreadable() == b.DeniedUnreadable()
		case "backend":
			// The secret counts although get does not return it.
			same = reflect.DeepEqual(a.Backend, b.Backend) && a.BackendUnreadable() == b.BackendUnreadable() && a.LearnsBackend() == b.LearnsBackend()
		}
		if !same {
			names = append(names, f.name)
		}
	}
	return names
}

// unordered are the fields whose order does not matter.
var unordered = []string{"aliases", "scopes", "domains", "denied_mails", "networks"}

// sameElements compares two lists of texts in any order.
func sameElements(a, b any) bool {
	elements := func(v any) []string {
		var list []string
		text, err := json.Marshal(v)
		if err != nil || json.Unmarshal(text, &list) != nil {
			return nil
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	x, y := elements(a), elements(b)
	return len(x) > 0 && slices.Equal(x, y)
}

// sameJSON compares values as they are shown; empty equals absent.
func sameJSON(a, b any) bool {
	if wire.IsEmpty(a) && wire.IsEmpty(b) {
		return true
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
