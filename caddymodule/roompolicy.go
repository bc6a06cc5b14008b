// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/caddymodule/strictjson"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// Access levels of Meet's rooms.
const (
	levelTrusted    = "trusted"
	levelRestricted = "restricted"
	levelPublic     = "public"
)

// levelsMeet in place of levels leaves them to Meet.
const levelsMeet = "meet"

// roomPolicy decides what Meet is told about a new room. Of what a caller sends
// only what is named here is passed on.
type roomPolicy struct {
	levels []string
	strict bool
}

// roomRequest is what Meet is told, in the order of Meet's documentation.
type roomRequest struct {
	AccessLevel   string          `json:"access_level,omitempty"`
	Configuration json.RawMessage `json:"configuration,omitempty"`
}

// meetDecides reports whether levels are left to Meet.
func (p roomPolicy) meetDecides() bool { return slices.Equal(p.levels, []string{levelsMeet}) }

// body makes the body of a creation from what the caller sent. The access level
// is always named, so that another default of Meet's makes no difference, unless it
// is Meet that decides.
func (p roomPolicy) body(sent []byte, defaults tokens.RoomDefaults) ([]byte, error) {
	if p.strict {
		return []byte("{}"), nil
	}
	fields, err := parse.JSONObject(sent)
	if err != nil {
		return nil, err
	}
	room := roomRequest{Configuration: defaults.Configuration}
	switch {
	case p.meetDecides() || slices.Contains(p.levels, defaults.AccessLevel):
		room.AccessLevel = defaults.AccessLevel
	default:
		room.AccessLevel = p.levels[0]
	}
	if raw, asked := fields["access_level"]; asked {
		if room.AccessLevel, err = p.level(raw); err != nil {
			return nil, err
		}
	}
	if raw, asked := fields["configuration"]; asked {
		if strictjson.HoldsNUL(raw) {
			return nil, parse.FieldErrors{"configuration": {"Null characters are not allowed."}}
		}
		room.Configuration = raw
	}
	return json.Marshal(room)
}

// level checks an access level that a caller asks for, in Meet's words.
func (p roomPolicy) level(raw json.RawMessage) (string, error) {
	var level string
	if err := json.Unmarshal(raw, &level); err != nil {
		return "", parse.FieldErrors{"access_level": {notAChoice(string(raw))}}
	}
	switch {
	case string(raw) == "null":
		return "", parse.FieldErrors{"access_level": {"This field may not be null."}}
	case slices.Contains(p.levels, level), p.meetDecides() && level != "":
		return level, nil
	case level == levelPublic:
		return "", errPublicRooms
	default:
		return "", parse.FieldErrors{"access_level": {notAChoice(level)}}
	}
}

// cutText bounds what an answer repeats from a request, in bytes.
func cutText(s string) string {
	const longest = 100
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return s
}
