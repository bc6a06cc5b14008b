// SPDX-License-Identifier: MIT

package conformance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/meet-gateway/meet-gateway/backendclient"
)

// answer is an answer of Meet with its whole body.
type answer struct {
	status int
	header http.Header
	body   []byte
}

const (
	tokenPath = "/application/token/"
	heartbeat = "{root}/__lbheartbeat__"
)

// statuses are the gateway's statuses for each reason of package backendclient, at the
// token endpoint and at the rooms. A test compares them with the gateway's own table.
var statuses = map[string][2]int{
	"ok":                    {200, 200},
	"user_not_found":        {400, 401},
	"invalid_mail":          {400, 400},
	"domain_refused":        {403, 403},
	"duplicate_user":        {409, 409},
	"provisioning_conflict": {409, 409},
	"backend_credentials":   {502, 502},
	"application_inactive":  {401, 401},
	"user_disabled":         {401, 401},
	"token_refused":         {401, 401},
	"api_disabled":          {502, 502},
	"misconfigured":         {502, 502},
	"unavailable":           {503, 503},
	"timeout":               {503, 504},
	"bad_answer":            {502, 502},
	"busy":                  {503, 503},
	"too_many_rooms":        {422, 422},
	"invalid_request":       {400, 400},
	"canceled":              {499, 499},
	"other":                 {500, 500},
}

// StatusOf returns the gateway's status for a reason of [backendclient.Reason].
func StatusOf(reason string, atTokenEndpoint bool) int {
	if atTokenEndpoint {
		return statuses[reason][0]
	}
	return statuses[reason][1]
}

// made gives an answer to the gateway's own client and returns the outcome. empty is
// Meet's answer to a token request without fields, which the client sends to tell two
// causes apart. room is the id of the requested room, if there is one.
func made(method, path, room string, a, empty *answer) outcome {
	canned := &canned{answer: a, empty: empty, exchange: path == tokenPath}
	client, err := backendclient.New(backendclient.Options{Transport: canned, Host: "meet.example.org"})
	if err != nil {
		return outcome{status: http.StatusInternalServerError, reason: "other", hint: err.Error()}
	}
	caller := backendclient.Caller{
		Credentials: backendclient.Credentials{ClientID: "application", ClientSecret: "of no meaning"}, Mail: "somebody@meet.example.org",
	}
	ctx := context.Background()
	status := http.StatusOK
	switch path, query, _ := strings.Cut(path, "?"); {
	case path == heartbeat:
		err = client.Healthy(ctx)
	case canned.exchange:
		_, err = client.Exchange(ctx, caller)
	default:
		values, _ := url.ParseQuery(query) // from contract.yaml
		r := backendclient.Request{Method: method, Path: strings.TrimSuffix(path, "/") + "/", Query: values}
		if method == http.MethodGet {
			r.Room = room
		}
		status, err = sent(ctx, client, caller, r)
	}
	o := outcome{status: status, reason: backendclient.Reason(err), anew: canned.anew}
	if err != nil {
		o.status = StatusOf(o.reason, canned.exchange)
	}
	if e, ok := errors.AsType[*backendclient.Error](err); ok {
		o.hint = e.Hint
	}
	return o
}

// sent sends a request for rooms. The answer to a list must also parse as one.
func sent(ctx context.Context, client *backendclient.Client, caller backendclient.Caller, r backendclient.Request) (int, error) {
	relayed, err := client.Send(ctx, caller, r)
	if err != nil {
		return 0, err
	}
	if r.Method == http.MethodGet && r.Path == "/rooms/" && relayed.Status == http.StatusOK {
		_, err = client.ListRooms(ctx, caller, backendclient.ListOptions{})
	}
	return relayed.Status, err
}

// canned is a Meet that gives one answer. It issues tokens unless the exchange is tested.
type canned struct {
	answer, empty *answer
	exchange      bool
	tokens        int
	anew          bool // the client fetched another token
}

// RoundTrip implements http.RoundTripper.
func (c *canned) RoundTrip(r *http.Request) (*http.Response, error) {
	a := c.answer
	switch isToken := strings.HasSuffix(r.URL.Path, tokenPath); {
	case isToken && !c.exchange:
		c.tokens++
		c.anew = c.tokens > 1
		a = &answer{
			status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}},
			body: []byte(`{"access_token":"a.e30.c","token_type":"Bearer","expires_in":3600}`),
		}
	case isToken && c.empty != nil:
		if sent, _ := io.ReadAll(r.Body); string(sent) == "{}" {
			a = c.empty
		}
	}
	if a == nil {
		return nil, errors.New("no answer")
	}
	return &http.Response{
		StatusCode: a.status, Header: a.header.Clone(), Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
	}, nil
}
