package backendclient

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

const roomsPath = "/rooms/"

// RetrieveRoom gets one room by its id, a UUID. Another room than that is an
// ErrBadAnswer: HTTP/1.1 tells answers apart by their order alone, so what answers
// once too often, or too late, gives a caller what was meant for another
// (docs/decisions.md).
func (c *Client) RetrieveRoom(ctx context.Context, caller Caller, id string) (*Answer, error) {
	a, err := c.Send(ctx, caller, Request{Method: http.MethodGet, Path: roomsPath + id + "/"})
	if err == nil && a.Status == http.StatusOK && !isRoom(a.Body, id) {
		return nil, &Error{Kind: ErrBadAnswer, Op: "retrieve room", Status: a.Status, Hint: hintOtherRoom}
	}
	return a, err
}

// isRoom says whether a room has this id, in whichever form both are written.
func isRoom(room json.RawMessage, id string) bool {
	found := plainText(member(room, "id"))
	return found == id || strings.EqualFold(strings.ReplaceAll(found, "-", ""), strings.ReplaceAll(id, "-", ""))
}

// CreateRoom makes a room. body is nil or a JSON object; Meet reads access_level
// and configuration of it.
func (c *Client) CreateRoom(ctx context.Context, caller Caller, body []byte) (*Answer, error) {
	c.counts.drop(caller.identity())
	return c.Send(ctx, caller, Request{Method: http.MethodPost, Path: roomsPath, Body: body, MayHaveEffect: true})
}
