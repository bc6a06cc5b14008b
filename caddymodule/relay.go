// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
)

// relay writes Meet's answer in the published form. On a path that the operator opened,
// an error keeps Meet's own words.
func (c roomsCall) relay(a *backendclient.Response) error {
	if a.Status < 300 {
		return c.relaySuccess(a)
	}
	opened := c.endpoint == endpointOperator
	text := textOfError(a.Body)
	r := &refusal{status: a.Status, reason: "refused_by_meet", whole: withBothKeys(a.Body)}
	switch a.Status {
	case http.StatusNotFound:
		switch {
		case c.endpoint == endpointRoomsList:
			return errInvalidPage
		case !opened:
			return errInvalidRoom
		case text == textUserNotFound:
			r.reason = "user_not_found"
		default:
			r.reason = "not_found"
		}
	case http.StatusForbidden:
		reason := reasonOf403(text)
		switch {
		case reason == reasonNotAMember, text == "" && !opened:
			return c.h.notAMember(text)
		case !opened:
			return &refusal{status: http.StatusForbidden, detail: text, reason: reason}
		}
		r.reason = reason
	case http.StatusMethodNotAllowed:
		r.allow = a.Allow
	}
	return r
}

// notAMember refuses another user's room, in Meet's words.
func (h *Handler) notAMember(text string) error {
	if h.NotAMemberStatus == http.StatusNotFound {
		return &refusal{status: http.StatusNotFound, detail: textNotFound, reason: reasonNotAMember}
	}
	return &refusal{status: http.StatusForbidden, detail: cmp.Or(text, textNoPermission), reason: reasonNotAMember}
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

const reasonNotAMember = "not_a_member"

// textNoPermission is Meet's answer for another user's room.
const textNoPermission = "You do not have permission to perform this action."

// reasonOf403 tells apart why Meet forbids something: the user is no member of the
// room, or the application lacks a scope at Meet.
func reasonOf403(text string) string {
	switch {
	case text == textNoPermission:
		return reasonNotAMember
	case strings.HasPrefix(text, "Insufficient permissions"), strings.Contains(strings.ToLower(text), "scope"):
		return "scope_refused_by_meet"
	}
	return "forbidden_by_meet"
}

// textOfError is Meet's sentence in an error.
func textOfError(body []byte) string {
	var said map[string]any // a struct would take names in any letter case
	if json.Unmarshal(body, &said) != nil {
		return ""
	}
	for _, name := range []string{"detail", "error"} {
		if text, ok := said[name].(string); ok && text != "" {
			return text
		}
	}
	return ""
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
