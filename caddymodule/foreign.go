// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// maxForeignToken is the maximum length of a foreign token. Meet's server accepts
// header lines of 8190 bytes.
const maxForeignToken = 8000

// isForeign reports whether a refused token is passed on to Meet: foreign_tokens allows
// it, and the token is none of the gateway's own credentials, which never leave it.
func (c roomsCall) isForeign(token string, err error) bool {
	if c.h.ForeignTokens != foreignPassthrough || !errors.Is(err, tokens.ErrTokenForeign) && !errors.Is(err, tokens.ErrTokenMalformed) {
		return false
	}
	if len(token) > maxForeignToken || holdsOwnCredential(token, c.h.app.Authority().Issuer()) {
		return false
	}
	return consistsOf(token, slugChars+".~+/=") // RFC 6750 §2.1
}

// holdsOwnCredential reports whether a token contains one of the gateway's credentials,
// even if it is cut, padded, wrapped in other text or signed with an unknown key.
func holdsOwnCredential(token, issuer string) bool {
	// The whole token may be base64, as for Basic.
	for _, text := range []string{token, decodedText(token)} {
		folded := strings.ToLower(text)
		if strings.Contains(folded, tokens.RefreshPrefix) || strings.Contains(folded, tokens.SecretPrefix) || holdsOwnToken(text, issuer) {
			return true
		}
	}
	return false
}

// decodedText decodes base64 of any variant, except for an incomplete group at the end.
// It returns "" for other texts.
func decodedText(text string) string {
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	decoded, err := base64.RawStdEncoding.DecodeString(plain[:len(plain)-len(plain)%4])
	if err != nil {
		return ""
	}
	return string(decoded)
}

// holdsOwnToken looks for claims that the gateway would sign. Duplicate claims and
// other letter cases count, since a lenient reader may accept them.
func holdsOwnToken(text, issuer string) bool {
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune("./~+=", r) }) {
		if strings.Contains(decodedText(part), `"iss":"`+issuer+`"`) {
			return true // also if the rest is cut off
		}
		claims, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || !json.Valid(claims) {
			continue
		}
		var client, user, id bool
		for name, value := range backendclient.Members(claims) {
			var text string
			if json.Unmarshal(value, &text) != nil || text == "" {
				continue
			}
			switch strings.ToLower(name) {
			case "iss":
				if text == issuer {
					return true
				}
			case "client_id":
				client = true
			case "sub":
				user = user || len(text) == 8
			case "jti":
				id = true
			}
		}
		if client && user && id {
			return true
		}
	}
	return false
}

// passThrough sends the request to Meet with the caller's own token, which only Meet
// can verify. Path, query, headers and body are rebuilt as for all requests.
func (c roomsCall) passThrough(token string) error {
	if c.match.invalid {
		return errInvalidRoom
	}
	// Meet may have to ask its identity provider. Callers of one network share the
	// limits of a user.
	source, err := sourceOf(c.r)
	if err != nil {
		return err
	}
	who := limit.Caller{Application: "foreign tokens", User: limit.Network(source).String()}
	if err := c.charge(who); err != nil {
		return err
	}
	r, err := c.foreignRequest()
	if err != nil {
		return err
	}
	c.detachChange()
	began := time.Now()
	answer, err := c.h.client.Forward(c.ctx, token, c.requestID, r)
	c.addMeetTime(began)
	if err != nil {
		return err
	}
	if c.endpoint == endpointRoomsList && answer.Status < http.StatusMultipleChoices {
		list, err := relinked(answer.Body, c.publicURL(), c.h.completeRoom)
		if err != nil {
			return err
		}
		return writeJSON(c.w, answer.Status, list)
	}
	return c.relay(answer)
}

// foreignRequest rebuilds the request.
func (c roomsCall) foreignRequest() (backendclient.Request, error) {
	r := backendclient.Request{Method: c.r.Method, Path: c.match.path + "/", Query: url.Values{}, Room: c.match.room()}
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet // net/http drops the body
	}
	var err error
	switch c.endpoint {
	case endpointRoomsCreate:
		var body []byte
		if body, err = c.readJSON(); err != nil {
			return r, err
		}
		r.Body, err = c.h.policy().body(body, tokens.RoomDefaults{})
	case endpointRoomsList:
		var q parse.RoomsParameters
		if q, err = parse.RoomsQuery(c.target.Query); q.HasPage {
			r.Query.Set("page", q.Page)
		}
	case endpointOperator:
		// Meet decides which mail addresses the caller may use.
		return c.operatorRequest(&routeJudge{route: c.action.route, rooms: c.h.policy()})
	default:
	}
	return r, err
}

var errNoList = fmt.Errorf("%w: it is no list of rooms", backendclient.ErrBadAnswer)

// relinked rewrites the links of a list to the caller's address and completes its
// rooms. It returns errNoList for other JSON.
func relinked(body []byte, links publicURL, complete func(json.RawMessage) json.RawMessage) ([]byte, error) {
	var list struct {
		Count    json.RawMessage   `json:"count"`
		Next     *string           `json:"next"`
		Previous *string           `json:"previous"`
		Results  []json.RawMessage `json:"results"`
	}
	var said map[string]json.RawMessage // a struct would ignore the case of names
	if json.Unmarshal(body, &said) != nil || json.Unmarshal(said["results"], &list.Results) != nil || list.Results == nil {
		return nil, errNoList
	}
	list.Count = said["count"]
	for name, link := range map[string]**string{"next": &list.Next, "previous": &list.Previous} {
		if said[name] == nil {
			continue
		}
		if json.Unmarshal(said[name], link) != nil {
			return nil, errNoList
		}
		if *link != nil {
			**link = links.page(pageOf(**link), 0, false)
		}
	}
	for i, room := range list.Results {
		list.Results[i] = complete(room)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, errNoList
	}
	return text, nil
}

// pageOf returns the page number in one of Meet's links.
func pageOf(link string) int {
	u, err := url.Parse(link)
	if err != nil {
		return 1
	}
	page, err := strconv.Atoi(u.Query().Get("page"))
	if err != nil || page < 1 {
		return 1
	}
	return page
}
