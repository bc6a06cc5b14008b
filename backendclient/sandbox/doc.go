// SPDX-License-Identifier: MIT

// Package sandbox is La Suite Meet's external API in memory: the token
// endpoint, the rooms, and what they answer when something is wrong, in Meet's
// words and with Meet's oddities. It is for trying a client or a gateway out
// and for their tests; it provisions no meeting and keeps nothing.
//
// A [Meet] is an [net/http.Handler]. An integrator's test gives it an
// application and a user, and points the client at it:
//
//	meet := sandbox.New(sandbox.Quickstart())
//	meet.AddApplication(sandbox.Application{ClientID: "booking", Secret: "secret", Scopes: []string{"rooms:create"}, Active: true})
//	server := httptest.NewServer(meet)
//	defer server.Close()
//	// POST server.URL/external-api/v1.0/application/token/ and so on
//
// [Settings] are Meet's own settings, since much of what a client sees depends
// on them. [Quickstart] has the friendly ones, [Production] those of a real
// installation: https by X-Forwarded-Proto, one Host, no provisioning.
// [Meet.With] is the same Meet under other settings, for a test in which an
// operator changes one. [Meet.Requests] and [Meet.Exchanges] tell what arrived.
//
// # How faithful it is
//
// The contract test replays 811 exchanges recorded from an unmodified Meet
// (testdata/README.md) over TCP and compares status, headers and body. It lists the
// exceptions with their reasons, and uses a JSON parser with Python's error texts.
// Missing, because nothing is recorded: tokens of add-ons, the language cookie, most
// texts in languages other than English. Meet's second of CPU per exchange is a
// delay, off by default ([Settings.ExchangeDelay]).
//
// Each part of Meet has its file: middleware and routes (meet.go), pages and
// headers (render.go), languages (language.go), the web server in front
// (webserver.go), content negotiation and parsers (rest.go, json.go), Python's words (python.go), the
// token endpoint (token.go, mail.go), the authenticators (auth.go, jwt.go), the
// rooms (rooms.go, configuration.go), what is remembered (database.go).
package sandbox
