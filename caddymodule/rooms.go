// SPDX-License-Identifier: MIT

package caddymodule

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// serve verifies the token, checks the scope and asks Meet on behalf of the
// user.
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
	c.waitForMeet(began)
	if err != nil {
		return err
	}
	return c.relay(answer)
}

// verify judges a token.
func (c roomsCall) verify(token string) (*tokens.Identity, error) {
	ctx, span := startSpan(c.ctx, "meet_gateway.verify")
	id, err := c.h.app.Authority().Verify(ctx, token)
	if span != nil {
		endSpan(span, c.reasonFor(err))
	}
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

// listRooms answers GET /rooms with any page size the published API allows.
func (c roomsCall) listRooms(caller backendclient.Caller) (*backendclient.Response, error) {
	q, err := parse.RoomsQuery(c.target.Query)
	if err != nil {
		return nil, err
	}
	var seen []json.RawMessage
	o := backendclient.ListOptions{Room: func(room json.RawMessage) json.RawMessage {
		seen = append(seen, room)
		return c.h.completeRoom(room)
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
		c.rememberRooms(seen...)
	}
	return answer, err
}

// errInvalidPage is Meet's answer to pages that do not exist.
var errInvalidPage = &refusal{status: http.StatusNotFound, detail: "Invalid page.", reason: "invalid_page"}

// parsePage reads `page` as Meet does: empty is the first, `last` the last.
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

// parsePageSize reads `page_size`, 1 to 100; what is not is answered as a bad page.
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

// createRoom answers POST /rooms by the operator's policy.
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

// readJSON reads a body that is JSON, or empty, as Meet's rooms take them. What the
// headers decide is answered without it.
func (c roomsCall) readJSON() ([]byte, error) {
	if err := checkLength(c.r, c.h.MaxRoomBody); err != nil {
		return nil, err
	}
	if err := requireJSON(c.r.Header, announcesContent(c.r)); err != nil {
		return nil, err
	}
	body, err := readBody(c.w, c.r, c.h.MaxRoomBody)
	if err != nil {
		return nil, err
	}
	return body, requireJSON(c.r.Header, len(body) > 0)
}

// requireJSON refuses content that is not JSON.
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

// relay writes Meet's answer in the published form.
func (c roomsCall) relay(a *backendclient.Response) error {
	switch {
	case a.Status < 300:
		return c.relaySuccess(a)
	case c.endpoint == endpointOperator:
		return c.relayOperator(a)
	case a.Status == http.StatusNotFound && c.endpoint == endpointRoomsList:
		return errInvalidPage
	case a.Status == http.StatusNotFound:
		return errInvalidRoom
	case a.Status == http.StatusForbidden:
		return c.h.forbidden(a)
	}
	// Meet's own words about the request: a field that is wrong, a method or path
	// that this Meet does not have.
	r := &refusal{status: a.Status, reason: "refused_by_meet", whole: withBothKeys(a.Body)}
	if a.Status == http.StatusMethodNotAllowed {
		r.allow = a.Allow
	}
	return r
}

// forbidden answers for what Meet forbids: another user's room, or something that
// the application may not do at Meet.
func (h *Handler) forbidden(a *backendclient.Response) error {
	text := textOfError(a.Body)
	if reason := reasonOf403(text); text != "" && reason != reasonNotAMember {
		return &refusal{status: http.StatusForbidden, detail: text, reason: reason}
	}
	return h.notAMember(a)
}

// notAMember answers for another user's room.
func (h *Handler) notAMember(a *backendclient.Response) error {
	if h.NotAMemberStatus == http.StatusNotFound {
		return &refusal{status: http.StatusNotFound, detail: textNotFound, reason: reasonNotAMember}
	}
	return &refusal{status: http.StatusForbidden, detail: cmp.Or(textOfError(a.Body), textNoPermission), reason: reasonNotAMember}
}

func (c roomsCall) relaySuccess(a *backendclient.Response) error {
	body := a.Body
	if c.isAudited() {
		c.entry.rule = "scope " + c.scope
		if c.action.route == nil || !c.action.route.Sensitive {
			c.entry.noteRoom(body)
		}
	}
	if err := c.entry.record(c.call, nil); err != nil {
		// It was done at Meet: an error would make the caller do it twice.
		c.h.logger.Error("what was done at Meet is not in the audit trail yet", errorFields(c.call, err)...)
	}
	if c.endpoint == endpointRoomsRetrieve || c.endpoint == endpointRoomsCreate {
		body = c.h.completeRoom(body)
	}
	if location := a.Location; c.endpoint == endpointRoomsCreate && isWebURL(location) {
		c.w.Header()["Location"] = []string{location} // the room's web page, as at Meet
	}
	return writeJSON(c.w, a.Status, body)
}

func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}

// completeRoom brings a room into the published form. Most are in it already, and
// stay as they are, byte for byte.
func (h *Handler) completeRoom(room json.RawMessage) json.RawMessage {
	return h.withURL(withoutNulls(room))
}

// withURL fills `url` where Meet leaves it out and the operator has said where rooms
// are.
func (h *Handler) withURL(room json.RawMessage) json.RawMessage {
	if h.RoomURLBase == "" {
		return room
	}
	for name := range backendclient.Members(room) {
		if name == "url" {
			return room
		}
	}
	_, slug := backendclient.RoomNames(room)
	if !isSlug(slug) {
		return room
	}
	room = bytes.TrimRight(room, " \t\r\n")
	end := len(room) - 1 // the closing brace
	return fmt.Appendf(room[:end:end], `,"url":"%s/%s"}`, h.RoomURLBase, slug)
}

// checkRoomURLBase checks where rooms are said to be.
func checkRoomURLBase(s string) error {
	u, err := url.Parse(s)
	if err != nil || !isWebURL(s) || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(s, `"\<> `) {
		return fmt.Errorf("room_url_base %q must be a web address such as https://meet.example.org", s)
	}
	return nil
}

// withBothKeys adds what an error object of Meet's lacks by the rule of
// [refusal.body]: `error` to one that has only `detail`, the other way round, and
// both to one that has only fields. Of a list of texts, as Meet answers what is
// wrong with no field in particular, and of any other JSON it makes an object.
func withBothKeys(body []byte) []byte {
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil || object == nil {
		return objectOf(body)
	}
	detail, hasDetail := object["detail"]
	text, hasError := object["error"]
	switch {
	case hasDetail && !hasError:
		object["error"] = detail
	case hasError && !hasDetail:
		object["detail"] = text
	case !hasDetail:
		object["detail"] = quoted(fieldsOf(object).Sentence())
		object["error"] = quoted(codeInvalidRequest)
	default:
		return body
	}
	both, err := json.Marshal(object)
	if err != nil {
		return body
	}
	return both
}

// objectOf makes an error object of JSON that is none.
func objectOf(body []byte) []byte {
	if !json.Valid(body) {
		return body
	}
	var texts []string
	var text string
	object := map[string]any{"detail": "The request was refused.", "error": codeInvalidRequest}
	switch {
	case json.Unmarshal(body, &texts) == nil && len(texts) > 0:
		object["non_field_errors"] = texts
		object["detail"] = strings.Join(texts, " ")
	case json.Unmarshal(body, &text) == nil && text != "":
		object["detail"] = text
	}
	both, err := json.Marshal(object)
	if err != nil {
		return body
	}
	return both
}

// fieldsOf are the texts by field in an error object of Meet's. A field of another
// form is only named.
func fieldsOf(object map[string]json.RawMessage) parse.FieldErrors {
	fields := make(parse.FieldErrors, len(object))
	for name, raw := range object {
		var texts []string
		if json.Unmarshal(raw, &texts) != nil {
			texts = []string{"Not valid."}
		}
		fields[name] = texts
	}
	return fields
}

// quoted is a text as JSON.
func quoted(text string) json.RawMessage {
	b, _ := json.Marshal(text) // a string can be encoded
	return b
}

// policy is the part of the configuration that new rooms depend on.
func (h *Handler) policy() roomPolicy {
	return roomPolicy{levels: h.RoomAccessLevels, strict: h.StrictRooms}
}
