// SPDX-License-Identifier: MIT

// Package caddymodule contains the gateway's Caddy modules. It joins the packages
// tokens (who may do what) and backendclient (Meet's API) and turns their errors into
// HTTP answers.
//
// Modules:
//
//	meet_gateway                      app: store, keys, applications
//	meet_gateway.stores.redis         state in Redis: single, Sentinel or Cluster
//	meet_gateway.stores.embedded      state in this process, for trying out
//	http.handlers.meet_gateway        the gateway; directive meet_gateway
//	http.handlers.meet_sandbox        Meet in memory, for trying out
//
// Guest modules in the namespace meet_gateway.stores implement [store.Store]. The
// handler's backend is a guest module in the namespace http.handlers, usually
// reverse_proxy.
//
// # Where a change goes
//
// Configuration: app.go and handler.go hold the config structs and their lifecycle,
// caddyfile.go their syntax; audit.go, health.go, secrets.go, renew.go and sandbox.go
// the parts with files of their own.
//
// A request passes through these files:
//
//   - handler.go takes the request; call.go finds the endpoint (routes.go,
//     publicurl.go) and answers errors;
//   - clientrequest.go and clientauth.go read and authenticate requests of
//     applications, for token.go, refreshgrant.go, adopt.go, revoke.go and
//     introspect.go;
//   - rooms.go serves rooms, with slugs.go, roompolicy.go and idempotency.go;
//     openedroute.go and routepolicy.go serve opened routes; foreign.go passes foreign
//     tokens on;
//   - relay.go and roomjson.go bring Meet's answers into the published form;
//   - identity.go, wellknown.go, openapi.go, openapiroutes.go and docspage.go serve the
//     other endpoints;
//   - clientip.go, early.go, body.go, headers.go and detach.go handle HTTP itself;
//   - limits.go and quota.go limit, and errors.go has the table from errors to answers;
//   - accesslog.go, logging.go, auditentry.go, metrics.go and tracing.go record what
//     happened.
//
// For operators, status.go and doctor.go implement the admin API's [admin.Gateway],
// observer.go reports on the feed and Redis, quickstart.go prints the demo, version.go
// has the version.
//
// Package parse parses what clients send, and package upstream sends requests to Meet.
// Packages store, admin, command, audit, docs, doctor and health have one concern each;
// option and pool serve several of them.
package caddymodule

import (
	_ "github.com/meet-gateway/meet-gateway/caddymodule/command" // the meet command
)
