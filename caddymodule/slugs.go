// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const emptyList = `{"count":0,"next":null,"previous":null,"results":[]}`

// findRoom answers GET /rooms?slug= with a list of the user's room with this slug, or
// an empty one. A slug in the index costs one request to Meet; others are searched for.
func (c roomsCall) findRoom(caller backendclient.Caller, slug string, page int) (*backendclient.Response, error) {
	if page > 1 {
		return nil, errInvalidPage
	}
	list := []byte(emptyList)
	if !isSlug(slug) {
		return &backendclient.Response{Status: http.StatusOK, Body: list}, nil
	}
	answer, err := c.findKnownRoom(caller, slug)
	if err == nil && answer == nil {
		answer, err = c.h.client.FindRoomBySlug(c.ctx, caller, slug)
	}
	switch {
	case err != nil:
		return nil, err
	case answer.Status == http.StatusOK:
		c.rememberRooms(backendclient.ReadRoom(answer.Body))
		list = fmt.Appendf(nil, `{"count":1,"next":null,"previous":null,"results":[%s]}`, c.h.completeRoom(answer.Body))
	case answer.Status != http.StatusNotFound:
		return answer, nil
	}
	return &backendclient.Response{Status: http.StatusOK, Body: list}, nil
}

// findKnownRoom retrieves the room that the index has for a slug, as the user. It
// returns nil if the room has to be searched for.
func (c roomsCall) findKnownRoom(caller backendclient.Caller, slug string) (*backendclient.Response, error) {
	authority := c.h.app.Authority()
	id, err := authority.FindSlug(c.ctx, c.h.host, slug)
	if err != nil {
		if errors.Is(err, tokens.ErrNotFound) || errors.Is(err, tokens.ErrUnavailable) {
			return nil, nil // the index is only a shortcut
		}
		return nil, err
	}
	answer, err := c.h.client.RetrieveRoom(c.ctx, caller, id)
	if err != nil {
		return nil, err
	}
	switch {
	case answer.Status == http.StatusOK && backendclient.ReadRoom(answer.Body).Slug() == slug:
		return answer, nil
	case answer.Status == http.StatusForbidden:
		// A room of others is not in this user's list.
		return &backendclient.Response{Status: http.StatusNotFound}, nil
	}
	// Deleted or renamed. If it stays in the index, the next request checks again.
	_ = authority.ForgetSlug(c.ctx, c.h.host, slug, id)
	return nil, nil
}

// rememberRooms adds rooms to the index in the background, unless they were added
// recently.
func (c roomsCall) rememberRooms(rooms ...backendclient.Room) {
	c.h.app.Authority().RememberRooms(c.h.host, func(yield func(slug, id string) bool) {
		for _, room := range rooms {
			if !yield(room.Slug(), room.ID()) {
				return
			}
		}
	})
}
