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

// relay writes Meet's answer in the published form. On opened routes, errors keep
// Meet's own words.
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

// notAMember refuses access to a room of others, in Meet's words.
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
		// Meet has done it: an error would make the caller repeat it.
		c.h.logger.Error("a change at Meet is not in the audit trail yet", errorFields(c.call, err)...)
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

// textNoPermission is Meet's answer for rooms of others.
const textNoPermission = "You do not have permission to perform this action."

// reasonOf403 distinguishes a user who is not a member of the room from an application
// without the scope at Meet.
func reasonOf403(text string) string {
	switch {
	case text == textNoPermission:
		return reasonNotAMember
	case strings.HasPrefix(text, "Insufficient permissions"), strings.Contains(strings.ToLower(text), "scope"):
		return "scope_refused_by_meet"
	}
	return "forbidden_by_meet"
}

// textOfError returns the sentence in one of Meet's errors, or "".
func textOfError(body []byte) string {
	var said map[string]any // a struct would ignore the case of names
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

// withBothKeys adds a missing `detail` or `error` to one of Meet's errors, by the rule
// of [refusal.body]. It turns a list of texts, which Meet sends for errors of no
// particular field, and other JSON into an object.
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

// objectOf turns JSON that is no object into an error object.
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

// fieldsOf returns the texts of each field in one of Meet's errors. Values of another
// form become a general text.
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

// quoted encodes a string as JSON.
func quoted(text string) json.RawMessage {
	b, _ := json.Marshal(text) // strings can always be encoded
	return b
}
