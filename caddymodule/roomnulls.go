// SPDX-License-Identifier: MIT

package caddymodule

import (
	"bytes"
	"encoding/json"

	"github.com/meet-gateway/meet-gateway/backendclient"
)

// withoutNulls leaves out of a room what Meet has no value for: the PIN of a room
// that is older than telephony, for example. The published schema has no null. A
// room without any stays as it is, byte for byte.
func withoutNulls(room json.RawMessage) json.RawMessage {
	if !bytes.Contains(room, []byte("null")) {
		return room
	}
	return withoutMembers(room, func(name string, value json.RawMessage) json.RawMessage {
		switch name {
		case "telephony":
			if string(value) == "null" {
				return nil
			}
			return withoutMembers(value, func(_ string, value json.RawMessage) json.RawMessage { return notNull(value) })
		case "name", "url", "configuration":
			return notNull(value)
		}
		return value
	})
}

func notNull(value json.RawMessage) json.RawMessage {
	if string(value) == "null" {
		return nil
	}
	return value
}

// withoutMembers edits the members of a JSON object in their order; one for which
// edit returns nil is left out. Of a name that comes twice the last value counts.
// Anything but an object stays as it is.
func withoutMembers(object json.RawMessage, edit func(name string, value json.RawMessage) json.RawMessage) json.RawMessage {
	if !json.Valid(object) || bytes.TrimSpace(object)[0] != '{' {
		return object
	}
	var names []string
	values := map[string]json.RawMessage{}
	for name, value := range backendclient.Members(object) {
		if _, twice := values[name]; !twice {
			names = append(names, name)
		}
		values[name] = value
	}
	edited := []byte{'{'}
	for _, name := range names {
		value := edit(name, values[name])
		if value == nil {
			continue
		}
		if len(edited) > 1 {
			edited = append(edited, ',')
		}
		edited = append(append(append(edited, quoted(name)...), ':'), value...)
	}
	return append(edited, '}')
}
