// SPDX-License-Identifier: MIT

// Package caddymodule is the Caddy side of the gateway: the only layer that
// knows Caddy. It joins tokens (who may do what) and backendclient (how Meet
// is spoken to) and turns their errors into HTTP answers in one place.
//
// Modules:
//
//	meet_gateway                      app: store, keys, applications
//	meet_gateway.stores.redis         state in Redis: single, Sentinel or Cluster
//	meet_gateway.stores.embedded      state in this process, for trying out
//	http.handlers.meet_gateway        the gate; directive meet_gateway
//	http.handlers.meet_sandbox        Meet in memory, for trying out
//
// Guest modules in the namespace meet_gateway.stores implement [store.Store]. The
// backend of the gate is a guest in the namespace http.handlers, usually
// reverse_proxy.
//
// # Where a change goes
//
// One concept a file. A request passes through them in this order:
//
//   - handler.go takes the request, call.go finds its endpoint (routes.go, publicurl.go);
//   - the endpoint has a type of its own: tokenCall (token.go, refreshgrant.go, adopt.go),
//     roomsCall (rooms.go, slugs.go, operatorroute.go, foreign.go, idempotency.go),
//     identityCall (identity.go), documentCall (wellknown.go, openapi.go, docspage.go);
//     revoke.go and introspect.go are short enough without;
//   - clientauth.go finds out which application is calling, limits.go and quota.go count;
//   - errors.go says what every error is answered with;
//   - auditentry.go, logging.go, metrics.go, outcome.go and tracing.go tell of it.
//
// What a client sends is parsed by package parse. Requests reach Meet through package
// upstream. Packages store, admin, command, audit, docs, doctor and health have one
// idea each, named in their comments; option and pool serve several of them.
package caddymodule

import (
	_ "github.com/meet-gateway/meet-gateway/caddymodule/command" // the meet command
)
