// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/meet-gateway/meet-gateway/caddymodule/option"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/caddymodule/store"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

func init() {
	httpcaddyfile.RegisterGlobalOption(appName, parseGlobalOption)
	httpcaddyfile.RegisterHandlerDirective(appName, parseDirective)
	httpcaddyfile.RegisterDirectiveOrder(appName, httpcaddyfile.Before, "reverse_proxy")
}

// parseGlobalOption sets the app up from the global option. Syntax:
//
//	meet_gateway {
//	    store          redis [<url>] { ... } | embedded
//	    secret         <text>
//	    signing_key    <pem>|secret
//	    issuer         <name>
//	    audience       <name>
//	    token_lifetime <duration>
//	    staleness      <duration>
//	    cache_entries  <number>
//	    refresh {
//	        idle     <duration>
//	        absolute <duration>
//	        window   <duration>
//	    }
//	    limit          <name> <rate>
//	    gateways       <number>
//	    quota_dry_run
//	    health         <address>|off
//	    audit {
//	        output     <log writer> ...
//	        mail       hash|clear|none
//	        on_failure continue|refuse
//	        gateway    <name>
//	    }
//	    metrics_per_application <number>
//	    quickstart
//	}
//
// secret and signing_key may be there several times: the first signs, all
// verify. limit may be there once for each name.
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Errf("%s is already set", d.Val())
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: appName, Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile sets up the app from Caddyfile tokens; see the global option
// meet_gateway for the syntax.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the option's name
	if d.NextArg() {
		return d.ArgErr()
	}
	err := option.Block(d,
		option.Once("store", a.unmarshalStore),
		option.Many("secret", a.unmarshalSecret),
		option.Many("signing_key", a.unmarshalSigningKey),
		option.Once("issuer", option.One(&a.Issuer)),
		option.Once("audience", option.One(&a.Audience)),
		option.Once("token_lifetime", a.checked(option.Duration(&a.TokenLifetime))),
		option.Once("staleness", a.checked(option.Duration(&a.Staleness))),
		option.Once("cache_entries", option.Positive(&a.CacheEntries)),
		option.Once("refresh", a.checked(a.unmarshalRefresh)),
		option.Many("limit", a.unmarshalLimit),
		option.Once("gateways", option.Positive(&a.Gateways)).Formerly("nodes"),
		option.Once("quota_dry_run", option.Flag(&a.QuotaDryRun)).Formerly("fence_dry_run"),
		option.Once("health", a.unmarshalHealth),
		option.Once("audit", a.unmarshalAudit),
		option.Once("metrics_per_application", option.Positive(&a.MetricsPerApplication)),
		option.Once("quickstart", option.Flag(&a.Quickstart)),
	)
	if err != nil {
		return err
	}
	return a.checkWhole(d)
}

func (a *App) unmarshalSecret(d *caddyfile.Dispenser) error {
	if err := option.Append(&a.Secrets)(d); err != nil {
		return err
	}
	if tooShort(d.Val()) {
		return d.Errf("secret must be at least %d bytes long; make one with: openssl rand -base64 32", tokens.MinSecret)
	}
	return nil
}

func (a *App) unmarshalSigningKey(d *caddyfile.Dispenser) error {
	if err := option.Append(&a.SigningKeys)(d); err != nil {
		return err
	}
	if d.Val() == signingSecret || option.Holds(d.Val()) {
		return nil
	}
	if _, err := signing.Parse([]byte(d.Val())); err != nil {
		return d.Errf("signing_key is no private key in PEM; write {file./path/to/key.pem}, and make one with: openssl genpkey -algorithm ed25519")
	}
	return nil
}

func (a *App) unmarshalAudit(d *caddyfile.Dispenser) error {
	a.Audit = new(Audit)
	return a.Audit.unmarshalCaddyfile(d)
}

// unmarshalRefresh reads the block `refresh`.
func (a *App) unmarshalRefresh(d *caddyfile.Dispenser) error {
	a.Refresh = new(Refresh)
	if err := option.None(d); err != nil {
		return err
	}
	return option.Block(d,
		option.Once("idle", option.Duration(&a.Refresh.Idle)),
		option.Once("absolute", option.Duration(&a.Refresh.Absolute)),
		option.Once("window", option.Duration(&a.Refresh.Window)),
	)
}

// checked finds values that do not fit together, while the line they are on is known.
func (a *App) checked(read option.Reader) option.Reader {
	return func(d *caddyfile.Dispenser) error {
		if err := read(d); err != nil {
			return err
		}
		if err := a.authorityOptions().Check(); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

// checkWhole finds what is missing, at the end of the block.
func (a *App) checkWhole(d *caddyfile.Dispenser) error {
	var kept struct{ Type string }
	switch {
	case a.StoreRaw == nil:
		return d.Err("meet_gateway needs a store: write `store redis <url>`, or `store embedded` for trying out")
	case json.Unmarshal(a.StoreRaw, &kept) == nil && kept.Type == "redis" && len(a.Secrets) == 0:
		return d.Err("store redis needs a secret: write `secret {env.MEET_GATEWAY_SECRET}`")
	}
	return nil
}

// tooShort tells so of a secret that stands in the file itself.
func tooShort(secret string) bool {
	return !option.Holds(secret) && len(secret) < tokens.MinSecret
}

// unmarshalLimit reads `limit <name> <rate>`.
func (a *App) unmarshalLimit(d *caddyfile.Dispenser) error {
	var name, rate string
	if !d.AllArgs(&name, &rate) {
		return d.ArgErr()
	}
	if _, twice := a.Limits[name]; twice {
		return d.Errf("limit %s is already set", name)
	}
	if _, err := limit.ParseRates(map[string]string{name: rate}); err != nil {
		return d.WrapErr(err)
	}
	if a.Limits == nil {
		a.Limits = map[string]string{}
	}
	a.Limits[name] = rate
	return nil
}

func (a *App) unmarshalStore(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("store needs a type, one of: %s%s", option.Join(storeTypes()), emptyVariable("MEET_STORE"))
	}
	name := d.Val()
	if !slices.Contains(storeTypes(), name) {
		return d.Errf("unknown store %q, expected one of: %s", name, option.Join(storeTypes()))
	}
	mod, err := caddyfile.UnmarshalModule(d, storeNamespace+"."+name)
	if err != nil {
		return err
	}
	guest, ok := mod.(store.Store)
	if !ok {
		return d.Errf("module %s.%s is no store", storeNamespace, name)
	}
	a.StoreRaw = caddyconfig.JSONModuleObject(guest, "type", name, nil)
	return nil
}

const storeNamespace = "meet_gateway.stores"

// storeTypes lists the stores that are in this binary.
func storeTypes() []string {
	var names []string
	for _, info := range caddy.GetModules(storeNamespace) {
		names = append(names, info.ID.Name())
	}
	return names
}

// parseDirective sets a gate up from the directive. Syntax:
//
//	meet_gateway [<matcher>] {
//	    base_path <path...>
//	    backend <upstreams...> | sandbox {
//	        host        <name>
//	        path        <path>
//	        credentials <client id> <client secret>
//	        <any option of reverse_proxy, or of the sandbox>
//	    }
//	    route                   <method> <path> <scope> {
//	        mail <field...>|none
//	        idempotent
//	        sensitive
//	    }
//	    unknown_user_status     400|404
//	    not_a_member_status     403|404
//	    identity_invalid_status 401|400
//	    identity_error_style    numeric|string
//	    unknown_applications    refuse|adopt
//	    foreign_tokens          refuse|passthrough
//	    room_access_levels      <level...>|meet
//	    strict_rooms
//	    docs                    on|off
//	    room_url_base           <url>
//	    max_token_body          <size>
//	    max_room_body           <size>
//	    exchange_timeout        <duration>
//	    request_timeout         <duration>
//	    max_exchanges           <number>
//	    renew                   <duration>|off
//	}
//
// route may be there several times.
func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	gate := new(Handler)
	if err := gate.unmarshalCaddyfile(h); err != nil {
		return nil, err
	}
	return gate, nil
}

func (h *Handler) unmarshalCaddyfile(helper httpcaddyfile.Helper) error {
	d := helper.Dispenser
	d.Next() // consume the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	err := option.Block(d,
		option.Once("base_path", h.unmarshalBasePaths),
		option.Once("backend", func(*caddyfile.Dispenser) error { return h.unmarshalBackend(helper) }),
		option.Many("route", h.unmarshalRoute),
		option.Once("unknown_user_status", option.Choice(&h.UnknownUserStatus, 400, 404)),
		option.Once("not_a_member_status", option.Choice(&h.NotAMemberStatus, 403, 404)),
		option.Once("identity_invalid_status", option.Choice(&h.IdentityInvalidStatus, 401, 400)),
		option.Once("identity_error_style", option.Word(&h.IdentityErrorStyle, styleNumeric, styleString)),
		option.Once("unknown_applications", option.Word(&h.UnknownApplications, unknownRefuse, unknownAdopt)),
		option.Once("foreign_tokens", option.Word(&h.ForeignTokens, foreignRefuse, foreignPassthrough)),
		option.Once("room_access_levels", h.unmarshalLevels),
		option.Once("strict_rooms", option.Flag(&h.StrictRooms)),
		option.Once("docs", option.Word(&h.Docs, docsOn, docsOff)),
		option.Once("room_url_base", h.unmarshalRoomURLBase),
		option.Once("max_token_body", option.Size(&h.MaxTokenBody)),
		option.Once("max_room_body", option.Size(&h.MaxRoomBody)),
		option.Once("exchange_timeout", option.Duration(&h.ExchangeTimeout)),
		option.Once("request_timeout", option.Duration(&h.RequestTimeout)),
		option.Once("max_exchanges", option.Positive(&h.MaxExchanges)),
		option.Once("renew", h.unmarshalRenew),
	)
	if err != nil {
		return err
	}
	if h.BackendRaw == nil {
		return d.Err("meet_gateway needs a backend")
	}
	return nil
}

func (h *Handler) unmarshalRoomURLBase(d *caddyfile.Dispenser) error {
	if err := option.One(&h.RoomURLBase)(d); err != nil {
		return err
	}
	if err := checkRoomURLBase(strings.TrimRight(h.RoomURLBase, "/")); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (h *Handler) unmarshalBasePaths(d *caddyfile.Dispenser) error {
	if err := option.All(&h.BasePaths)(d); err != nil {
		return err
	}
	if _, err := sortedBasePaths(h.BasePaths); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// unmarshalLevels reads `room_access_levels <level...>` and `room_access_levels meet`.
func (h *Handler) unmarshalLevels(d *caddyfile.Dispenser) error {
	err := option.Words(&h.RoomAccessLevels, levelTrusted, levelRestricted, levelPublic, levelsMeet)(d)
	if err == nil && len(h.RoomAccessLevels) > 1 && slices.Contains(h.RoomAccessLevels, levelsMeet) {
		return d.Err("room_access_levels: meet stands alone")
	}
	return err
}

// unmarshalRoute reads a route, with or without a block:
//
//	route <method> <path> <scope> {
//	    mail <field...>|none
//	    idempotent
//	    sensitive
//	}
func (h *Handler) unmarshalRoute(d *caddyfile.Dispenser) error {
	var r Route
	if !d.AllArgs(&r.Method, &r.Path, &r.Scope) {
		return d.ArgErr()
	}
	// checked also checks the route as far as it was read, while the line is known.
	checked := func(read option.Reader) option.Reader {
		return func(d *caddyfile.Dispenser) error {
			if err := read(d); err != nil {
				return err
			}
			if _, err := newRouteTable(append(slices.Clone(h.Routes), r)); err != nil {
				return d.WrapErr(err)
			}
			return nil
		}
	}
	if err := checked(func(*caddyfile.Dispenser) error { return nil })(d); err != nil {
		return err
	}
	err := option.Block(d,
		option.Once("mail", checked(option.All(&r.Mail))),
		option.Once("idempotent", checked(option.Flag(&r.Idempotent))),
		option.Once("sensitive", checked(option.Flag(&r.Sensitive))),
	)
	h.Routes = append(h.Routes, r)
	return err
}

// unmarshalBackend takes the gate's own options out of the block and gives the
// rest to the parser of the guest handler.
func (h *Handler) unmarshalBackend(helper httpcaddyfile.Helper) error {
	d := helper.Dispenser
	var rest []caddyfile.Token
	name := d.Token()
	args := 0
	sandbox := false
	for d.NextArg() {
		if args++; d.Val() == "sandbox" {
			sandbox = true
			continue
		}
		rest = append(rest, d.Token())
	}
	if sandbox && args > 1 {
		return d.Err("the backend is either the sandbox or upstreams, not both")
	}
	others, err := h.unmarshalBackendOptions(d)
	if err != nil {
		return err
	}
	name.Text = "reverse_proxy"
	segment := append([]caddyfile.Token{name}, rest...)
	if len(others) > 0 {
		segment = append(segment, inBraces(segment[len(segment)-1], others)...)
	}
	guest := helper.WithDispenser(caddyfile.NewDispenser(segment))
	if sandbox {
		s := new(Sandbox)
		if err := s.UnmarshalCaddyfile(guest.Dispenser); err != nil {
			return err
		}
		h.BackendRaw = caddyconfig.JSONModuleObject(s, "handler", "meet_sandbox", nil)
		return nil
	}
	proxy := new(reverseproxy.Handler)
	if err := proxy.UnmarshalCaddyfile(guest.Dispenser); err != nil {
		if strings.Contains(err.Error(), "unrecognized subdirective") {
			return fmt.Errorf("%w (expected host, path, credentials or an option of reverse_proxy)", err)
		}
		return err
	}
	if err := proxy.FinalizeUnmarshalCaddyfile(guest); err != nil {
		return err
	}
	if len(proxy.Upstreams) == 0 && proxy.DynamicUpstreamsRaw == nil {
		line := caddyfile.NewDispenser(segment[:1]) // d is at the end of the block
		line.Next()
		return line.Errf("backend needs an upstream, or `sandbox`%s", emptyVariable("MEET_BACKEND"))
	}
	h.BackendRaw = caddyconfig.JSONModuleObject(proxy, "handler", "reverse_proxy", nil)
	return nil
}

// unmarshalBackendOptions reads the gate's own options and returns the tokens of
// the others.
func (h *Handler) unmarshalBackendOptions(d *caddyfile.Dispenser) ([]caddyfile.Token, error) {
	var others []caddyfile.Token
	seen := option.Seen{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		switch d.Val() {
		case "host", "path", "credentials":
			if err := seen.Add(d); err != nil {
				return nil, err
			}
		}
		var err error
		switch d.Val() {
		case "host":
			if err = option.One(&h.BackendHost)(d); err == nil && !option.Holds(h.BackendHost) && !isHost(h.BackendHost) {
				err = d.Errf("host %q must be a name such as meet.example.org, with the port if it is not the default one, and nothing else", h.BackendHost)
			}
		case "path":
			if err = option.One(&h.BackendPath)(d); err == nil && !isBackendPath(h.BackendPath) {
				err = d.Errf("path %q must be an absolute path such as %s", h.BackendPath, defaultBasePath)
			}
		case "credentials":
			h.Credentials = new(Credentials)
			if !d.AllArgs(&h.Credentials.ClientID, &h.Credentials.ClientSecret) {
				err = d.ArgErr()
			} else if (h.Credentials.ClientID == "") != (h.Credentials.ClientSecret == "") {
				err = d.Err("credentials are a client id and a client secret, and one of them is empty")
			}
		case "rewrite", "method":
			return nil, d.Errf("%s would send another request than the one that was allowed (path says where Meet's API is)", d.Val())
		default:
			others = append(others, d.NextSegment()...)
		}
		if err != nil {
			return nil, err
		}
	}
	return others, nil
}

// isHost reports whether the backend's client takes a text as Meet's host name, once
// no placeholder is in it.
func isHost(host string) bool {
	return host != "" && !strings.ContainsAny(host, " \t\r\n/@?#\\")
}

// isBackendPath reports the same of the path of Meet's API.
func isBackendPath(path string) bool {
	t, err := parse.Target(path)
	return err == nil && t.Query == ""
}

// inBraces makes a block of tokens, which opens on the line of the token before
// and closes on one of its own.
func inBraces(before caddyfile.Token, tokens []caddyfile.Token) []caddyfile.Token {
	open, closing := before, tokens[len(tokens)-1]
	open.Text, closing.Text = "{", "}"
	closing.Line++
	block := append([]caddyfile.Token{open}, tokens...)
	return append(block, closing)
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
)
