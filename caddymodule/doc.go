// SPDX-License-Identifier: MIT

// Package caddymodule is the Caddy side of the gateway: the only room that
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
// Packages below: store (the stores), admin (the admin API) and command (the command
// line, a client of that), of which the gate needs none; and what they share: option,
// pool and strictjson. The app and the gate are here.
//
// One concept a file. A request goes through them in this order: path.go and
// routes.go (which endpoint), authorization.go (which credential),
// token.go / identity.go / rooms.go (the endpoint), transport.go (to Meet) and
// errors.go (the answer when it is not a success).
package caddymodule

import (
	_ "github.com/meet-gateway/meet-gateway/caddymodule/command" // the meet command
)
