// SPDX-License-Identifier: MIT

// Package admin adds the gateway's own resources to Caddy's admin API. It knows the
// running app only as a [Gateway].
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"
	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/caddymodule/strictjson"
	"github.com/meet-gateway/meet-gateway/tokens"
)

func init() {
	caddy.RegisterModule(api{})
}

// Bounds of request bodies.
const (
	maxBody       = 1 << 20
	maxImportBody = 128 << 20
)

// changeTime bounds a call that changes something, including the reading of its body.
// Applying a file with thousands of applications takes minutes.
const changeTime = 15 * time.Minute

// api serves the gateway's administration below /meet-gateway/ on Caddy's admin endpoint.
// It answers in JSON, and errors as problem details (RFC 9457). docs/admin-api.md describes
// it.
//
// Caddy decides who may call it: by the address and permissions of the local endpoint, or
// by the access control of remote administration.
type api struct {
	// active returns the running app. Tests replace it.
	active func() (Gateway, error)
}

// Gateway is the app of the running configuration.
type Gateway interface {
	// Authority issues and verifies tokens.
	Authority() *tokens.Authority
	// Logger is the app's logger; the audit log is a child of it.
	Logger() *zap.Logger
	// Routes returns the open paths of each handler.
	Routes() []wire.Routes
	// Backends returns the state of each handler's backend.
	Backends() []wire.Backend
	// Version is the version of the program.
	Version() string
	// Diagnose runs the checks of the doctor, given the address of the admin endpoint. It
	// takes less than five seconds and reveals no secret.
	Diagnose(ctx context.Context, adminAddress string) wire.Diagnosis
}

// appName is the name of the app that implements Gateway.
const appName = "meet_gateway"

// errStarting means that no configuration has been loaded yet: Caddy opens its admin
// endpoint before it provisions the apps.
var errStarting = errors.New("the first configuration is still being loaded")

func activeGateway() (Gateway, error) {
	if caddy.ActiveContext().Context == nil {
		return nil, errStarting
	}
	app, err := caddy.ActiveContext().AppIfConfigured(appName)
	if err != nil {
		return nil, err
	}
	gateway, ok := app.(Gateway)
	if !ok {
		return nil, fmt.Errorf("the app %s is a %T", appName, app)
	}
	return gateway, nil
}

// CaddyModule returns the Caddy module information.
func (api) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID: "admin.api.meet_gateway",
		// Caddy creates admin modules before apps and keeps them longer, so the app is
		// looked up at each request.
		New: func() caddy.Module { return &api{active: activeGateway} },
	}
}

// Routes implements caddy.AdminRouter.
func (a *api) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: wire.Base, Handler: caddy.AdminHandlerFunc(a.serve)}}
}

// call is one request.
type call struct {
	w http.ResponseWriter
	r *http.Request
	// ctx is the context of the call's work. A change does not end with its request.
	ctx       context.Context
	gateway   Gateway
	authority *tokens.Authority
	// argument is the path segment that matched {id}.
	argument string
	audit    auditEntry
}

// resource is a path and its methods. {id} matches any segment.
type resource struct {
	path    string
	methods methods
}

type methods = map[string]func(*call) error

// resources are matched in order: a fixed segment wins over {id}.
var resources = []resource{
	{"applications", methods{http.MethodGet: (*call).listApplications, http.MethodPost: plain((*call).createApplication)}},
	{"applications/import", methods{http.MethodGet: plain((*call).showImports), http.MethodPost: (*call).importApplications}},
	{"applications/export", methods{http.MethodGet: (*call).exportApplications}},
	{"applications/apply", methods{http.MethodPut: plain((*call).applyApplications)}},
	{"applications/{id}", methods{
		http.MethodGet: plain((*call).showApplication), http.MethodPatch: plain((*call).patchApplication),
		http.MethodDelete: plain((*call).deleteApplication),
	}},
	{"applications/{id}/rotate", methods{http.MethodPost: plain((*call).rotateSecret)}},
	{"removed/{id}", methods{http.MethodDelete: plain((*call).allowAdoption)}},
	{"users/lookup", methods{http.MethodPost: plain((*call).lookUpUser)}},
	{"users/{id}", methods{http.MethodGet: plain((*call).showUser)}},
	{"revocations", methods{http.MethodPost: plain((*call).revoke)}},
	{"secrets/rekey", methods{http.MethodGet: plain((*call).showRekey), http.MethodPost: plain((*call).rekey)}},
	{"audit", methods{http.MethodGet: plain((*call).showAudit)}},
	{"status", methods{http.MethodGet: plain((*call).showStatus)}},
	{"doctor", methods{http.MethodGet: plain((*call).showDoctor)}},
	{"routes", methods{http.MethodGet: plain((*call).showRoutes)}},
	{"openapi.yaml", methods{http.MethodGet: plain((*call).showDescription)}},
	{"health/live", methods{http.MethodGet: plain((*call).showLive)}},
	{"health/ready", methods{http.MethodGet: plain((*call).showReady)}},
}

// plain refuses any query parameter, so that a misspelt or misplaced one is not ignored.
func plain(handle func(*call) error) func(*call) error {
	return func(c *call) error {
		if _, err := c.query(); err != nil {
			return err
		}
		return handle(c)
	}
}

// serve answers one request. It writes problem details itself, because a caddy.APIError
// has another form.
func (a *api) serve(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	c := &call{w: w, r: r, ctx: r.Context()}
	if err := a.dispatch(c); err != nil {
		p := problemOf(err)
		if p.Detail == detailNotAcknowledged && c.audit.action == "" {
			p.Detail = detailNoAnswer
		}
		c.recordRefusal(p)
		writeProblem(w, p)
		return nil
	}
	c.record("done")
	return nil
}

func (a *api) dispatch(c *call) error {
	handle, err := c.route()
	if err != nil {
		return err
	}
	gateway, err := a.active()
	if err != nil {
		if errors.Is(err, errStarting) {
			return &wire.Problem{Status: http.StatusServiceUnavailable, Detail: "The gateway is starting: its configuration is still being loaded.", RetryAfter: outageRetry}
		}
		return &wire.Problem{Status: http.StatusServiceUnavailable, Detail: "The running configuration has no meet_gateway app.", RetryAfter: outageRetry}
	}
	c.gateway, c.authority = gateway, gateway.Authority()
	if err := c.requireTrail(); err != nil {
		return err
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		var cancel context.CancelFunc
		c.ctx, cancel = context.WithTimeout(context.WithoutCancel(c.ctx), changeTime)
		defer cancel()
	}
	return handle(c)
}

// route finds the function for a request. Segments are matched as they were sent, so that
// an encoded slash is part of an id and not of the structure.
func (c *call) route() (func(*call) error, error) {
	path, found := strings.CutPrefix(c.r.URL.EscapedPath(), wire.Base)
	if !found {
		return nil, errPath
	}
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for _, route := range resources {
		argument, ok := matchPath(strings.Split(route.path, "/"), segments)
		if !ok {
			continue
		}
		c.argument = argument
		method := c.r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if handle, ok := route.methods[method]; ok {
			return handle, nil
		}
		c.w.Header().Set("Allow", allowedMethods(route.methods))
		return nil, &wire.Problem{Status: http.StatusMethodNotAllowed, Detail: "This resource takes " + allowedMethods(route.methods) + "."}
	}
	return nil, errPath
}

var errPath = &wire.Problem{Status: http.StatusNotFound, Detail: "There is no such resource; see docs/admin-api.md for those there are."}

func matchPath(pattern, segments []string) (argument string, ok bool) {
	if len(pattern) != len(segments) {
		return "", false
	}
	for i, s := range pattern {
		if s == "{id}" {
			text, err := url.PathUnescape(segments[i])
			if err != nil || text == "" {
				return "", false
			}
			argument = text
		} else if s != segments[i] {
			return "", false
		}
	}
	return argument, true
}

func allowedMethods(m methods) string {
	var allowed []string
	for method := range m {
		allowed = append(allowed, method)
		if method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	slices.Sort(allowed)
	return strings.Join(allowed, ", ")
}

// object reads the body: one JSON object with known fields only.
func (c *call) object(known []string) (map[string]json.RawMessage, error) {
	body, err := c.body(maxBody)
	if err != nil {
		return nil, err
	}
	return readObject(body, known)
}

// decode reads the body into a struct and refuses unknown fields.
func (c *call) decode(limit int64, into any, known ...string) error {
	body, err := c.body(limit)
	if err != nil {
		return err
	}
	if _, err := readObject(body, known); err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return typeProblem(err)
	}
	return nil
}

func (c *call) body(limit int64) ([]byte, error) {
	if err := c.wantJSON(); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	if err != nil {
		return nil, bodyProblem(err)
	}
	return body, nil
}

// wantJSON refuses other media types. A browser cannot send JSON across sites without a
// preflight, which Caddy's admin endpoint refuses.
func (c *call) wantJSON() error {
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && kind != "application/merge-patch+json" {
		return &wire.Problem{Status: http.StatusUnsupportedMediaType, Detail: "Send application/json."}
	}
	return nil
}

func bodyProblem(err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &wire.Problem{Status: http.StatusRequestEntityTooLarge, Detail: "The body is larger than " + humanize.IBytes(uint64(tooLarge.Limit)) + "."}
	}
	return &wire.Problem{Status: http.StatusBadRequest, Detail: "The body could not be read."}
}

// readObject checks that the body is one JSON object with known fields, each once.
func readObject(body []byte, known []string) (map[string]json.RawMessage, error) {
	object, err := strictjson.Object(body)
	if err != nil || object == nil {
		return nil, &wire.Problem{Status: http.StatusBadRequest, Detail: "The body must be one JSON object without repeated keys."}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(known, name) {
			return nil, &wire.Problem{Status: http.StatusBadRequest, Detail: "Unknown field. The fields are: " + strings.Join(known, ", ") + ".", Field: name}
		}
	}
	return object, nil
}

func (c *call) answer(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err // answered with 500
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append(body, '\n')) // the client may be gone
	return nil
}

// Interface guards
var (
	_ caddy.Module      = (*api)(nil)
	_ caddy.AdminRouter = (*api)(nil)
)
