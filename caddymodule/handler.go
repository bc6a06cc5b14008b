// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/option"
	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/caddymodule/upstream"
	"github.com/meet-gateway/meet-gateway/tokens"
)

func init() {
	caddy.RegisterModule(Handler{})
}

const (
	defaultBasePath     = "/external-api/v1.0"
	defaultMaxTokenBody = 8 << 10
	defaultMaxRoomBody  = 64 << 10
)

// Values of the handler's options.
const (
	foreignRefuse      = "refuse"
	foreignPassthrough = "passthrough"
	unknownRefuse      = "refuse"
	unknownAdopt       = "adopt"
	styleNumeric       = "numeric"
	styleString        = "string"
)

// Handler is the gateway in front of Meet's external API. It answers every request
// itself and never calls the next handler; unknown paths get 404.
//
// It sets these placeholders for requests with a valid credential:
//
// Placeholder | Description
// ------------|-------------
// `{http.auth.user.id}` | The public id of the user (8 characters), or of the application if it presents its own credential
// `{http.auth.user.client_id}` | The id of the application
// `{http.auth.user.scopes}` | The scopes of the credential, separated by spaces
// `{http.meet_gateway.endpoint}` | The endpoint, such as `rooms_list`
// `{http.meet_gateway.outcome}` | `ok`, or the reason of the refusal
// `{http.meet_gateway.request_id}` | The id of the request, which is also sent to Meet and to the caller
type Handler struct {
	// The paths under which the API is served. Default: `/external-api/v1.0`.
	BasePaths []string `json:"base_paths,omitempty"`

	// The handler that reaches Meet: usually `reverse_proxy`, or `meet_sandbox` for
	// trying out. Required.
	BackendRaw json.RawMessage `json:"backend,omitempty" caddy:"namespace=http.handlers inline_key=handler"`

	// Meet's public host name, one of its ALLOWED_HOSTS, with the port unless it is the
	// default one. Default: the name in the first upstream.
	BackendHost string `json:"backend_host,omitempty"`

	// The path of Meet's external API. Default: `/external-api/v1.0`.
	BackendPath string `json:"backend_path,omitempty"`

	// The credentials at Meet of applications that have none of their own.
	Credentials *Credentials `json:"credentials,omitempty"`

	// Further paths of Meet's external API to open. Default: none.
	Routes []Route `json:"routes,omitempty"`

	// The status for users that Meet does not know: 400 as published, or 404 as Meet
	// answers. Default: 400.
	UnknownUserStatus int `json:"unknown_user_status,omitempty"`

	// The status for rooms that the user is not a member of: 403 as Meet answers, or
	// 404. Default: 403.
	NotAMemberStatus int `json:"not_a_member_status,omitempty"`

	// The status of /identity for well-formed credentials that are not valid: 401, or
	// 400 for clients that expect it. Default: 401.
	IdentityInvalidStatus int `json:"identity_invalid_status,omitempty"`

	// The value of `code` in errors of /identity: `numeric` for the HTTP status (the
	// error's name is then in `error.code`), or `string` for the name. Default:
	// `numeric`.
	IdentityErrorStyle string `json:"identity_error_style,omitempty"`

	// What to do with unknown client credentials: `refuse` them, or `adopt`, which
	// tries them once at Meet and registers the application if Meet accepts them.
	// Default: `refuse`.
	UnknownApplications string `json:"unknown_applications,omitempty"`

	// What to do with Bearer tokens of other issuers: `refuse` them, or `passthrough`
	// to Meet unchanged, for its resource-server mode and add-ons. Default: `refuse`.
	ForeignTokens string `json:"foreign_tokens,omitempty"`

	// The access levels that callers may give to rooms, when they create them and on
	// opened routes. New rooms get the first one by default. `meet` alone leaves levels
	// to Meet and sets none by default. Default: `trusted`, `restricted`.
	RoomAccessLevels []string `json:"room_access_levels,omitempty"`

	// Whether to ignore the bodies of room creations, as the published API says.
	// Default: false; `access_level` and `configuration` are passed on.
	StrictRooms bool `json:"strict_rooms,omitempty"`

	// Whether to serve a page for integrators at `/docs` below each base path, with a
	// guide, examples, the description of the API and a form to try it: `on` or `off`.
	// Default: `on`.
	Docs string `json:"docs,omitempty"`

	// The web address of rooms, such as `https://meet.example.org`, which fills in
	// `url` where Meet leaves it out. Default: none; `url` is then left out.
	RoomURLBase string `json:"room_url_base,omitempty"`

	// The maximum size of the bodies of token, revocation and introspection requests,
	// in bytes. Default: 8192.
	MaxTokenBody int64 `json:"max_token_body,omitempty"`

	// The maximum size of the bodies of requests for rooms and opened routes, in bytes.
	// Default: 65536.
	MaxRoomBody int64 `json:"max_room_body,omitempty"`

	// The timeout of an exchange at Meet. Default: 15s.
	ExchangeTimeout caddy.Duration `json:"exchange_timeout,omitempty"`

	// The timeout of one request for rooms or an opened route at Meet. Default: 10s.
	RequestTimeout caddy.Duration `json:"request_timeout,omitempty"`

	// The maximum number of concurrent exchanges; each costs Meet a second of CPU.
	// Default: 2.
	MaxExchanges int `json:"max_exchanges,omitempty"`

	// How long after a user's last request Meet's tokens are still renewed in the
	// background before they expire, such as `72h`, or `off`. A token with a lifetime
	// of less than a day is renewed only for users who are active. Default: 24h.
	Renew string `json:"renew,omitempty"`

	app      *App
	ctx      caddy.Context
	events   *caddyevents.App
	basePath []string // longest first
	routes   *routeTable
	// scopes are the scopes that the routes require.
	scopes tokens.Scopes
	// description returns the OpenAPI description that the site serves.
	description func() openAPI
	client      *backendclient.Client
	upstream    *upstream.Upstream
	fallback    backendclient.Credentials
	host        string
	sandbox     bool
	logger      *zap.Logger
}

// Credentials are the client id and secret of an application at Meet. Both may contain
// placeholders.
type Credentials struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.meet_gateway", New: func() caddy.Module { return new(Handler) }}
}

// Provision sets up the handler. It sends no request.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	mod, err := ctx.AppIfConfigured(appName)
	if err != nil {
		if errors.Is(err, caddy.ErrNotConfigured) {
			return errors.New("the meet_gateway directive needs the meet_gateway global option, with a store and a secret")
		}
		return err
	}
	h.app = mod.(*App)

	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting the events app: %w", err)
	}
	h.ctx, h.events = ctx, events.(*caddyevents.App)
	h.setDefaults()
	h.RoomURLBase = strings.TrimRight(h.RoomURLBase, "/")
	if h.basePath, err = sortedBasePaths(h.BasePaths); err != nil {
		return err
	}
	if h.routes, err = newRouteTable(h.Routes); err != nil {
		return err
	}
	if h.Docs == docsOn {
		if err := h.routes.addDocs(); err != nil {
			return err
		}
	}
	h.description = describeRoutes(h.Routes)
	h.scopes = h.routes.scopes()
	if routes := routesWithoutMail(h.Routes); len(routes) > 0 {
		h.logger.Info("on these routes, each text with an @ must be a mail address that the application may act for, and access_level "+
			"one of room_access_levels; configure `mail` in a route's block to change that", zap.Strings("routes", routes))
	}
	if err := h.provisionBackend(ctx); err != nil {
		return err
	}
	h.app.handlers = append(h.app.handlers, h)
	return setTrustedProxiesStrict(ctx)
}

func (h *Handler) setDefaults() {
	if len(h.BasePaths) == 0 {
		h.BasePaths = []string{defaultBasePath}
	}
	if len(h.RoomAccessLevels) == 0 {
		h.RoomAccessLevels = []string{levelTrusted, levelRestricted}
	}
	h.UnknownUserStatus = cmp.Or(h.UnknownUserStatus, http.StatusBadRequest)
	h.NotAMemberStatus = cmp.Or(h.NotAMemberStatus, http.StatusForbidden)
	h.IdentityInvalidStatus = cmp.Or(h.IdentityInvalidStatus, http.StatusUnauthorized)
	h.IdentityErrorStyle = cmp.Or(h.IdentityErrorStyle, styleNumeric)
	h.ForeignTokens = cmp.Or(h.ForeignTokens, foreignRefuse)
	h.Docs = cmp.Or(h.Docs, docsOn)
	h.Renew = cmp.Or(h.Renew, defaultRenew)
	h.UnknownApplications = cmp.Or(h.UnknownApplications, unknownRefuse)
	h.MaxTokenBody = cmp.Or(h.MaxTokenBody, defaultMaxTokenBody)
	h.MaxRoomBody = cmp.Or(h.MaxRoomBody, defaultMaxRoomBody)
}

// Validate checks the values of options.
func (h *Handler) Validate() error {
	for _, check := range []struct {
		option  string
		value   any
		allowed []any
	}{
		{"unknown_user_status", h.UnknownUserStatus, []any{400, 404}},
		{"not_a_member_status", h.NotAMemberStatus, []any{403, 404}},
		{"identity_invalid_status", h.IdentityInvalidStatus, []any{401, 400}},
		{"identity_error_style", h.IdentityErrorStyle, []any{styleNumeric, styleString}},
		{"docs", h.Docs, []any{docsOn, docsOff}},
		{"foreign_tokens", h.ForeignTokens, []any{foreignRefuse, foreignPassthrough}},
		{"unknown_applications", h.UnknownApplications, []any{unknownRefuse, unknownAdopt}},
	} {
		if !slices.Contains(check.allowed, check.value) {
			return fmt.Errorf("%s must be %v or %v, got %v", check.option, check.allowed[0], check.allowed[1], check.value)
		}
	}
	if err := checkLevels(h.RoomAccessLevels); err != nil {
		return err
	}
	if h.RoomURLBase != "" {
		if err := checkRoomURLBase(h.RoomURLBase); err != nil {
			return err
		}
	}
	if h.MaxTokenBody < 0 || h.MaxRoomBody < 0 || h.MaxExchanges < 0 || h.ExchangeTimeout < 0 || h.RequestTimeout < 0 {
		return errors.New("sizes, numbers and timeouts must not be negative")
	}
	return nil
}

// sortedBasePaths checks the base paths and sorts them, the longest first. The root
// becomes an empty string.
func sortedBasePaths(paths []string) ([]string, error) {
	var sorted []string
	for _, path := range paths {
		t, err := parse.Target(path)
		if err != nil || t.Query != "" || t.Path != "" && t.Slash {
			return nil, fmt.Errorf("base_path %q must be / or an absolute path without a trailing slash", path)
		}
		if slices.Contains(sorted, t.Path) {
			return nil, fmt.Errorf("duplicate base_path %q", path)
		}
		sorted = append(sorted, t.Path)
	}
	slices.SortStableFunc(sorted, func(a, b string) int { return len(b) - len(a) })
	return sorted, nil
}

// provisionBackend loads the backend handler and creates Meet's client on top of it.
func (h *Handler) provisionBackend(ctx caddy.Context) error {
	if h.BackendRaw == nil {
		return errors.New("no backend: write `backend <upstream>`, or `backend sandbox` for trying out")
	}
	raw := h.BackendRaw
	mod, err := ctx.LoadModule(h, "BackendRaw")
	if err != nil {
		return fmt.Errorf("loading the backend: %w", err)
	}
	guest := mod.(caddyhttp.MiddlewareHandler)
	if err := h.resolveBackend(guest); err != nil {
		return err
	}
	h.upstream = upstream.New(guest, raw, h.logger)
	transport := &observedTransport{next: h.upstream, host: h.host, token: h.meetPath() + pathMeetToken}
	options := backendclient.Options{
		Transport:       transport,
		Context:         h.upstream.Context,
		Detach:          detachedTrace,
		BasePath:        h.BackendPath,
		Host:            h.host,
		Store:           h.app.Authority(),
		MaxExchanges:    h.MaxExchanges,
		ExchangeTimeout: time.Duration(h.ExchangeTimeout),
		RequestTimeout:  time.Duration(h.RequestTimeout),
		MaxTokens:       cmp.Or(h.app.CacheEntries, tokens.DefaultCacheEntries),
		OnExchange:      observeExchange,
		Previous:        h.before(),
	}
	if options.RenewFor, err = h.renewFor(); err != nil {
		return err
	}
	if options.RenewFor > 0 {
		options.MayRenew = h.mayRenew
	}
	if h.client, err = backendclient.New(options); err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	return nil
}

// resolveBackend determines Meet's host name and the default credentials.
func (h *Handler) resolveBackend(guest caddyhttp.MiddlewareHandler) error {
	repl := caddy.NewReplacer()
	host, err := option.Resolve(repl, h.BackendHost)
	if err != nil {
		return fmt.Errorf("backend host: %w", err)
	}
	h.host = host
	if h.Credentials != nil {
		id, err := option.Resolve(repl, h.Credentials.ClientID)
		if err != nil {
			return fmt.Errorf("backend credentials: client id: %w", err)
		}
		secret, err := option.Resolve(repl, h.Credentials.ClientSecret)
		if err != nil {
			return fmt.Errorf("backend credentials: client secret: %w", err)
		}
		if (id == "") != (secret == "") {
			return errors.New("backend credentials need a client id and a client secret; one of them is empty")
		}
		h.fallback = backendclient.Credentials{ClientID: id, ClientSecret: secret}
	}

	switch g := guest.(type) {
	case *Sandbox:
		h.sandbox = true
		h.host = cmp.Or(h.host, sandboxHost)
		h.fallback = backendclient.Credentials{ClientID: sandboxClient, ClientSecret: sandboxSecret} // not the ones for a real Meet
		h.logger.Warn("the sandbox backend is for trying out: it is a Meet in memory, rooms lead nowhere and are lost when this process ends")
	case *reverseproxy.Handler:
		if g.Rewrite != nil {
			return errors.New("backend: rewrite is not allowed, because the gateway decides which request is sent; use backend_path for the location of Meet's API")
		}
		if h.host == "" {
			h.host = upstreamHost(g)
		}
		keepHost(g, h.host)
	}
	if h.fallback.ClientID == "" {
		h.logger.Warn("no credentials for Meet: only applications with backend credentials of their own can get tokens; write `credentials <client id> <client secret>` in the backend block")
	}
	if h.host == "" {
		return errors.New("no backend host: write `host <name>` in the backend block, with Meet's public host name")
	}
	return nil
}

// upstreamHost returns the host name of the first upstream, or "" if it is not known.
func upstreamHost(g *reverseproxy.Handler) string {
	if len(g.Upstreams) == 0 || strings.ContainsAny(g.Upstreams[0].Dial, "{/") {
		return ""
	}
	host, port, err := net.SplitHostPort(g.Upstreams[0].Dial)
	if err != nil {
		return ""
	}
	if port == "80" || port == "443" {
		return host
	}
	return net.JoinHostPort(host, port)
}

// keepHost stops reverse_proxy from setting Host to the address of a TLS upstream,
// since Meet refuses unknown names. An operator's own `header_up Host` is kept.
func keepHost(g *reverseproxy.Handler, host string) {
	transport, replaces := g.Transport.(reverseproxy.RequestHeaderOpsTransport)
	if !replaces || transport.RequestHeaderOps() == nil {
		return
	}
	if g.Headers == nil {
		g.Headers = new(headers.Handler)
	}
	if g.Headers.Request == nil {
		g.Headers.Request = new(headers.HeaderOps)
	}
	if g.Headers.Request.Set == nil {
		g.Headers.Request.Set = make(http.Header)
	}
	if g.Headers.Request.Set.Get("Host") == "" {
		g.Headers.Request.Set.Set("Host", host)
	}
}

// meetName identifies a Meet by its host and path.
func (h *Handler) meetName() string {
	return h.host + h.meetPath()
}

// meetPath returns the path of Meet's external API without a trailing slash.
func (h *Handler) meetPath() string {
	return strings.TrimRight(cmp.Or(h.BackendPath, defaultBasePath), "/")
}

// credentialsOf returns the credentials that Meet is shown on behalf of an application.
func (h *Handler) credentialsOf(app *tokens.Application) backendclient.Credentials {
	if b := app.Backend; b != nil {
		return backendclient.Credentials{ClientID: b.ClientID, ClientSecret: b.ClientSecret}
	}
	return h.fallback
}

// ServeHTTP answers the request. It never calls next.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	correctClientIP(r)
	c := &call{h: h, w: w, address: address{r: r}, ctx: r.Context(), requestID: parse.RequestID(r.Header), began: time.Now(), endpoint: endpointNone}
	defer c.release()
	c.setAnswerHeaders()
	defer skipUnreadBody(w)
	if err := c.serve(); err != nil {
		return c.refuse(err)
	}
	c.note(outcomeOK)
	c.measure(http.StatusOK)
	return nil
}

// Interface guards
var (
	_ caddy.Module                = (*Handler)(nil)
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
