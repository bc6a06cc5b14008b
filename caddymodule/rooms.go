// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// serve verifies the token, checks its scope and sends the request to Meet on behalf of
// the user.
func (c roomsCall) serve() error {
	auth, err := parse.Authorization(c.r.Header)
	if err != nil {
		return err
	}
	if auth.Scheme != parse.SchemeBearer {
		return errNoToken
	}
	if c.identity, err = c.verify(auth.Token); err != nil {
		c.identity = nil
		if c.isForeign(auth.Token, err) {
			return c.passThrough(auth.Token)
		}
		return err
	}
	c.application, c.generations = c.identity.Application, c.identity.Generations
	if err := c.checkSource(); err != nil {
		return err
	}
	if !c.identity.Scopes.Has(c.scope) {
		return insufficientScope(c.scope)
	}
	if err := c.checkRateLimit(c.identity.User.ID); err != nil {
		return err
	}
	if c.match.invalid {
		return errInvalidRoom
	}
	began := time.Now()
	answer, err := c.askMeet()
	c.addMeetTime(began)
	if err != nil {
		return err
	}
	return c.relay(answer)
}

func (c roomsCall) verify(token string) (*tokens.Identity, error) {
	ctx, span := startSpan(c.ctx, "meet_gateway.verify")
	id, err := c.h.app.Authority().Verify(ctx, token)
	c.endSpan(span, err)
	return id, err
}

func (c roomsCall) askMeet() (*backendclient.Response, error) {
	caller := c.caller(c.identity.User.Mail)
	switch c.endpoint {
	case endpointRoomsList:
		return c.listRooms(caller)
	case endpointRoomsCreate:
		return c.createRoom(caller)
	case endpointRoomsRetrieve:
		return c.h.client.RetrieveRoom(c.ctx, caller, c.match.id)
	default:
		return c.sendOperatorRoute(caller)
	}
}

// listRooms answers GET /rooms, with any page size that the published API allows.
func (c roomsCall) listRooms(caller backendclient.Caller) (*backendclient.Response, error) {
	q, err := parse.RoomsQuery(c.target.Query)
	if err != nil {
		return nil, err
	}
	o := backendclient.ListOptions{Room: func(room backendclient.Room) json.RawMessage {
		if room.HasNull {
			return c.h.completeRoom(room.JSON)
		}
		return c.h.withURL(room.JSON)
	}}
	if o.Page, err = parsePage(q); err != nil {
		return nil, err
	}
	if o.PageSize, err = parsePageSize(q); err != nil {
		return nil, err
	}
	if q.Slug != "" {
		return c.findRoom(caller, q.Slug, o.Page)
	}
	links := c.publicURL()
	o.Link = func(page int) string {
		return links.page(page, o.PageSize, q.HasPageSize)
	}
	answer, err := c.h.client.ListRooms(c.ctx, caller, o)
	if err == nil {
		c.rememberRooms(answer.Rooms...)
	}
	return answer, err
}

// errInvalidPage is Meet's answer to pages that do not exist.
var errInvalidPage = &refusal{status: http.StatusNotFound, detail: "Invalid page.", reason: "invalid_page"}

// parsePage parses `page` as Meet does: empty is the first page, `last` the last one.
func parsePage(q parse.RoomsParameters) (int, error) {
	switch q.Page {
	case "":
		return 1, nil
	case "last":
		return backendclient.PageLast, nil
	}
	page, err := strconv.Atoi(strings.TrimSpace(q.Page))
	if err != nil || page < 1 {
		return 0, errInvalidPage
	}
	return page, nil
}

// parsePageSize parses `page_size`, 1 to 100. Other values are answered as an invalid
// page.
func parsePageSize(q parse.RoomsParameters) (int, error) {
	if q.PageSize == "" {
		return backendclient.DefaultPageSize, nil
	}
	size, err := strconv.Atoi(strings.TrimSpace(q.PageSize))
	if err != nil || size < 1 || size > backendclient.MaxPageSize {
		return 0, errInvalidPage
	}
	return size, nil
}

// createRoom answers POST /rooms according to the operator's policy.
func (c roomsCall) createRoom(caller backendclient.Caller) (*backendclient.Response, error) {
	key, err := c.idempotencyKey()
	if err != nil {
		return nil, err
	}
	sent, err := c.readJSON()
	if err != nil {
		return nil, err
	}
	body, err := c.h.policy().body(sent, c.application.RoomDefaults)
	if err != nil {
		return nil, err
	}
	c.detachChange()
	return c.withIdempotency(key, sent, func() (*backendclient.Response, error) {
		return c.h.client.CreateRoom(c.ctx, caller, body)
	})
}

// readJSON reads a JSON body, which may be empty. Errors in the headers are answered
// before the body is read.
func (c roomsCall) readJSON() ([]byte, error) {
	if err := checkLength(c.r, c.h.MaxRoomBody); err != nil {
		return nil, err
	}
	if err := requireJSON(c.r.Header, announcesBody(c.r)); err != nil {
		return nil, err
	}
	body, err := readBody(c.w, c.r, c.h.MaxRoomBody)
	if err != nil {
		return nil, err
	}
	return body, requireJSON(c.r.Header, len(body) > 0)
}

// requireJSON refuses content of other media types.
func requireJSON(h http.Header, hasContent bool) error {
	mt, err := parse.MediaType(h)
	if err != nil {
		return err
	}
	if hasContent && mt != mediaTypeJSON {
		return parse.UnsupportedMediaType(h.Get("Content-Type"))
	}
	return nil
}

// policy returns the configured policy for rooms.
func (h *Handler) policy() roomPolicy {
	return roomPolicy{levels: h.RoomAccessLevels, strict: h.StrictRooms}
}
