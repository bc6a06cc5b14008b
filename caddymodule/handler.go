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

// Defaults of the handler.
const (
	defaultBasePath     = "/external-api/v1.0"
	defaultMaxTokenBody = 8 << 10
	defaultMaxRoomBody  = 64 << 10
)

// Words of the handler's options.
const (
	foreignRefuse      = "refuse"
	foreignPassthrough = "passthrough"
	unknownRefuse      = "refuse"
	unknownAdopt       = "adopt"
	styleNumeric       = "numeric"
	styleString        = "string"
)

// Handler is the gate in front of Meet's external API. It answers every request
// by itself: what it does not know is 404, and nothing comes after it.
//
// It sets these placeholders for requests with a valid credential:
//
// Placeholder | Description
// ------------|-------------
// `{http.auth.user.id}` | The public id of the user (8 characters), or of the application for its own credential
// `{http.auth.user.client_id}` | The id of the application
// `{http.auth.user.scopes}` | What the credential may do, separated by spaces
// `{http.meet_gateway.endpoint}` | The endpoint, such as `rooms_list`
// `{http.meet_gateway.outcome}` | `ok`, or the reason of the refusal
// `{http.meet_gateway.request_id}` | The id of the request, as sent to Meet and to the caller
type Handler struct {
	// The paths under which the API is served, each with everything below it.
	// Default: `/external-api/v1.0`.
	BasePaths []string `json:"base_paths,omitempty"`

	// The handler that reaches Meet, usually `reverse_proxy`, or `meet_sandbox` for
	// trying out.
	BackendRaw json.RawMessage `json:"backend,omitempty" caddy:"namespace=http.handlers inline_key=handler"`

	// Meet's public host name, which is one of its ALLOWED_HOSTS, with the port if
	// it is not the default one. Default: the name in the first upstream.
	BackendHost string `json:"backend_host,omitempty"`

	// Where Meet serves its external API. Default: `/external-api/v1.0`.
	BackendPath string `json:"backend_path,omitempty"`

	// What applications without credentials of their own present at Meet.
	Credentials *Credentials `json:"credentials,omitempty"`

	// Further paths of Meet's external API that are open.
	Routes []Route `json:"routes,omitempty"`

	// The status for users whom Meet does not know: 400 as published, or 404 as
	// Meet. Default: 400.
	UnknownUserStatus int `json:"unknown_user_status,omitempty"`

	// The status for rooms of which the user is no member: 403 as Meet, or 404.
	// Default: 403.
	NotAMemberStatus int `json:"not_a_member_status,omitempty"`

	// The status of /identity for credentials that were read and are not valid:
	// 401, or 400 for clients that know no other. Default: 401.
	IdentityInvalidStatus int `json:"identity_invalid_status,omitempty"`

	// What `code` holds in errors of /identity: `numeric` for the status, with the
	// word in `error.code`, or `string` for the word. Default: `numeric`.
	IdentityErrorStyle string `json:"identity_error_style,omitempty"`

	// What happens to credentials that the gateway does not know: `refuse`, or
	// `adopt`, which tries them once at Meet and registers what Meet accepts.
	// Default: `refuse`.
	UnknownApplications string `json:"unknown_applications,omitempty"`

	// What happens to Bearer tokens that were issued elsewhere: `refuse`, or
	// `passthrough` to Meet as they are, for Meet's resource-server mode and add-ons.
	// Default: `refuse`.
	ForeignTokens string `json:"foreign_tokens,omitempty"`

	// The access levels that callers may give rooms, new ones and on opened routes.
	// The first is given to a new room where they ask for none. `meet` alone leaves
	// levels to Meet, and names none where the caller names none. Default: `trusted`,
	// `restricted`.
	RoomAccessLevels []string `json:"room_access_levels,omitempty"`

	// Whether bodies of room creations are dropped, as the published API says.
	// Default: false, access_level and configuration are passed on.
	StrictRooms bool `json:"strict_rooms,omitempty"`

	// Whether `/docs` below each base path is a page for integrators: a guide,
	// examples, the description of the API and a form to try it. `on` or `off`.
	// Default: `on`.
	Docs string `json:"docs,omitempty"`

	// Where rooms are on the web, such as `https://meet.example.org`: fills `url`
	// where Meet leaves it out. Default: none, `url` is then left out as well.
	RoomURLBase string `json:"room_url_base,omitempty"`

	// The largest body of a token request, in bytes. Default: 8192.
	MaxTokenBody int64 `json:"max_token_body,omitempty"`

	// The largest body of a request for rooms, in bytes. Default: 65536.
	MaxRoomBody int64 `json:"max_room_body,omitempty"`

	// The bound on one exchange at Meet. Default: 15s.
	ExchangeTimeout caddy.Duration `json:"exchange_timeout,omitempty"`

	// The bound on one request for rooms at Meet. Default: 10s.
	RequestTimeout caddy.Duration `json:"request_timeout,omitempty"`

	// How many exchanges run at once; each costs Meet a second of CPU. Default: 2.
	MaxExchanges int `json:"max_exchanges,omitempty"`

	// How long after a user's last request Meet's tokens are renewed before they end, off
	// the path of requests, such as `72h`; or `off`. One that Meet gives for less than a
	// day is renewed for users who are at work. Default: 24h.
	Renew string `json:"renew,omitempty"`

	app      *App
	ctx      caddy.Context
	events   *caddyevents.App
	basePath []string // longest first
	routes   *routeTable
	// scopes are those that the routes ask for.
	scopes tokens.Scopes
	// description is what the site serves of itself.
	description func() openAPI
	client      *backendclient.Client
	upstream    *upstream.Upstream
	fallback    backendclient.Credentials
	host        string
	sandbox     bool
	logger      *zap.Logger
}

// Credentials are what an application presents at Meet. Texts may hold
// placeholders.
type Credentials struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.meet_gateway", New: func() caddy.Module { return new(Handler) }}
}

// Provision sets the gate up. It makes no request.
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
	if routes := judgedByDefault(h.Routes); len(routes) > 0 {
		h.logger.Info("on opened routes every text with an @ must be a mail address that the application may act for, and access_level "+
			"one of room_access_levels; `mail` in the block of a route says otherwise", zap.Strings("routes", routes))
	}
	if err := h.provisionBackend(ctx); err != nil {
		return err
	}
	h.app.gates = append(h.app.gates, h)
	return readAddressesFromTheRight(ctx)
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

// Validate refuses values that an option cannot have.
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
	for i, level := range h.RoomAccessLevels {
		if level == levelsMeet && len(h.RoomAccessLevels) == 1 {
			continue
		}
		if level != levelTrusted && level != levelRestricted && level != levelPublic {
			return fmt.Errorf("room_access_levels: %q is not one of %s, %s, %s, or meet alone", level, levelTrusted, levelRestricted, levelPublic)
		}
		if slices.Contains(h.RoomAccessLevels[:i], level) {
			return fmt.Errorf("room_access_levels: duplicate %s", level)
		}
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

// sortedBasePaths checks the base paths and brings the longest to the front. The
// root becomes an empty text.
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

// provisionBackend loads the guest handler and makes the client that uses it.
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
		Detach:          keepTrace,
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

// resolveBackend finds out Meet's host name and the fallback credentials.
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
			return errors.New("backend credentials: client id and client secret belong together, one of them is empty")
		}
		h.fallback = backendclient.Credentials{ClientID: id, ClientSecret: secret}
	}

	switch g := guest.(type) {
	case *Sandbox:
		h.sandbox = true
		h.host = cmp.Or(h.host, sandboxHost)
		h.fallback = backendclient.Credentials{ClientID: sandboxClient, ClientSecret: sandboxSecret} // whatever is configured for a real Meet
		h.logger.Warn("the sandbox backend is for trying out: it is a Meet in memory, rooms lead nowhere and are lost when this process ends")
	case *reverseproxy.Handler:
		if g.Rewrite != nil {
			return errors.New("backend: rewrite would send another request than the one that was allowed; backend_path says where Meet's API is")
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

// upstreamHost is the name in the first upstream, if it can be told.
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

// keepHost stops reverse_proxy from replacing Host by the upstream's address, as
// it does for TLS upstreams: Meet refuses names that it does not know. An
// operator's own `header_up Host` stays.
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

// meetName tells one Meet's external API from another's: host and path.
func (h *Handler) meetName() string {
	return h.host + h.meetPath()
}

// meetPath is the path of Meet's external API, without a slash at the end.
func (h *Handler) meetPath() string {
	return strings.TrimRight(cmp.Or(h.BackendPath, defaultBasePath), "/")
}

// credentialsOf returns what an application presents at Meet.
func (h *Handler) credentialsOf(app *tokens.Application) backendclient.Credentials {
	if b := app.Backend; b != nil {
		return backendclient.Credentials{ClientID: b.ClientID, ClientSecret: b.ClientSecret}
	}
	return h.fallback
}

// ServeHTTP answers the request. It never calls next.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	settleClientIP(r)
	c := &call{h: h, w: w, address: address{r: r}, ctx: r.Context(), requestID: parse.RequestID(r.Header), began: time.Now(), endpoint: endpointNone}
	defer c.release()
	c.setAnswerHeaders()
	defer leaveBody(w)
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
