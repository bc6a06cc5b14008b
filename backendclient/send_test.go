// SPDX-License-Identifier: MIT

package backendclient_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// script is a Meet that issues a new token at each exchange. It answers requests about rooms
// from a list of answers and repeats the last one.
type script struct {
	mu        sync.Mutex
	answers   []http.Handler
	exchange  http.Handler // answers exchanges after the first; nil: a token
	exchanges int
	rooms     []*http.Request
}

func newScript(answers ...http.Handler) *script { return &script{answers: answers} }

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	var h http.Handler
	if strings.HasSuffix(r.URL.Path, "/token/") {
		s.exchanges++
		h = respond(200, "application/json", `{"access_token":"token-`+string(rune('0'+s.exchanges%10))+`","expires_in":3600}`)
		if s.exchange != nil && s.exchanges > 1 {
			h = s.exchange
		}
	} else {
		h = s.answers[0]
		if len(s.answers) > 1 {
			s.answers = s.answers[1:]
		}
		body, _ := io.ReadAll(r.Body)
		r = r.Clone(context.Background())
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.rooms = append(s.rooms, r)
	}
	s.mu.Unlock()
	h.ServeHTTP(w, r)
}

// counts returns the numbers of exchanges and of requests about rooms.
func (s *script) counts() (exchanges, rooms int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exchanges, len(s.rooms)
}

func (s *script) tokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var tokens []string
	for _, r := range s.rooms {
		tokens = append(tokens, strings.Join(r.Header.Values("Authorization"), " and "))
	}
	return tokens
}

func detail(status int, text string) http.Handler {
	return respond(status, "application/json", `{"detail":"`+text+`"}`)
}

var (
	getRooms = backendclient.Request{Method: http.MethodGet, Path: "/rooms/"}
	newRoom  = backendclient.Request{Method: http.MethodPost, Path: "/rooms/", Body: []byte(`{"access_level":"trusted"}`), MayHaveEffect: true}

	empty   = respond(200, "application/json", `{"count":0,"next":null,"previous":null,"results":[]}`)
	created = respond(201, "application/json", `{"id":"x"}`, "Location", "https://meet.example.org/x")
	htmlBad = respond(400, "text/html; charset=utf-8", htmlPage)
	html500 = respond(500, "text/html; charset=utf-8", htmlPage)
)

// For each answer of Meet, Send returns the expected result after the expected numbers of
// requests and exchanges.
func TestSend_Answers(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json"
	for name, row := range map[string]struct {
		request   backendclient.Request
		answers   []http.Handler
		status    int   // of the Response
		kind      error // or of the error
		hint      string
		effect    bool
		exchanges int
		rooms     int
	}{
		// A refused token is replaced once, and the request is sent again, even a POST.
		"expired":                       {getRooms, []http.Handler{detail(401, "Token expired."), empty}, 200, nil, "", false, 2, 2},
		"expired, POST":                 {newRoom, []http.Handler{detail(401, "Token expired."), created}, 201, nil, "", false, 2, 2},
		"invalid":                       {getRooms, []http.Handler{detail(401, "Invalid token."), empty}, 200, nil, "", false, 2, 2},
		"no resource server":            {getRooms, []http.Handler{detail(401, "Resource Server is improperly configured"), empty}, 200, nil, "", false, 2, 2},
		"no resource server, POST":      {newRoom, []http.Handler{detail(401, "Resource Server is improperly configured"), created}, 201, nil, "", false, 2, 2},
		"resource server refuses":       {getRooms, []http.Handler{htmlBad, empty}, 200, nil, "", false, 2, 2},
		"resource server refuses, POST": {newRoom, []http.Handler{htmlBad, created}, 201, nil, "", false, 2, 2},
		"user merged":                   {getRooms, []http.Handler{detail(401, "User not found."), empty}, 200, nil, "", false, 2, 2},
		"user merged, POST":             {newRoom, []http.Handler{detail(401, "User not found."), created}, 201, nil, "", false, 2, 2},
		"unknown text":                  {getRooms, []http.Handler{detail(401, "Something new."), empty}, 200, nil, "", false, 2, 2},
		"expired, HEAD":                 {backendclient.Request{Method: http.MethodHead, Path: "/rooms/"}, []http.Handler{respond(401, jsonType, ""), respond(200, jsonType, "")}, 200, nil, "", false, 2, 2},
		"expired, then validation":      {newRoom, []http.Handler{detail(401, "Token expired."), respond(400, jsonType, `{"access_level":["x"]}`)}, 400, nil, "", false, 2, 2},
		"expired twice":                 {getRooms, []http.Handler{detail(401, "Token expired.")}, 0, backendclient.ErrMisconfigured, "APPLICATION_JWT_EXPIRATION_SECONDS", false, 2, 2},
		"invalid twice, POST":           {newRoom, []http.Handler{detail(401, "Invalid token.")}, 0, backendclient.ErrMisconfigured, "APPLICATION_JWT_AUDIENCE", false, 2, 2},
		"no resource server twice":      {getRooms, []http.Handler{detail(401, "Resource Server is improperly configured")}, 0, backendclient.ErrMisconfigured, "APPLICATION_JWT_AUDIENCE", false, 2, 2},
		"HTML 400 twice":                {getRooms, []http.Handler{htmlBad}, 0, backendclient.ErrMisconfigured, "APPLICATION_JWT_AUDIENCE", false, 2, 2},
		"HTML 400 twice, POST":          {newRoom, []http.Handler{htmlBad}, 0, backendclient.ErrMisconfigured, "APPLICATION_JWT_AUDIENCE", false, 2, 2},
		"user removed":                  {getRooms, []http.Handler{detail(401, "User not found.")}, 0, backendclient.ErrUserNotFound, "", false, 2, 2},
		"refused, then a server error":  {newRoom, []http.Handler{detail(401, "Token expired."), html500}, 0, backendclient.ErrBadAnswer, "", true, 2, 2},
		"refused, then disabled":        {getRooms, []http.Handler{detail(401, "Token expired."), detail(401, "User account is disabled.")}, 0, backendclient.ErrUserDisabled, "", false, 2, 2},

		// A new token would not help.
		"user disabled":             {getRooms, []http.Handler{detail(401, "User account is disabled.")}, 0, backendclient.ErrUserDisabled, "", false, 1, 1},
		"user disabled, POST":       {newRoom, []http.Handler{detail(401, "User account is disabled.")}, 0, backendclient.ErrUserDisabled, "", false, 1, 1},
		"application disabled":      {getRooms, []http.Handler{detail(401, "Application is disabled.")}, 0, backendclient.ErrApplicationInactive, "switched off", false, 1, 1},
		"application removed":       {getRooms, []http.Handler{detail(401, "Application not found.")}, 0, backendclient.ErrApplicationInactive, "gone", false, 1, 1},
		"Authorization lost":        {getRooms, []http.Handler{detail(401, "Authentication credentials were not provided.")}, 0, backendclient.ErrMisconfigured, "Authorization", false, 1, 1},
		"two Authorization headers": {getRooms, []http.Handler{detail(401, "Invalid token header.")}, 0, backendclient.ErrMisconfigured, "Authorization", false, 1, 1},
		"proxy asks for a password": {getRooms, []http.Handler{respond(401, "text/html", htmlPage)}, 0, backendclient.ErrMisconfigured, "authentication", false, 1, 1},
		"redirect to https":         {getRooms, []http.Handler{respond(301, "text/html", "", "Location", "https://meet.example.org"+roomsPath)}, 0, backendclient.ErrMisconfigured, "X-Forwarded-Proto", false, 1, 1},
		"redirect to https, POST":   {newRoom, []http.Handler{respond(301, "text/html", "", "Location", "https://meet.example.org"+roomsPath)}, 0, backendclient.ErrMisconfigured, "X-Forwarded-Proto", false, 1, 1},
		"redirect to slash":         {getRooms, []http.Handler{respond(301, "text/html", "", "Location", roomsPath)}, 0, backendclient.ErrMisconfigured, "slash", false, 1, 1},
		"external API off":          {getRooms, []http.Handler{respond(404, "text/html", htmlPage)}, 0, backendclient.ErrAPIDisabled, "EXTERNAL_API_ENABLED=True", false, 1, 1},
		"no such path": {
			backendclient.Request{Method: http.MethodPost, Path: "/rooms/x/grant-access/"},
			[]http.Handler{respond(404, "text/html", htmlPage)},
			0, backendclient.ErrAPIDisabled, "no such path", false, 1, 1,
		},

		// After a server error, a GET is sent again with a new token. A POST is not.
		"500 once":              {getRooms, []http.Handler{html500, empty}, 200, nil, "", false, 2, 2},
		"500 twice":             {getRooms, []http.Handler{html500}, 0, backendclient.ErrBadAnswer, "log", false, 2, 2},
		"500 in JSON":           {getRooms, []http.Handler{detail(500, "x"), empty}, 200, nil, "", false, 2, 2},
		"500, POST":             {newRoom, []http.Handler{html500, created}, 0, backendclient.ErrBadAnswer, "log", true, 1, 1},
		"500, PATCH":            {backendclient.Request{Method: http.MethodPatch, Path: "/rooms/x/"}, []http.Handler{html500, created}, 0, backendclient.ErrBadAnswer, "log", true, 1, 1},
		"500, GET with effect":  {backendclient.Request{Method: http.MethodGet, Path: "/rooms/x/", MayHaveEffect: true}, []http.Handler{html500, empty}, 0, backendclient.ErrBadAnswer, "", true, 1, 1},
		"500, then a bad token": {getRooms, []http.Handler{html500, detail(401, "Invalid token.")}, 0, backendclient.ErrMisconfigured, "", false, 2, 2},
		"502":                   {getRooms, []http.Handler{respond(502, "text/html", htmlPage)}, 0, backendclient.ErrUnavailable, "", false, 1, 1},
		"502, POST":             {newRoom, []http.Handler{respond(502, "text/html", htmlPage)}, 0, backendclient.ErrUnavailable, "", true, 1, 1},
		"503 in JSON":           {newRoom, []http.Handler{detail(503, "x")}, 0, backendclient.ErrUnavailable, "", true, 1, 1},
		"504, POST":             {newRoom, []http.Handler{respond(504, "text/html", htmlPage)}, 0, backendclient.ErrTimeout, "", true, 1, 1},
		"429":                   {newRoom, []http.Handler{respond(429, jsonType, `{}`)}, 0, backendclient.ErrBusy, "", false, 1, 1},
		"431":                   {newRoom, []http.Handler{respond(431, "text/html", htmlPage)}, 0, backendclient.ErrBadAnswer, "headers", false, 1, 1},
		"firewall":              {newRoom, []http.Handler{respond(403, "text/html", htmlPage)}, 0, backendclient.ErrBadAnswer, "firewall", false, 1, 1},
		"frontend's page":       {getRooms, []http.Handler{respond(200, "text/html", htmlPage)}, 0, backendclient.ErrBadAnswer, "frontend", false, 1, 1},
		"frontend's page, POST": {newRoom, []http.Handler{respond(200, "text/html", htmlPage)}, 0, backendclient.ErrBadAnswer, "frontend", true, 1, 1},
		"frontend's page, HEAD": {backendclient.Request{Method: http.MethodHead, Path: "/rooms/"}, []http.Handler{respond(200, "text/html", "")}, 0, backendclient.ErrBadAnswer, "frontend", false, 1, 1},
		"truncated JSON":        {newRoom, []http.Handler{respond(201, jsonType, `{"id":`)}, 0, backendclient.ErrBadAnswer, "", true, 1, 1},
		"compressed":            {getRooms, []http.Handler{respond(200, jsonType, "\x1f\x8b", "Content-Encoding", "gzip")}, 0, backendclient.ErrBadAnswer, "compressed", false, 1, 1},
		"too large for a proxy": {newRoom, []http.Handler{respond(413, "text/html", htmlPage)}, 0, backendclient.ErrBadAnswer, "", true, 1, 1},
		"304 without a body":    {getRooms, []http.Handler{respond(304, "", "")}, 0, backendclient.ErrMisconfigured, "", false, 1, 1},

		// Meet's answers to valid requests are passed on.
		"list":                  {getRooms, []http.Handler{empty}, 200, nil, "", false, 1, 1},
		"created, no id member": {newRoom, []http.Handler{respond(201, jsonType, `{"slug":"x"}`)}, 0, backendclient.ErrBadAnswer, "", true, 1, 1},
		"created, no id":        {newRoom, []http.Handler{respond(201, jsonType, `{"id":null}`)}, 0, backendclient.ErrBadAnswer, "", true, 1, 1},
		"created, a list":       {newRoom, []http.Handler{respond(200, jsonType, `[]`)}, 0, backendclient.ErrBadAnswer, "", true, 1, 1},
		"created, no body":      {newRoom, []http.Handler{respond(204, jsonType, ``)}, 0, backendclient.ErrBadAnswer, "", true, 1, 1},
		"created":               {newRoom, []http.Handler{created}, 201, nil, "", false, 1, 1},
		"deleted":               {backendclient.Request{Method: http.MethodDelete, Path: "/rooms/x/"}, []http.Handler{respond(204, "", "")}, 204, nil, "", false, 1, 1},
		"validation":            {newRoom, []http.Handler{respond(400, jsonType, `{"access_level":["Public rooms are disabled for the external API."]}`)}, 400, nil, "", false, 1, 1},
		"bare array":            {getRooms, []http.Handler{respond(400, jsonType, `["“%(value)s” is not a valid UUID."]`)}, 400, nil, "", false, 1, 1},
		"scope":                 {getRooms, []http.Handler{detail(403, "Insufficient permissions. Required scope: rooms:list")}, 403, nil, "", false, 1, 1},
		"not a member":          {getRooms, []http.Handler{detail(403, "You do not have permission to perform this action.")}, 403, nil, "", false, 1, 1},
		"no room":               {getRooms, []http.Handler{detail(404, "No Room matches the given query.")}, 404, nil, "", false, 1, 1},
		"not a UUID":            {getRooms, []http.Handler{detail(404, "Not found.")}, 404, nil, "", false, 1, 1},
		"method":                {getRooms, []http.Handler{detail(405, "Method \\\"PUT\\\" not allowed.")}, 405, nil, "", false, 1, 1},
		"media type":            {newRoom, []http.Handler{detail(415, "x")}, 415, nil, "", false, 1, 1},
		"problem+json":          {getRooms, []http.Handler{respond(404, "application/problem+json", `{}`)}, 404, nil, "", false, 1, 1},
		"JSON with charset":     {getRooms, []http.Handler{respond(200, "application/json; charset=utf-8", `{}`)}, 200, nil, "", false, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(row.answers...)
			c := newClient(t, s)
			a, err := c.Send(context.Background(), alice, row.request)

			exchanges, rooms := s.counts()
			require.Equal(t, row.exchanges, exchanges, "exchanges")
			require.Equal(t, row.rooms, rooms, "requests")
			tokens := s.tokens()
			require.Equal(t, "Bearer token-1", tokens[0])
			if row.exchanges == 2 {
				require.Equal(t, "Bearer token-2", tokens[1])
			}
			if row.kind == nil {
				require.NoError(t, err)
				require.Equal(t, row.status, a.Status)
				return
			}
			require.Nil(t, a)
			require.ErrorIs(t, err, row.kind)
			e := asError(t, err)
			require.Contains(t, e.Hint, row.hint)
			require.Equal(t, row.effect, e.Effect, "effect")
			require.NotContains(t, err.Error(), "token-")
			require.NotContains(t, err.Error(), "<")
		})
	}
}

// If the exchange for a new token fails, Send returns that error. The refused request had no
// effect.
func TestSend_ReplacingTokenFails(t *testing.T) {
	t.Parallel()
	s := newScript(detail(401, "Token expired."))
	s.exchange = detail(404, "User not found.")
	c := newClient(t, s)
	_, err := c.Send(context.Background(), alice, newRoom)
	require.ErrorIs(t, err, backendclient.ErrUserNotFound)
	require.False(t, asError(t, err).Effect)

	exchanges, rooms := s.counts()
	require.Equal(t, 2, exchanges)
	require.Equal(t, 1, rooms)
}

// While Meet refuses the tokens that it issues, the client sends requests but makes no
// exchanges. It recovers without a restart.
func TestSend_RefusedNewTokenStopsExchanges(t *testing.T) {
	t.Parallel()
	now := newClock()
	s := newScript(detail(401, "Invalid token."))
	c := newClient(t, s, withClock(now))
	for range 10 {
		_, err := c.Send(context.Background(), alice, getRooms)
		require.ErrorIs(t, err, backendclient.ErrMisconfigured)
	}
	exchanges, rooms := s.counts()
	require.Equal(t, 2, exchanges)
	require.Equal(t, 11, rooms)

	now.Advance(time.Minute)
	_, err := c.Send(context.Background(), alice, getRooms)
	require.ErrorIs(t, err, backendclient.ErrMisconfigured)
	exchanges, _ = s.counts()
	require.Equal(t, 3, exchanges)

	s.mu.Lock()
	s.answers = []http.Handler{empty}
	s.mu.Unlock()
	a, err := c.Send(context.Background(), alice, getRooms)
	require.NoError(t, err)
	require.Equal(t, 200, a.Status)
}

// The request after a refused token or a failure succeeds. If Meet refused the new token as
// well, requests go on with that token.
func TestSend_RecoversAfterFailure(t *testing.T) {
	t.Parallel()
	refused := detail(401, "Invalid token.")
	for name, tc := range map[string]struct {
		failing  backendclient.Request
		rooms    []http.Handler // answers about rooms before Meet recovers
		exchange http.Handler   // answer to the second exchange before Meet recovers; nil: a token
		sent     int            // requests before Meet recovers
	}{
		"refused, then an exchange fails":           {failing: getRooms, rooms: []http.Handler{refused}, exchange: html500, sent: 1},
		"creation refused, then an exchange fails":  {failing: newRoom, rooms: []http.Handler{refused}, exchange: html500, sent: 1},
		"refused, then an exchange is unavailable":  {failing: getRooms, rooms: []http.Handler{refused}, exchange: respond(503, "text/html", htmlPage), sent: 1},
		"a server error, then an exchange fails":    {failing: getRooms, rooms: []http.Handler{html500}, exchange: html500, sent: 1},
		"two server errors":                         {failing: getRooms, rooms: []http.Handler{html500, html500}, sent: 1},
		"creation, a server error":                  {failing: newRoom, rooms: []http.Handler{html500}, sent: 1},
		"refused, then a server error":              {failing: getRooms, rooms: []http.Handler{refused, html500}, sent: 1},
		"refused twice":                             {failing: getRooms, rooms: []http.Handler{refused, refused}, sent: 1},
		"refused twice, then two server errors":     {failing: getRooms, rooms: []http.Handler{refused, refused, html500, html500}, sent: 2},
		"creation refused twice, then server error": {failing: newRoom, rooms: []http.Handler{refused, refused, html500}, sent: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(append(tc.rooms, created)...) // created also serves as the answer to a list
			c := newClient(t, s, withClock(newClock()))
			_, err := c.Token(context.Background(), alice)
			require.NoError(t, err)
			s.mu.Lock()
			s.exchange = tc.exchange
			s.mu.Unlock()
			for range tc.sent {
				_, err := c.Send(context.Background(), alice, tc.failing)
				require.Error(t, err)
			}
			s.mu.Lock()
			s.exchange = nil
			s.mu.Unlock()
			for _, r := range []backendclient.Request{getRooms, newRoom} {
				a, err := c.Send(context.Background(), alice, r)
				require.NoError(t, err, "Meet has recovered")
				require.Equal(t, 201, a.Status)
			}
		})
	}
}

// While only requests about rooms fail, each caller causes one exchange a minute. While all of
// Meet fails, the client keeps its token.
func TestSend_ServerErrorsLimitExchanges(t *testing.T) {
	t.Parallel()
	t.Run("rooms down", func(t *testing.T) {
		t.Parallel()
		now := newClock()
		s := newScript(html500)
		c := newClient(t, s, withClock(now))
		for range 5 {
			_, err := c.Send(context.Background(), alice, getRooms)
			require.ErrorIs(t, err, backendclient.ErrBadAnswer)
			_, err = c.Send(context.Background(), alice, newRoom)
			require.ErrorIs(t, err, backendclient.ErrBadAnswer)
		}
		exchanges, rooms := s.counts()
		require.Equal(t, 2, exchanges)
		require.Equal(t, 15, rooms)

		now.Advance(2 * time.Minute)
		_, _ = c.Send(context.Background(), alice, getRooms)
		exchanges, _ = s.counts()
		require.Equal(t, 3, exchanges)
	})
	t.Run("all down", func(t *testing.T) {
		t.Parallel()
		s := newScript(html500)
		s.exchange = html500
		c := newClient(t, s)
		_, err := c.Send(context.Background(), alice, getRooms)
		require.ErrorIs(t, err, backendclient.ErrBadAnswer)

		s.mu.Lock()
		s.answers = []http.Handler{empty}
		s.mu.Unlock()
		_, err = c.Send(context.Background(), alice, getRooms)
		require.NoError(t, err)
		exchanges, _ := s.counts()
		require.Equal(t, 2, exchanges, "the old token is used again")
		require.Equal(t, "Bearer token-1", s.tokens()[1])
	})
}

// Concurrent callers whose token is refused share one exchange, in each kind of deployment.
func TestSend_SigningKeyRotated(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]sandbox.ResourceServerMode{
		"no resource server":   sandbox.ResourceServerOff,
		"provider refuses":     sandbox.ResourceServerInactive,
		"provider unreachable": sandbox.ResourceServerUnreachable,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := sandbox.Production()
			settings.ResourceServer.Mode = mode
			meet := newMeet(settings)
			var now atomic.Pointer[sandbox.Meet]
			now.Store(meet)
			c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { now.Load().ServeHTTP(w, r) }))
			_, err := c.Token(context.Background(), bob)
			require.NoError(t, err)

			settings.JWTSecretKey = "another-made-up-key-0123456789-0123456789-0123456789"
			now.Store(meet.With(settings))
			var wg sync.WaitGroup
			errs := make(chan error, 16)
			for range 16 {
				wg.Go(func() {
					_, err := c.Send(context.Background(), bob, getRooms)
					errs <- err
				})
			}
			wg.Wait()
			close(errs)
			for err := range errs {
				require.NoError(t, err)
			}
			require.Equal(t, 2, meet.Exchanges())
		})
	}
}

// After Meet merges users, the client fetches a token with the user's new id.
func TestSend_UserMerged(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	c := newClient(t, meet)
	ctx := context.Background()
	before, err := c.Token(ctx, carol)
	require.NoError(t, err)

	id := meet.MergeUsers(carol.Mail)
	a, err := c.CreateRoom(ctx, carol, nil)
	require.NoError(t, err)
	require.Equal(t, 201, a.Status)

	after, err := c.Token(ctx, carol)
	require.NoError(t, err)
	require.NotEqual(t, before.UserID(), after.UserID())
	require.Equal(t, id, after.UserID())
	require.Equal(t, 2, meet.Exchanges())
}

// A scope that is granted after a token was fetched is found within a minute, at the cost of
// at most one exchange a minute.
func TestToken_ScopeGrantedLater(t *testing.T) {
	t.Parallel()
	now := newClock()
	meet := newMeet(sandbox.Production(), sandbox.WithClock(now.Now))
	c := newClient(t, meet, withClock(now))
	ctx := context.Background()
	app := sandbox.Application{ClientID: "later", Secret: "secret", Active: true, Scopes: []string{"rooms:list"}}
	meet.AddApplication(app)
	caller := backendclient.Caller{
		Credentials: backendclient.Credentials{ClientID: "later", ClientSecret: "secret"}, Mail: alice.Mail,
		Scopes: []string{"rooms:list", "rooms:create"},
	}
	scopes := func() []string {
		token, err := c.Token(ctx, caller)
		require.NoError(t, err)
		return token.Scopes()
	}
	require.Equal(t, []string{"rooms:list"}, scopes())
	now.Advance(59 * time.Second)
	require.Equal(t, []string{"rooms:list"}, scopes())
	require.Equal(t, 1, meet.Exchanges())
	now.Advance(2 * time.Second)
	for range 5 {
		require.Equal(t, []string{"rooms:list"}, scopes())
	}
	require.Equal(t, 2, meet.Exchanges(), "not granted yet")

	app.Scopes = append(app.Scopes, "rooms:create")
	meet.AddApplication(app)
	now.Advance(61 * time.Second)
	for range 5 {
		require.Equal(t, app.Scopes, scopes())
		now.Advance(2 * time.Minute)
	}
	require.Equal(t, 3, meet.Exchanges())
}

// An application that lacks a scope on purpose costs few exchanges an hour for each user,
// whatever the number of gateways.
func TestToken_ScopeNeverGranted(t *testing.T) {
	t.Parallel()
	now := newClock()
	meet := newMeet(sandbox.Production(), sandbox.WithClock(now.Now))
	store := newMemory()
	store.now = now.Now
	app := sandbox.Application{ClientID: "less", Secret: "secret", Active: true, Scopes: []string{"rooms:list"}}
	meet.AddApplication(app)
	caller := backendclient.Caller{
		Credentials: backendclient.Credentials{ClientID: "less", ClientSecret: "secret"}, Mail: alice.Mail,
		Scopes: []string{"rooms:create"},
	}
	gateways := []*backendclient.Client{newClient(t, meet, withClock(now), withStore(store)), newClient(t, meet, withClock(now), withStore(store))}
	asked := func(minutes int) int {
		before := meet.Exchanges()
		for range minutes * 4 {
			for _, c := range gateways {
				_, err := c.Token(t.Context(), caller)
				require.NoError(t, err)
			}
			now.Advance(15 * time.Second)
		}
		return meet.Exchanges() - before
	}
	require.LessOrEqual(t, asked(5), 6, "about one exchange a minute at first")
	require.LessOrEqual(t, asked(45), 5, "then the pauses grow")

	caller.Generations[3]++
	require.LessOrEqual(t, asked(4), 5, "an edit of the application starts over")
	app.Scopes = []string{"rooms:create"}
	meet.AddApplication(app)
	require.Equal(t, 1, asked(1))
	token, err := gateways[0].Token(t.Context(), caller)
	require.NoError(t, err)
	require.Equal(t, app.Scopes, token.Scopes())
}

// A disabled user or application is refused, and works again soon after Meet enables it.
func TestSend_DisabledAndEnabled(t *testing.T) {
	t.Parallel()
	now := newClock()
	meet := newMeet(sandbox.Production(), sandbox.WithClock(now.Now))
	c := newClient(t, meet, withClock(now))
	ctx := context.Background()
	_, err := c.Send(ctx, bob, getRooms)
	require.NoError(t, err)

	meet.SetUserActive(bob.Mail, false)
	_, err = c.Send(ctx, bob, getRooms)
	require.ErrorIs(t, err, backendclient.ErrUserDisabled)
	asked := len(meet.Requests())
	session := bob
	session.Session = "a token's id"
	for range 5 {
		_, err = c.Send(ctx, session, getRooms)
		require.ErrorIs(t, err, backendclient.ErrUserDisabled)
		require.ErrorIs(t, c.UserDisabled(session.Session), backendclient.ErrUserDisabled)
	}
	require.Len(t, meet.Requests(), asked+1, "remembered for some seconds")
	meet.SetUserActive(bob.Mail, true)
	_, err = c.Send(ctx, bob, getRooms)
	require.NoError(t, err, "another session")
	now.Advance(5 * time.Second)
	_, err = c.Send(ctx, session, getRooms)
	require.NoError(t, err)

	meet.SetApplicationActive(full.ClientID, false)
	_, err = c.Send(ctx, bob, getRooms)
	require.ErrorIs(t, err, backendclient.ErrApplicationInactive)
	_, err = c.Send(ctx, alice, getRooms)
	require.ErrorIs(t, err, backendclient.ErrApplicationInactive, "a new user of the application")
	require.Equal(t, 1, meet.Exchanges(), "without a second exchange")

	meet.SetApplicationActive(full.ClientID, true)
	_, err = c.Send(ctx, bob, getRooms)
	require.NoError(t, err, "kept tokens work again at once")
	now.Advance(10 * time.Second)
	_, err = c.Send(ctx, alice, getRooms)
	require.NoError(t, err)
}

// Settings of Meet under which no token works lead to a hint that names the setting.
func TestSend_MisconfiguredMeet(t *testing.T) {
	t.Parallel()
	nothing := ""
	for name, row := range map[string]struct {
		settings func(*sandbox.Settings)
		kind     error
		hint     string
	}{
		"empty audience": {func(s *sandbox.Settings) { s.JWTAudience = &nothing }, backendclient.ErrMisconfigured, "APPLICATION_JWT_AUDIENCE"},
		"empty audience, RS": {func(s *sandbox.Settings) {
			s.JWTAudience = &nothing
			s.ResourceServer.Mode = sandbox.ResourceServerInactive
		}, backendclient.ErrMisconfigured, "APPLICATION_JWT_AUDIENCE"},
		"expires at once": {func(s *sandbox.Settings) { s.JWTExpiration = 0 }, backendclient.ErrMisconfigured, "APPLICATION_JWT_EXPIRATION_SECONDS"},
		"no key":          {func(s *sandbox.Settings) { s.JWTSecretKey = "" }, backendclient.ErrBadAnswer, "APPLICATION_JWT_SECRET_KEY"},
		"other host":      {func(s *sandbox.Settings) { s.AllowedHosts = nil }, backendclient.ErrMisconfigured, "DJANGO_ALLOWED_HOSTS"},
		"no external API": {func(s *sandbox.Settings) { s.ExternalAPIEnabled = false }, backendclient.ErrAPIDisabled, "EXTERNAL_API_ENABLED"},
		"no applications": {func(s *sandbox.Settings) { s.ApplicationEnabled = false }, backendclient.ErrAPIDisabled, "APPLICATION_ENABLED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := sandbox.Production()
			row.settings(&settings)
			_, err := newClient(t, newMeet(settings)).Send(context.Background(), bob, newRoom)
			require.ErrorIs(t, err, row.kind)
			e := asError(t, err)
			require.Contains(t, e.Hint, row.hint)
			require.False(t, e.Effect)
		})
	}
}

// A proxy that removes something that Meet needs leads to a hint that names it.
func TestSend_ProxyAltersRequest(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		alter func(*http.Request)
		hint  string
	}{
		"no X-Forwarded-Proto": {func(r *http.Request) { r.Header.Del("X-Forwarded-Proto") }, "X-Forwarded-Proto"},
		"no slash":             {func(r *http.Request) { r.URL.Path = strings.TrimSuffix(r.URL.Path, "/") }, "slash"},
		"own host":             {func(r *http.Request) { r.Host = "10.0.0.1" }, "DJANGO_ALLOWED_HOSTS"},
		"no Content-Length":    {func(r *http.Request) { r.ContentLength = -1; r.TransferEncoding = []string{"chunked"} }, "Content-Length"},
		"no Content-Type":      {func(r *http.Request) { r.Header.Del("Content-Type") }, "body"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meet := newMeet(sandbox.Production())
			direct := overTCP(t, meet)
			c := newClient(t, meet, func(o *backendclient.Options) {
				o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
					out := r.Clone(r.Context())
					row.alter(out)
					return direct.RoundTrip(out)
				})
			})
			_, err := c.Send(context.Background(), bob, newRoom)
			require.ErrorIs(t, err, backendclient.ErrMisconfigured)
			require.Contains(t, asError(t, err).Hint, row.hint)
		})
	}
}

// A failure without an answer has the right kind and effect, with a plain transport and with a
// proxy.
func TestSend_TransportErrors(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	for name, row := range map[string]struct {
		err    error
		kind   error
		status int
		effect bool
	}{
		"refused":                {dial, backendclient.ErrUnavailable, 0, false},
		"no such name":           {&net.DNSError{Err: "no such host", Name: "meet.internal"}, backendclient.ErrUnavailable, 0, false},
		"dial timed out":         {&net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}, backendclient.ErrUnavailable, 0, false},
		"connection lost":        {io.ErrUnexpectedEOF, backendclient.ErrUnavailable, 0, true},
		"reset":                  {&net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}, backendclient.ErrUnavailable, 0, true},
		"timeout":                {context.DeadlineExceeded, backendclient.ErrTimeout, 0, true},
		"proxy: no upstream":     {&backendclient.TransportError{Status: 503}, backendclient.ErrUnavailable, 503, false},
		"proxy: refused":         {&backendclient.TransportError{Status: 502, Err: dial}, backendclient.ErrUnavailable, 502, false},
		"proxy: not sent":        {&backendclient.TransportError{Status: 502, NotSent: true}, backendclient.ErrUnavailable, 502, false},
		"proxy: connection lost": {&backendclient.TransportError{Status: 502, Err: io.ErrUnexpectedEOF}, backendclient.ErrUnavailable, 502, true},
		"proxy: timeout":         {&backendclient.TransportError{Status: 504}, backendclient.ErrTimeout, 504, true},
		"caller left":            {context.Canceled, context.Canceled, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meet := inProcess(newMeet(sandbox.Production()))
			var attempts atomic.Int32
			c := newClient(t, nil, func(o *backendclient.Options) {
				o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
					if strings.HasSuffix(r.URL.Path, "/token/") {
						return meet.RoundTrip(r)
					}
					attempts.Add(1)
					return nil, row.err
				})
			})
			for _, request := range []backendclient.Request{getRooms, newRoom} {
				attempts.Store(0)
				_, err := c.Send(context.Background(), bob, request)
				require.ErrorIs(t, err, row.kind)
				require.ErrorIs(t, err, row.err)
				e := asError(t, err)
				require.Equal(t, row.status, e.Status)
				require.Equal(t, row.effect && request.MayHaveEffect, e.Effect)
				require.EqualValues(t, 1, attempts.Load())
			}
		})
	}
}

func TestSend_TransportPanics(t *testing.T) {
	t.Parallel()
	c := newClient(t, nil, func(o *backendclient.Options) {
		o.Transport = roundTripper(func(*http.Request) (*http.Response, error) { panic(http.ErrAbortHandler) })
	})
	_, err := c.Token(context.Background(), alice)
	require.ErrorIs(t, err, backendclient.ErrBadAnswer)
}

// The body of an answer is bounded, with and without a Content-Length.
func TestSend_BoundsBody(t *testing.T) {
	t.Parallel()
	body := `{"id":"7c9e6679-7425-40de-944b-e07fc1f90ae7","slug":"aae-erez-aaz","name":"` + strings.Repeat("x", 2000) + `"}`
	for name, flush := range map[string]bool{"length known": false, "chunked": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if flush {
					w.WriteHeader(200)
					w.(http.Flusher).Flush()
				}
				_, _ = io.WriteString(w, body)
			}))
			for limit, fits := range map[int64]bool{int64(len(body)): true, int64(len(body)) - 1: false} {
				c := newClient(t, s, func(o *backendclient.Options) { o.MaxBody, o.Transport = limit, overTCP(t, s) })
				a, err := c.Send(context.Background(), alice, newRoom)
				if fits {
					require.NoError(t, err)
					require.Equal(t, body, string(a.Body))
					continue
				}
				require.ErrorIs(t, err, backendclient.ErrBadAnswer)
				require.True(t, asError(t, err).Effect)
			}
		})
	}
}

// endless is a body that never ends. It counts the bytes that are read.
type endless struct{ read atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read.Add(int64(len(p)))
	return len(p), nil
}

func (*endless) Close() error { return nil }

func TestToken_EndlessBody(t *testing.T) {
	t.Parallel()
	body := new(endless)
	c := newClient(t, nil, func(o *backendclient.Options) {
		o.MaxBody = 10_000
		o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, nil
		})
	})
	_, err := c.Token(context.Background(), alice)
	require.ErrorIs(t, err, backendclient.ErrBadAnswer)
	require.EqualValues(t, 10_001, body.read.Load())
}

// A body that is shorter than its Content-Length is an error.
func TestSend_TruncatedBody(t *testing.T) {
	t.Parallel()
	s := newScript(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"id":"x"}`)
	}))
	c := newClient(t, s, func(o *backendclient.Options) { o.Transport = overTCP(t, s) })
	_, err := c.Send(context.Background(), alice, newRoom)
	require.ErrorIs(t, err, backendclient.ErrBadAnswer)
	require.True(t, asError(t, err).Effect)
}

func TestSend_Timeout(t *testing.T) {
	t.Parallel()
	s := newScript(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	stuck := inProcess(s)
	c := newClient(t, s, func(o *backendclient.Options) {
		o.RequestTimeout = 20 * time.Millisecond
		o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/token/") {
				return stuck.RoundTrip(r)
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
	})
	_, err := c.Send(context.Background(), alice, newRoom)
	require.ErrorIs(t, err, backendclient.ErrTimeout)
	require.True(t, asError(t, err).Effect)
	_, err = c.Send(context.Background(), alice, getRooms)
	require.ErrorIs(t, err, backendclient.ErrTimeout)
	require.False(t, asError(t, err).Effect)
}

func TestSend_InvalidRequests(t *testing.T) {
	t.Parallel()
	s := newScript(empty)
	c := newClient(t, s)
	for name, r := range map[string]backendclient.Request{
		"no slash":    {Method: "GET", Path: "/rooms"},
		"dot segment": {Method: "GET", Path: "/rooms/../application/token/"},
		"escaped":     {Method: "GET", Path: "/rooms/%2e%2e/"},
		"two slashes": {Method: "GET", Path: "/rooms//"},
		"line feed":   {Method: "GET", Path: "/rooms/\n/"},
		"long query":  {Method: "GET", Path: "/rooms/", Query: url.Values{"slug": {strings.Repeat("x", 4100)}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Send(context.Background(), alice, r)
			require.ErrorIs(t, err, backendclient.ErrInvalidRequest)
		})
	}
	_, rooms := s.counts()
	require.Zero(t, rooms)
}

// The request that reaches Meet over a real connection has the expected target, headers and
// body.
func TestSend_RequestOnTheWire(t *testing.T) {
	t.Parallel()
	meet := newMeet(sandbox.Production())
	c := newClient(t, meet, func(o *backendclient.Options) { o.Transport = overTCP(t, meet) })
	ctx := context.Background()
	caller := carol
	caller.RequestID = "request-2"
	token, err := c.Token(ctx, caller)
	require.NoError(t, err)
	meet.ForgetRequests()

	for name, row := range map[string]struct {
		send   func() (*backendclient.Response, error)
		method string
		target string
		body   string
		header http.Header
	}{
		"retrieve": {
			send: func() (*backendclient.Response, error) {
				return c.RetrieveRoom(ctx, caller, "5eed0000-0000-4000-8000-000000000001")
			},
			method: "GET", target: roomsPath + "5eed0000-0000-4000-8000-000000000001/",
		},
		"create": {
			send:   func() (*backendclient.Response, error) { return c.CreateRoom(ctx, caller, []byte(`{}`)) },
			method: "POST", target: roomsPath, body: "{}", header: http.Header{"Content-Type": {"application/json"}},
		},
		"create without body": {
			send:   func() (*backendclient.Response, error) { return c.CreateRoom(ctx, caller, nil) },
			method: "POST", target: roomsPath,
		},
		"query": {
			send: func() (*backendclient.Response, error) {
				return c.Send(ctx, caller, backendclient.Request{Method: "GET", Path: "/rooms/", Query: url.Values{"page": {"1"}, "q": {"a&b"}}})
			},
			method: "GET", target: roomsPath + "?page=1&q=a%26b",
		},
	} {
		meet.ForgetRequests()
		_, err := row.send()
		require.NoError(t, err, name)
		requests := meet.Requests()
		require.Len(t, requests, 1, name)
		r := requests[0]
		require.Equal(t, row.method, r.Method, name)
		require.Equal(t, row.target, r.Target, name)
		require.Equal(t, host, r.Host, name)
		require.Equal(t, row.body, string(r.Body), name)
		require.EqualValues(t, len(row.body), r.ContentLength, name)

		want := http.Header{
			"Accept":            {"application/json"},
			"Accept-Encoding":   {"identity"},
			"Authorization":     {"Bearer " + token.Value()},
			"User-Agent":        {"meet-gateway"},
			"X-Forwarded-Proto": {"https"},
			"X-Request-Id":      {"request-2"},
		}
		maps.Copy(want, row.header)
		got := r.Header.Clone()
		got.Del("Content-Length")
		require.Equal(t, want, got, name)
	}
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	settings := sandbox.Production()
	require.NoError(t, newClient(t, sandbox.New(settings)).Healthy(ctx))

	settings.AllowedHosts = []string{"other.example.org"}
	err := newClient(t, sandbox.New(settings)).Healthy(ctx)
	require.ErrorIs(t, err, backendclient.ErrMisconfigured)
	require.Contains(t, asError(t, err).Hint, "DJANGO_ALLOWED_HOSTS")

	require.ErrorIs(t, newClient(t, respond(503, "text/html", "")).Healthy(ctx), backendclient.ErrUnavailable)
	require.ErrorIs(t, newClient(t, respond(404, "text/html", "")).Healthy(ctx), backendclient.ErrAPIDisabled)
}
