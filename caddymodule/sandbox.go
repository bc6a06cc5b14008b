// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/caddymodule/option"
)

func init() {
	caddy.RegisterModule(Sandbox{})
}

// Sandbox is a Meet in memory, for trials and tests. It creates any user. All
// configurations of a process share its state, which survives reloads and is lost when
// the process ends. Another gateway has another sandbox, so it is for one gateway.
type Sandbox struct {
	// The web address of rooms. Default: `https://meet.example.org`.
	BaseURL string `json:"base_url,omitempty"`

	pooled *pooledSandbox
}

const (
	sandboxKey     = "sandbox"
	sandboxHost    = "meet.example.org"
	sandboxBaseURL = "https://" + sandboxHost
	sandboxClient  = "meet-gateway"
	// Not a secret: the sandbox is only reachable in this process.
	sandboxSecret = "sandbox"
)

// CaddyModule returns the Caddy module information.
func (Sandbox) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.meet_sandbox", New: func() caddy.Module { return new(Sandbox) }}
}

// Provision opens the sandbox or shares the open one.
func (s *Sandbox) Provision(caddy.Context) error {
	s.BaseURL = cmp.Or(s.BaseURL, sandboxBaseURL)
	val, _, err := sandboxes.LoadOrNew(sandboxKey+" "+s.BaseURL, func() (caddy.Destructor, error) {
		settings := sandbox.Quickstart()
		settings.BaseURL = s.BaseURL
		meet := sandbox.New(settings, sandbox.WithRecorder(0))
		meet.AddApplication(sandbox.Application{
			ClientID: sandboxClient, Secret: sandboxSecret, Active: true,
			Scopes: []string{"rooms:list", "rooms:retrieve", "rooms:create", "rooms:update", "rooms:delete"},
		})
		return &pooledSandbox{meet}, nil
	})
	if err != nil {
		return err
	}
	s.pooled = val.(*pooledSandbox)
	return nil
}

// Cleanup releases the sandbox. The pointer stays for requests in flight.
func (s *Sandbox) Cleanup() error {
	if s.pooled == nil {
		return nil
	}
	_, err := sandboxes.Delete(sandboxKey + " " + s.BaseURL)
	return err
}

// ServeHTTP answers like Meet.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	s.pooled.ServeHTTP(w, r)
	return nil
}

// UnmarshalCaddyfile sets up the sandbox from Caddyfile tokens. Syntax:
//
//	backend sandbox {
//	    base_url <url>
//	}
func (s *Sandbox) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the word sandbox
	if d.NextArg() {
		return d.ArgErr()
	}
	unknown := func(d *caddyfile.Dispenser) error {
		return option.Unknown(d, "host", "path", "credentials", "base_url")
	}
	return option.BlockOr(d, unknown, option.Once("base_url", option.Checked(option.One(&s.BaseURL), func() error {
		if !isWebURL(s.BaseURL) {
			return fmt.Errorf("base_url %q must be a web address such as %s", s.BaseURL, sandboxBaseURL)
		}
		return nil
	})))
}

// sandboxes keeps sandboxes across reloads.
var sandboxes = caddy.NewUsagePool()

// pooledSandbox needs no closing.
type pooledSandbox struct{ *sandbox.Meet }

// Destruct implements caddy.Destructor.
func (*pooledSandbox) Destruct() error { return nil }

// Interface guards
var (
	_ caddy.Module                = (*Sandbox)(nil)
	_ caddy.Provisioner           = (*Sandbox)(nil)
	_ caddy.CleanerUpper          = (*Sandbox)(nil)
	_ caddyfile.Unmarshaler       = (*Sandbox)(nil)
	_ caddyhttp.MiddlewareHandler = (*Sandbox)(nil)
)
