package caddymodule

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/meet-gateway/meet-gateway/tokens"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminBase is where everything of the gateway is under Caddy's admin endpoint.
const adminBase = "/meet-gateway/"

// Bounds of what is read from an administrator.
const (
	maxAdminBody  = 1 << 20
	maxApplyBody  = 16 << 20
	maxImportBody = 128 << 20
)

// adminAPI serves the gateway's own administration below /meet-gateway/ on
// Caddy's admin endpoint: applications, users, revocation and status. It answers
// in JSON, errors as problem details (RFC 9457). docs/admin-api.md describes it.
//
// Caddy decides who may call it: the local endpoint's address and permissions, or
// the access control of remote administration.
type adminAPI struct {
	// active returns the app that is running. A field for tests.
	active func() (*App, error)
}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID: "admin.api.meet_gateway",
		// Caddy makes admin modules before there are apps and keeps them longer:
		// the app is looked up at each request.
		New: func() caddy.Module { return &adminAPI{active: ActiveApp} },
	}
}

// Routes implements caddy.AdminRouter.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: adminBase, Handler: caddy.AdminHandlerFunc(a.serve)}}
}

// adminCall is one request of an administrator.
type adminCall struct {
	w         http.ResponseWriter
	r         *http.Request
	app       *App
	authority *tokens.Authority
	// argument is the segment of the path that stands for {id}.
	argument string
	audit    auditEntry
}

// adminRoute is a path of the admin API and what its methods do. A segment
// {id} takes any text.
type adminRoute struct {
	path    string
	methods methods
}

type methods = map[string]func(*adminCall) error

// adminRoutes are looked through in order: words win over {id}.
var adminRoutes = []adminRoute{
	{"applications", methods{http.MethodGet: (*adminCall).listApplications, http.MethodPost: plain((*adminCall).createApplication)}},
	{"applications/import", methods{http.MethodGet: plain((*adminCall).showImports), http.MethodPost: (*adminCall).importApplications}},
	{"applications/export", methods{http.MethodGet: (*adminCall).exportApplications}},
	{"applications/apply", methods{http.MethodPut: plain((*adminCall).applyApplications)}},
	{"applications/{id}", methods{
		http.MethodGet: plain((*adminCall).showApplication), http.MethodPatch: plain((*adminCall).patchApplication),
		http.MethodDelete: plain((*adminCall).deleteApplication),
	}},
	{"applications/{id}/rotate", methods{http.MethodPost: plain((*adminCall).rotateSecret)}},
	{"removed/{id}", methods{http.MethodDelete: plain((*adminCall).allowAdoption)}},
	{"users/lookup", methods{http.MethodPost: plain((*adminCall).lookUpUser)}},
	{"users/{id}", methods{http.MethodGet: plain((*adminCall).showUser)}},
	{"revocations", methods{http.MethodPost: plain((*adminCall).revoke)}},
	{"status", methods{http.MethodGet: plain((*adminCall).showStatus)}},
	{"routes", methods{http.MethodGet: plain((*adminCall).showRoutes)}},
	{"health/live", methods{http.MethodGet: plain((*adminCall).showLive)}},
	{"health/ready", methods{http.MethodGet: plain((*adminCall).showReady)}},
}

// plain is for what takes no parameters: a misspelt or misplaced one must not be
// overlooked.
func plain(handle func(*adminCall) error) func(*adminCall) error {
	return func(c *adminCall) error {
		if _, err := c.query(); err != nil {
			return err
		}
		return handle(c)
	}
}

// serve answers one request. It writes problem details itself instead of
// returning a caddy.APIError, whose form is another one.
func (a *adminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	c := &adminCall{w: w, r: r}
	if err := a.dispatch(c); err != nil {
		p := problemOf(err)
		if p.Detail == detailNotAcknowledged && c.audit.action == "" {
			p.Detail = detailNoAnswer
		}
		c.recordRefusal(p)
		p.write(w)
		return nil
	}
	c.recordSuccess()
	return nil
}

func (a *adminAPI) dispatch(c *adminCall) error {
	handle, err := c.route()
	if err != nil {
		return err
	}
	app, err := a.active()
	if err != nil {
		// Without its app it serves nothing, and says so.
		return &problem{Status: http.StatusServiceUnavailable, Detail: "The running configuration has no meet_gateway app.", retryAfter: outageRetry}
	}
	c.app, c.authority = app, app.Authority()
	return handle(c)
}

// route finds what to do. Paths are matched segment by segment as they were
// sent, so that an encoded slash belongs to an id and never to the structure.
func (c *adminCall) route() (func(*adminCall) error, error) {
	path, found := strings.CutPrefix(c.r.URL.EscapedPath(), adminBase)
	if !found {
		return nil, errAdminPath
	}
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for _, route := range adminRoutes {
		argument, ok := matchAdminPath(strings.Split(route.path, "/"), segments)
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
		return nil, &problem{Status: http.StatusMethodNotAllowed, Detail: "This resource takes " + allowedMethods(route.methods) + "."}
	}
	return nil, errAdminPath
}

var errAdminPath = &problem{Status: http.StatusNotFound, Detail: "There is no such resource; see docs/admin-api.md for those there are."}

func matchAdminPath(pattern, segments []string) (argument string, ok bool) {
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

// object reads the body: one JSON object with none but the known fields.
func (c *adminCall) object(known func(string) bool) (map[string]json.RawMessage, error) {
	body, err := c.body(maxAdminBody)
	if err != nil {
		return nil, err
	}
	return readObject(body, known)
}

// decode reads the body into a struct and refuses fields that it does not have.
func (c *adminCall) decode(limit int64, into any, known ...string) error {
	body, err := c.body(limit)
	if err != nil {
		return err
	}
	if _, err := readObject(body, func(name string) bool { return slices.Contains(known, name) }); err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return typeProblem(err)
	}
	return nil
}

// body reads the whole body.
func (c *adminCall) body(limit int64) ([]byte, error) {
	if err := c.wantJSON(); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	if err != nil {
		return nil, bodyProblem(err)
	}
	return body, nil
}

// wantJSON refuses what says to be something else. A browser cannot send JSON
// across sites without asking first, which Caddy's admin endpoint refuses.
func (c *adminCall) wantJSON() error {
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && kind != "application/merge-patch+json" {
		return &problem{Status: http.StatusUnsupportedMediaType, Detail: "Send application/json."}
	}
	return nil
}

func bodyProblem(err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{Status: http.StatusRequestEntityTooLarge, Detail: "The body is larger than " + bytesText(tooLarge.Limit) + "."}
	}
	return &problem{Status: http.StatusBadRequest, Detail: "The body could not be read."}
}

// readObject checks that the body is one JSON object of known fields, each once.
func readObject(body []byte, known func(string) bool) (map[string]json.RawMessage, error) {
	object, err := parseJSONObject(body)
	if err != nil || object == nil {
		return nil, &problem{Status: http.StatusBadRequest, Detail: "The body must be one JSON object without repeated keys."}
	}
	for _, name := range slices.Sorted(keysOf(object)) {
		if !known(name) {
			return nil, &problem{Status: http.StatusBadRequest, Detail: "Unknown field.", Field: name}
		}
	}
	return object, nil
}

// answer writes JSON.
func (c *adminCall) answer(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err //nolint:wrapcheck // a 500 that says so
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append(body, '\n')) // whoever asked has gone away
	return nil
}

// Interface guards
var (
	_ caddy.Module      = (*adminAPI)(nil)
	_ caddy.AdminRouter = (*adminAPI)(nil)
)
