// SPDX-License-Identifier: MIT

package wire

import "github.com/meet-gateway/meet-gateway/tokens"

// Status is the state of this node.
type Status struct {
	// Version is the version of the program.
	Version string `json:"version"`
	// Ready and Reason are those of health/ready.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	tokens.Status
	Backends []Backend `json:"backends"`
}

// Backend is the state of a handler's backend according to Caddy's health checks.
type Backend struct {
	// Host is Meet's public name.
	Host string `json:"host"`
	// Kind is "reverse_proxy", "sandbox", or the name of another handler.
	Kind string `json:"kind"`
	// Healthy is false if no upstream is available.
	Healthy bool `json:"healthy"`
	// Checked is false if no health check is configured. All upstreams then count as
	// available.
	Checked   bool       `json:"checked"`
	Upstreams []Upstream `json:"upstreams,omitempty"`
}

// Upstream is the state of an upstream.
type Upstream struct {
	Address string `json:"address"`
	// Available is false if a health check failed or the limit of concurrent requests is
	// reached. Without health checks it is true.
	Available bool `json:"available"`
	// Requests counts running requests, Fails the failures that passive health checks
	// remember.
	Requests int `json:"requests"`
	Fails    int `json:"fails"`
}

// Routes is the route table of a handler.
type Routes struct {
	BasePaths []string `json:"base_paths"`
	Routes    []Route  `json:"routes"`
}

// Route is a method and path.
type Route struct {
	Method   string `json:"method"`
	Path     string `json:"path"`
	Scope    string `json:"scope,omitempty"`
	Endpoint string `json:"endpoint"`
	// Policy is how requests are judged, for a path that the operator opened.
	Policy string `json:"policy,omitempty"`
}

// Rekeyed is the answer to POST secrets/rekey.
type Rekeyed struct {
	// Records is the number of records that were checked.
	Records int `json:"records"`
	// Keys are the keys as in Status.
	Keys []tokens.KeyStatus `json:"keys"`
}

// Rekeying is the answer to GET secrets/rekey.
type Rekeying struct {
	Running bool `json:"running"`
	// Records is the number of records that were checked so far.
	Records int `json:"records"`
}
