// SPDX-License-Identifier: MIT

package caddymodule

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// sendOperatorRoute forwards a request to an opened path, subject to the route's
// policy. The path is rebuilt from segments that cannot contain a mail address, and the
// query is dropped.
func (c roomsCall) sendOperatorRoute(caller backendclient.Caller) (*backendclient.Response, error) {
	judge := routeJudge{route: c.action.route, rooms: c.h.policy(), mayAct: c.application.MayDelegate}
	var key string
	if c.action.route.Idempotent {
		var err error
		if key, err = c.idempotencyKey(); err != nil {
			return nil, err
		}
	}
	r, err := c.operatorRequest(&judge)
	if err != nil {
		return nil, err
	}
	c.detachChange()
	send := func() (*backendclient.Response, error) {
		admitted, err := c.admitAll(judge.mails)
		if err != nil {
			return nil, err
		}
		answer, err := c.h.client.Send(c.ctx, caller, r)
		for _, ad := range admitted {
			c.refundUnlessCreated(ad, answer, err)
		}
		return answer, err
	}
	// The key identifies the request as the client made it, including method and path.
	return c.withIdempotency(key, []byte(r.Method+" "+r.Path+"\n"+string(r.Body)), send)
}

// operatorRequest reads and checks the request.
func (c roomsCall) operatorRequest(judge *routeJudge) (backendclient.Request, error) {
	r := backendclient.Request{
		Method: c.r.Method, Path: c.match.path + "/", Query: url.Values{}, Room: c.match.room(), Sensitive: c.action.route.Sensitive,
	}
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet // net/http drops the body
	}
	if err := requireUTF8(c.r.Header); err != nil {
		return r, err
	}
	body, err := c.readJSON()
	if err != nil {
		return r, err
	}
	r.Body, err = judge.judge(body)
	return r, err
}

// requireUTF8 refuses other charsets and encodings, since the body is checked as UTF-8.
func requireUTF8(h http.Header) error {
	_, parameters, err := mime.ParseMediaType(h.Get("Content-Type"))
	if charset := parameters["charset"]; err != nil && h.Get("Content-Type") != "" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return parse.UnsupportedMediaType(h.Get("Content-Type"))
	}
	for _, coding := range h["Content-Encoding"] {
		if !strings.EqualFold(coding, "identity") {
			return &parse.RequestError{Status: http.StatusUnsupportedMediaType, Text: "Unsupported content encoding in request."}
		}
	}
	return nil
}

// admitAll charges the quota of new users for all users in a request.
func (c roomsCall) admitAll(mails []tokens.Mail) ([]*tokens.Admission, error) {
	var admitted []*tokens.Admission
	for _, mail := range mails {
		ad, err := c.admit(mail)
		if err != nil {
			for _, earlier := range admitted {
				c.refundQuota(earlier)
			}
			return nil, err
		}
		admitted = append(admitted, ad)
	}
	return admitted, nil
}

// refundUnlessCreated refunds the quota if Meet certainly did not create the user.
func (c roomsCall) refundUnlessCreated(ad *tokens.Admission, answer *backendclient.Response, err error) {
	be, ok := errors.AsType[*backendclient.Error](err)
	if ok && !be.Effect || err == nil && answer.Status >= http.StatusBadRequest {
		c.refundQuota(ad)
	}
}
