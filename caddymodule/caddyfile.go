// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/meet-gateway/meet-gateway/caddymodule/health"
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

// parseGlobalOption parses the global option. Syntax:
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
// secret and signing_key may be repeated: the first one signs, all of them verify.
// limit may be repeated with other names.
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

// UnmarshalCaddyfile sets up the app from Caddyfile tokens. parseGlobalOption documents
// the syntax.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the option's name
	if d.NextArg() {
		return d.ArgErr()
	}
	err := option.Block(d,
		option.Once("store", a.unmarshalStore),
		option.Many("secret", option.Checked(option.Append(&a.Secrets), a.checkSecret)),
		option.Many("signing_key", option.Checked(option.Append(&a.SigningKeys), a.checkSigningKey)),
		option.Once("issuer", option.One(&a.Issuer)),
		option.Once("audience", option.One(&a.Audience)),
		option.Once("token_lifetime", option.Checked(option.Duration(&a.TokenLifetime), a.checkTimes)),
		option.Once("staleness", option.Checked(option.Duration(&a.Staleness), a.checkTimes)),
		option.Once("cache_entries", option.Positive(&a.CacheEntries)),
		option.Once("refresh", option.Checked(a.unmarshalRefresh, a.checkTimes)),
		option.Many("limit", a.unmarshalLimit),
		option.Once("gateways", option.Positive(&a.Gateways)).Formerly("nodes"),
		option.Once("quota_dry_run", option.Flag(&a.QuotaDryRun)).Formerly("fence_dry_run"),
		option.Once("health", option.Checked(option.One(&a.Health), a.checkHealth)),
		option.Once("audit", func(d *caddyfile.Dispenser) error {
			a.Audit = new(Audit)
			return a.Audit.unmarshalCaddyfile(d)
		}),
		option.Once("metrics_per_application", option.Positive(&a.MetricsPerApplication)),
		option.Once("quickstart", option.Flag(&a.Quickstart)),
	)
	if err != nil {
		return err
	}
	return a.checkWhole(d)
}

// The checks below run while the Caddyfile is read, so that an error names the line.

// checkSecret checks the last secret unless it is a placeholder.
func (a *App) checkSecret() error {
	if secret := a.Secrets[len(a.Secrets)-1]; !option.Holds(secret) && len(secret) < tokens.MinSecret {
		return fmt.Errorf("secret must be at least %d bytes long; make one with: openssl rand -base64 32", tokens.MinSecret)
	}
	return nil
}

// checkSigningKey checks the last signing key unless it is a placeholder.
func (a *App) checkSigningKey() error {
	key := a.SigningKeys[len(a.SigningKeys)-1]
	if key == signingSecret || option.Holds(key) {
		return nil
	}
	if _, err := signing.Parse([]byte(key)); err != nil {
		return errors.New("signing_key is not a private key in PEM; write {file./path/to/key.pem}, and make a key with: openssl genpkey -algorithm ed25519")
	}
	return nil
}

// checkTimes checks that durations do not contradict each other.
func (a *App) checkTimes() error { return a.authorityOptions().Check() }

func (a *App) checkHealth() error {
	if option.Holds(a.Health) || a.Health == healthOff {
		return nil
	}
	return health.ParseAddress(a.Health)
}

// unmarshalRefresh parses the block `refresh`.
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

// checkWhole reports missing options at the end of the block.
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

// unmarshalLimit parses `limit <name> <rate>`.
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
		return d.Errf("store needs a type, one of: %s%s", option.Join(storeNames()), emptyVariable("MEET_STORE"))
	}
	name := d.Val()
	if !slices.Contains(storeNames(), name) {
		return d.Errf("unknown store %q%s, expected one of: %s", name, option.Meant(name, storeNames()), option.Join(storeNames()))
	}
	mod, err := caddyfile.UnmarshalModule(d, storeNamespace+"."+name)
	if err != nil {
		return err
	}
	guest, ok := mod.(store.Store)
	if !ok {
		return d.Errf("module %s.%s is not a store", storeNamespace, name)
	}
	a.StoreRaw = caddyconfig.JSONModuleObject(guest, "type", name, nil)
	return nil
}

const storeNamespace = "meet_gateway.stores"

// storeNames lists the store modules in this binary.
func storeNames() []string {
	var names []string
	for _, info := range caddy.GetModules(storeNamespace) {
		names = append(names, info.ID.Name())
	}
	return names
}

// parseDirective parses the directive. Syntax:
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
// route may be repeated.
func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	if err := handler.unmarshalCaddyfile(h); err != nil {
		return nil, err
	}
	return handler, nil
}

func (h *Handler) unmarshalCaddyfile(helper httpcaddyfile.Helper) error {
	d := helper.Dispenser
	d.Next() // consume the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	err := option.Block(d,
		option.Once("base_path", option.Checked(option.All(&h.BasePaths), func() error {
			_, err := sortedBasePaths(h.BasePaths)
			return err
		})),
		option.Once("backend", func(*caddyfile.Dispenser) error { return h.unmarshalBackend(helper) }),
		option.Many("route", h.unmarshalRoute),
		option.Once("unknown_user_status", option.Choice(&h.UnknownUserStatus, 400, 404)),
		option.Once("not_a_member_status", option.Choice(&h.NotAMemberStatus, 403, 404)),
		option.Once("identity_invalid_status", option.Choice(&h.IdentityInvalidStatus, 401, 400)),
		option.Once("identity_error_style", option.Word(&h.IdentityErrorStyle, styleNumeric, styleString)),
		option.Once("unknown_applications", option.Word(&h.UnknownApplications, unknownRefuse, unknownAdopt)),
		option.Once("foreign_tokens", option.Word(&h.ForeignTokens, foreignRefuse, foreignPassthrough)),
		option.Once("room_access_levels", option.Checked(option.All(&h.RoomAccessLevels), func() error { return checkLevels(h.RoomAccessLevels) })),
		option.Once("strict_rooms", option.Flag(&h.StrictRooms)),
		option.Once("docs", option.Word(&h.Docs, docsOn, docsOff)),
		option.Once("room_url_base", option.Checked(option.One(&h.RoomURLBase), func() error {
			return checkRoomURLBase(strings.TrimRight(h.RoomURLBase, "/"))
		})),
		option.Once("max_token_body", option.Size(&h.MaxTokenBody)),
		option.Once("max_room_body", option.Size(&h.MaxRoomBody)),
		option.Once("exchange_timeout", option.Duration(&h.ExchangeTimeout)),
		option.Once("request_timeout", option.Duration(&h.RequestTimeout)),
		option.Once("max_exchanges", option.Positive(&h.MaxExchanges)),
		option.Once("renew", option.Checked(option.One(&h.Renew), func() error {
			_, err := h.renewFor()
			return err
		})),
	)
	if err != nil {
		return err
	}
	if h.BackendRaw == nil {
		return d.Err("meet_gateway needs a backend")
	}
	return nil
}

// unmarshalRoute parses a route, with or without a block:
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
	check := func() error {
		_, err := newRouteTable(append(slices.Clone(h.Routes), r))
		return err
	}
	if err := check(); err != nil {
		return d.WrapErr(err)
	}
	err := option.Block(d,
		option.Once("mail", option.Checked(option.All(&r.Mail), check)),
		option.Once("idempotent", option.Checked(option.Flag(&r.Idempotent), check)),
		option.Once("sensitive", option.Checked(option.Flag(&r.Sensitive), check)),
	)
	h.Routes = append(h.Routes, r)
	return err
}

// unmarshalBackend parses the gateway's own options of the block and passes the rest to
// the backend handler's parser.
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
		segment = append(segment, inBraces(segment[len(segment)-1], slices.Concat(others...))...)
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
		for _, other := range others {
			if strings.Contains(err.Error(), "unrecognized subdirective "+other[0].Text+",") { // not one of a block in the option
				return fmt.Errorf("%w (expected host, path, credentials or an option of reverse_proxy)%s", err, option.Meant(other[0].Text, []string{"host", "path", "credentials"}))
			}
		}
		return err
	}
	if err := proxy.FinalizeUnmarshalCaddyfile(guest); err != nil {
		return err
	}
	if len(proxy.Upstreams) == 0 && proxy.DynamicUpstreamsRaw == nil {
		line := caddyfile.NewDispenser(segment[:1]) // d is past the block
		line.Next()
		return line.Errf("backend needs an upstream, or `sandbox`%s", emptyVariable("MEET_BACKEND"))
	}
	h.BackendRaw = caddyconfig.JSONModuleObject(proxy, "handler", "reverse_proxy", nil)
	return nil
}

// unmarshalBackendOptions parses the gateway's own options of the block and returns the
// tokens of each of the others.
func (h *Handler) unmarshalBackendOptions(d *caddyfile.Dispenser) ([]caddyfile.Segment, error) {
	h.Credentials = new(Credentials)
	var others []caddyfile.Segment
	other := func(d *caddyfile.Dispenser) error {
		if d.Val() == "rewrite" || d.Val() == "method" {
			return d.Errf("%s is not allowed, because the gateway decides which request is sent; use path for the location of Meet's API", d.Val())
		}
		others = append(others, d.NextSegment())
		return nil
	}
	err := option.BlockOr(d, other,
		option.Once("host", option.Checked(option.One(&h.BackendHost), func() error {
			if !option.Holds(h.BackendHost) && !isHost(h.BackendHost) {
				return fmt.Errorf("host %q must be a host name such as meet.example.org, with a port if it is not the default one", h.BackendHost)
			}
			return nil
		})),
		option.Once("path", option.Checked(option.One(&h.BackendPath), func() error {
			if !isBackendPath(h.BackendPath) {
				return fmt.Errorf("path %q must be an absolute path such as %s", h.BackendPath, defaultBasePath)
			}
			return nil
		})),
		option.Once("credentials", option.Checked(option.Pair(&h.Credentials.ClientID, &h.Credentials.ClientSecret), func() error {
			if (h.Credentials.ClientID == "") != (h.Credentials.ClientSecret == "") {
				return errors.New("credentials need a client id and a client secret; one of them is empty")
			}
			return nil
		})),
	)
	if *h.Credentials == (Credentials{}) {
		h.Credentials = nil
	}
	return others, err
}

// isHost reports whether Meet's client accepts host, which contains no placeholder, as
// a host name.
func isHost(host string) bool {
	return host != "" && !strings.ContainsAny(host, " \t\r\n/@?#\\")
}

// isBackendPath reports whether Meet's client accepts path as the path of the API.
func isBackendPath(path string) bool {
	t, err := parse.Target(path)
	return err == nil && t.Query == ""
}

// inBraces wraps tokens in a block that opens on the line of before.
func inBraces(before caddyfile.Token, tokens []caddyfile.Token) []caddyfile.Token {
	open, closing := before, tokens[len(tokens)-1]
	open.Text, closing.Text = "{", "}"
	closing.Line++
	block := append([]caddyfile.Token{open}, tokens...)
	return append(block, closing)
}

// emptyVariable returns a hint for a missing argument whose variable in the shipped
// Caddyfile is set but empty. Files given with --envfile are read after the
// environment.
func emptyVariable(name string) string {
	if value, set := os.LookupEnv(name); !set || value != "" {
		return ""
	}
	return fmt.Sprintf(" (%s is set and empty: unset it, or give it a value)", name)
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
)
