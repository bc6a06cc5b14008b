// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

const roomsPath = "/rooms/"

// Room is a room as Meet wrote it.
type Room struct {
	JSON json.RawMessage
	// HasNull reports whether a value in it is null.
	HasNull bool

	id, slug json.RawMessage // nil if it has none
}

// ID returns the room's id, "" if it is not a string without escapes.
func (r Room) ID() string { return plainText(r.id) }

// Slug returns the room's slug, "" if it is not a string without escapes.
func (r Room) Slug() string { return plainText(r.slug) }

// ReadRoom reads a room, such as the body of a [Response].
func ReadRoom(room json.RawMessage) Room {
	s := scanner{json: room}
	return s.room()
}

func (s *scanner) room() (r Room) {
	s.next()
	start, nulls := s.at, s.nulls
	for name := range s.items {
		value := s.value()
		switch string(name) {
		case "id":
			r.id = value
		case "slug":
			r.slug = value
		}
	}
	r.JSON, r.HasNull = s.json[start:s.at:s.at], s.nulls > nulls
	return r
}

// RetrieveRoom gets a room by its id, a UUID. If Meet answers with another room, that is an
// ErrBadAnswer; see [Request].Room.
func (c *Client) RetrieveRoom(ctx context.Context, caller Caller, id string) (*Response, error) {
	return c.Send(ctx, caller, Request{Method: http.MethodGet, Path: roomsPath + id + "/", Room: id})
}

// otherRoom returns an error if an answer is about another room than the request. The answer
// to a GET must be that room, and the answer to a creation must be a room. The answer to a
// change need not contain one.
func otherRoom(a *reply, w wireRequest) *Error {
	if w.method == http.MethodPost && w.below == roomsPath && a.status < 300 && plainText(member(a.body, "id")) == "" {
		return &Error{Kind: ErrBadAnswer, Op: w.operation(), Status: a.status, Hint: hintNoRoom, Effect: true}
	}
	if w.room == "" || a.status < 200 || a.status > 299 || w.method == http.MethodHead || isRoom(a.body, w.room) {
		return nil
	}
	if w.effect && member(a.body, "id") == nil {
		return nil
	}
	return &Error{Kind: ErrBadAnswer, Op: w.operation(), Status: a.status, Hint: hintOtherRoom, Effect: w.effect}
}

// isRoom reports whether a room has this id, in any spelling.
func isRoom(room json.RawMessage, id string) bool {
	raw := member(room, "id")
	if len(raw) == len(id)+2 && string(raw[1:len(raw)-1]) == id {
		return true // the usual case, without a copy
	}
	found := plainText(raw)
	return found == id || strings.EqualFold(strings.ReplaceAll(found, "-", ""), strings.ReplaceAll(id, "-", ""))
}

// CreateRoom creates a room. body is nil or a JSON object, of which Meet reads access_level
// and configuration.
func (c *Client) CreateRoom(ctx context.Context, caller Caller, body []byte) (*Response, error) {
	c.roomCounts.drop(caller.identity())
	return c.Send(ctx, caller, Request{Method: http.MethodPost, Path: roomsPath, Body: body, MayHaveEffect: true})
}
