package backendclient

import (
	"context"
	"net/http"
)

const roomsPath = "/rooms/"

// RetrieveRoom gets one room by its id, a UUID.
func (c *Client) RetrieveRoom(ctx context.Context, caller Caller, id string) (*Answer, error) {
	return c.Send(ctx, caller, Request{Method: http.MethodGet, Path: roomsPath + id + "/"})
}

// CreateRoom makes a room. body is nil or a JSON object; Meet reads access_level
// and configuration of it.
func (c *Client) CreateRoom(ctx context.Context, caller Caller, body []byte) (*Answer, error) {
	return c.Send(ctx, caller, Request{Method: http.MethodPost, Path: roomsPath, Body: body, MayHaveEffect: true})
}
