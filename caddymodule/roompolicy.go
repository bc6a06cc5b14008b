// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meet-gateway/meet-gateway/caddymodule/option"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/caddymodule/strictjson"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const (
	levelTrusted    = "trusted"
	levelRestricted = "restricted"
	levelPublic     = "public"
)

// levelsMeet alone leaves access levels to Meet.
const levelsMeet = "meet"

// checkLevels checks the option room_access_levels.
func checkLevels(levels []string) error {
	known := []string{levelTrusted, levelRestricted, levelPublic, levelsMeet}
	for i, level := range levels {
		switch {
		case !slices.Contains(known, level):
			return fmt.Errorf("room_access_levels: unknown value %q, expected some of: %s", level, option.Join(known))
		case slices.Contains(levels[:i], level):
			return fmt.Errorf("room_access_levels: duplicate %s", level)
		}
	}
	if len(levels) > 1 && slices.Contains(levels, levelsMeet) {
		return errors.New("room_access_levels: meet must be the only value")
	}
	return nil
}

// roomPolicy decides which fields of a room's creation are sent to Meet, and with which
// values.
type roomPolicy struct {
	levels []string
	strict bool
}

// roomRequest is the body that is sent to Meet, in the order of Meet's documentation.
type roomRequest struct {
	AccessLevel   string          `json:"access_level,omitempty"`
	Configuration json.RawMessage `json:"configuration,omitempty"`
}

func (p roomPolicy) meetDecides() bool { return slices.Equal(p.levels, []string{levelsMeet}) }

// body returns the body for Meet. Unless Meet decides, it always has an access level,
// so that Meet's default does not matter.
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

// level checks a requested access level. Errors are in Meet's words.
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

// cutText limits the bytes of a request that an answer repeats.
func cutText(s string) string {
	const longest = 100
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return s
}
