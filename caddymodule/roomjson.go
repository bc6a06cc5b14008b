// SPDX-License-Identifier: MIT

package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/meet-gateway/meet-gateway/backendclient"
)

// completeRoom brings a room into the published form. Most rooms already have it and
// are returned unchanged, byte for byte.
func (h *Handler) completeRoom(room json.RawMessage) json.RawMessage {
	return h.withURL(withoutNulls(room))
}

// withURL adds `url` if Meet left it out and room_url_base is configured.
func (h *Handler) withURL(room json.RawMessage) json.RawMessage {
	if h.RoomURLBase == "" {
		return room
	}
	for name := range backendclient.Members(room) {
		if name == "url" {
			return room
		}
	}
	slug := backendclient.ReadRoom(room).Slug()
	if !isSlug(slug) {
		return room
	}
	room = bytes.TrimRight(room, " \t\r\n")
	end := len(room) - 1 // the closing brace
	return fmt.Appendf(room[:end:end], `,"url":"%s/%s"}`, h.RoomURLBase, slug)
}

// checkRoomURLBase checks the option room_url_base.
func checkRoomURLBase(s string) error {
	u, err := url.Parse(s)
	if err != nil || !isWebURL(s) || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(s, `"\<> `) {
		return fmt.Errorf("room_url_base %q must be a web address such as https://meet.example.org", s)
	}
	return nil
}

func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}

// withoutNulls removes members that are null, such as the PIN of a room created before
// Meet had telephony: the published schema has no nulls. A room without any is returned
// unchanged, byte for byte.
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

// withoutMembers edits the members of a JSON object in order and drops those for which
// edit returns nil. The last of duplicate names counts. Other valid JSON is returned
// unchanged.
func withoutMembers(object json.RawMessage, edit func(name string, value json.RawMessage) json.RawMessage) json.RawMessage {
	if bytes.TrimSpace(object)[0] != '{' {
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
	edited := append(make([]byte, 0, len(object)), '{')
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
