// SPDX-License-Identifier: MIT

package caddymodule

import (
	"bytes"
	"encoding/json"
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
// edit returns nil is left out. Anything but an object stays as it is.
func withoutMembers(object json.RawMessage, edit func(name string, value json.RawMessage) json.RawMessage) json.RawMessage {
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return object
	}
	edited := []byte{'{'}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return object
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return object
		}
		name, _ := key.(string)
		if value = edit(name, value); value == nil {
			continue
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return object
		}
		if len(edited) > 1 {
			edited = append(edited, ',')
		}
		edited = append(append(append(edited, quoted...), ':'), value...)
	}
	if t, err := dec.Token(); err != nil || t != json.Delim('}') {
		return object
	}
	return append(edited, '}')
}
