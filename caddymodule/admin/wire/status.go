// SPDX-License-Identifier: MIT

package wire

import "github.com/meet-gateway/meet-gateway/tokens"

// Status is how this node is doing.
type Status struct {
	// Version is that of the program.
	Version string `json:"version"`
	// Ready is what health/ready answers, with its reason.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	tokens.Status
	Backends []Backend `json:"backends"`
}

// Backend is how the backend of one gate is doing, as far as Caddy's health
// checks know.
type Backend struct {
	// Host is Meet's public name, as sent to it.
	Host string `json:"host"`
	// Kind is "reverse_proxy", "sandbox", or the name of another handler.
	Kind string `json:"kind"`
	// Healthy is false if none of the upstreams is available.
	Healthy bool `json:"healthy"`
	// Checked is false if no health check is configured: then nothing is known, and
	// upstreams count as available.
	Checked   bool       `json:"checked"`
	Upstreams []Upstream `json:"upstreams,omitempty"`
}

// Upstream is how one upstream is doing.
type Upstream struct {
	Address string `json:"address"`
	// Available is false if a health check failed, or as many requests are
	// running as are allowed. Without health checks it is always true.
	Available bool `json:"available"`
	// Requests are running, Fails are remembered by passive health checks.
	Requests int `json:"requests"`
	Fails    int `json:"fails"`
}

// Routes is the closed route table of one gate.
type Routes struct {
	BasePaths []string `json:"base_paths"`
	Routes    []Route  `json:"routes"`
}

// Route is one method and path of a gate.
type Route struct {
	Method   string `json:"method"`
	Path     string `json:"path"`
	Scope    string `json:"scope,omitempty"`
	Endpoint string `json:"endpoint"`
	// Policy says, for a path that the operator opened, how its requests are judged.
	Policy string `json:"policy,omitempty"`
}

// Rekeyed is the answer of POST secrets/rekey.
type Rekeyed struct {
	// Records is how many were looked at.
	Records int `json:"records"`
	// Keys are those of the status: what is still needed for what, and what is safe to
	// remove.
	Keys []tokens.KeyStatus `json:"keys"`
}

// Rekeying is the answer of GET secrets/rekey.
type Rekeying struct {
	Running bool `json:"running"`
	// Records is how many were looked at so far.
	Records int `json:"records"`
}
