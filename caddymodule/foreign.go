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

// maxForeignToken bounds tokens that are passed through: Meet's server takes
// header lines of 8190 bytes.
const maxForeignToken = 8000

// isForeign tells whether a refused token is to be judged by Meet: the operator
// wants it, and the token was not issued here. Credentials of the gateway's own
// kinds never leave it.
func (c roomsCall) isForeign(token string, err error) bool {
	if c.h.ForeignTokens != foreignPassthrough || !errors.Is(err, tokens.ErrTokenForeign) && !errors.Is(err, tokens.ErrTokenMalformed) {
		return false
	}
	if len(token) > maxForeignToken || looksLikeOurs(token, c.h.app.Authority().Issuer()) {
		return false
	}
	return consistsOf(token, slugChars+".~+/=") // RFC 6750 §2.1
}

// looksLikeOurs reports whether a text holds a credential of the gateway, whole
// or nearly: signed with a key that this gateway does not (or no longer) have,
// cut, padded, or with another credential around it.
func looksLikeOurs(token, issuer string) bool {
	// The whole may be encoded once more, as in a value for Basic.
	for _, text := range []string{token, decodedText(token)} {
		folded := strings.ToLower(text)
		if strings.Contains(folded, tokens.RefreshPrefix) || strings.Contains(folded, tokens.SecretPrefix) || holdsOurToken(text, issuer) {
			return true
		}
	}
	return false
}

// decodedText is what a text in base64 of any kind means, as far as it goes; ""
// if it is none.
func decodedText(text string) string {
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	decoded, err := base64.RawStdEncoding.DecodeString(plain[:len(plain)-len(plain)%4])
	if err != nil {
		return ""
	}
	return string(decoded)
}

// holdsOurToken looks for claims that the gateway would sign. One reader may take another
// of two claims with one name, or a name in another letter case: any of them counts.
func holdsOurToken(text, issuer string) bool {
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune("./~+=", r) }) {
		if strings.Contains(decodedText(part), `"iss":"`+issuer+`"`) {
			return true // whole, or cut
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

// passThrough asks Meet with the caller's own token, for Meet's resource-server
// mode and its add-ons. Path, query, headers and body are rebuilt as for every
// other request; who the caller is and what it may do is for Meet to say.
func (c roomsCall) passThrough(token string) error {
	if c.match.invalid {
		return errInvalidRoom
	}
	// Whoever this is, Meet may have to ask its identity provider. All strangers of
	// one network are counted together, by the limits of a user.
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
	c.waitForMeet(began)
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

// foreignRequest rebuilds the request for Meet.
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
		// Whose mails such a caller may name is for Meet to say.
		return c.operatorRequest(&routeJudge{route: c.action.route, rooms: c.h.policy()})
	default:
	}
	return r, err
}

var errNoList = fmt.Errorf("%w: it is no list of rooms", backendclient.ErrBadAnswer)

// relinked points the links of a list at where the caller found it, and completes its
// rooms. The error is errNoList.
func relinked(body []byte, links publicURL, complete func(json.RawMessage) json.RawMessage) ([]byte, error) {
	var list struct {
		Count    json.RawMessage   `json:"count"`
		Next     *string           `json:"next"`
		Previous *string           `json:"previous"`
		Results  []json.RawMessage `json:"results"`
	}
	var said map[string]json.RawMessage // a struct would take names in any letter case
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

// pageOf is the page that one of Meet's links leads to.
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
