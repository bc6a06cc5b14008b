// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

const roomsPath = "/rooms/"

// RetrieveRoom gets one room by its id, a UUID. Another room than that is an
// ErrBadAnswer; see [Request].Room.
func (c *Client) RetrieveRoom(ctx context.Context, caller Caller, id string) (*Response, error) {
	return c.Send(ctx, caller, Request{Method: http.MethodGet, Path: roomsPath + id + "/", Room: id})
}

// otherRoom is the error of an answer with another room than the one that the
// request was about. An answer to GET must be that room, and one to a creation some
// room; one to a change need not show any.
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

// isRoom says whether a room has this id, in whichever form both are written.
func isRoom(room json.RawMessage, id string) bool {
	raw := member(room, "id")
	if len(raw) == len(id)+2 && string(raw[1:len(raw)-1]) == id {
		return true // as always, without a copy
	}
	found := plainText(raw)
	return found == id || strings.EqualFold(strings.ReplaceAll(found, "-", ""), strings.ReplaceAll(id, "-", ""))
}

// CreateRoom makes a room. body is nil or a JSON object; Meet reads access_level
// and configuration of it.
func (c *Client) CreateRoom(ctx context.Context, caller Caller, body []byte) (*Response, error) {
	c.counts.drop(caller.identity())
	return c.Send(ctx, caller, Request{Method: http.MethodPost, Path: roomsPath, Body: body, MayHaveEffect: true})
}
