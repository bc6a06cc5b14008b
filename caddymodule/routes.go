// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// endpoint is the kind of a route. It is a label in metrics and logs.
type endpoint string

const (
	endpointToken            endpoint = "token"
	endpointRevoke           endpoint = "revoke"
	endpointIntrospect       endpoint = "introspect"
	endpointIdentity         endpoint = "identity"
	endpointIdentitySource   endpoint = "identity_source"
	endpointRoomsList        endpoint = "rooms_list"
	endpointRoomsCreate      endpoint = "rooms_create"
	endpointRoomsRetrieve    endpoint = "rooms_retrieve"
	endpointJWKS             endpoint = "jwks"
	endpointServerMetadata   endpoint = "server_metadata"
	endpointResourceMetadata endpoint = "resource_metadata"
	endpointOpenAPI          endpoint = "openapi"
	endpointDocs             endpoint = "docs"
	endpointOperator         endpoint = "operator" // opened by the operator
	endpointNone             endpoint = "none"     // no route matched
)

// Paths of the endpoints with client authentication.
const (
	pathToken      = "/application/token"
	pathRevoke     = "/application/revoke"
	pathIntrospect = "/application/introspect"
)

// pathMeetToken is the path of Meet's token endpoint below its API.
const pathMeetToken = pathToken + "/"

// Route opens one path of Meet's external API. Paths that are not opened do not reach
// Meet.
type Route struct {
	// The HTTP method: GET, POST, PUT, PATCH or DELETE. GET includes HEAD.
	Method string `json:"method"`
	// The path below the base path, without a trailing slash. Each segment is a literal
	// of a-z, 0-9, `-`, `.` and `_`, or `{id}` for a UUID, or `{slug}` for the slug of
	// a room. Paths of the gateway's own endpoints cannot be opened.
	Path string `json:"path"`
	// The scope that a token needs, such as `rooms:update`.
	Scope string `json:"scope"`
	// The names of body fields, at any depth, that hold users' mail addresses. Each
	// address must be one that the application may act for, and counts against the
	// quota of new users; an `@` in any other text is refused. `none` alone allows any
	// text. Default: each text with an `@` must be an address that the application may
	// act for.
	Mail []string `json:"mail,omitempty"`
	// Whether the route supports `Idempotency-Key`, as room creation does. Default:
	// false.
	Idempotent bool `json:"idempotent,omitempty"`
	// Whether the answer contains a credential and must not be logged or stored.
	// Excludes `idempotent`. Default: false.
	Sensitive bool `json:"sensitive,omitempty"`
}

// segmentKind is what a segment of a pattern matches.
type segmentKind uint8

const (
	segmentLiteral segmentKind = iota
	segmentID                  // a UUID
	segmentSlug                // a room's slug
)

type segment struct {
	kind    segmentKind
	literal string
}

// action is what a pattern does for one method.
type action struct {
	method   string
	endpoint endpoint
	scope    string   // empty if the endpoint checks no scope
	scopes   []string // scope in a list
	route    *Route   // nil unless the operator opened it
	served   prometheus.Counter
	seconds  observers
}

// pattern is a path of the route table.
type pattern struct {
	template string // "/rooms/{id}"
	segments []segment
	actions  []action
	allow    string // value of the Allow header
}

// match is the result of looking up a path.
type match struct {
	pattern *pattern
	// id is the first {id} segment in lower case with dashes, or empty if there is none
	// or it is not a UUID.
	id string
	// path is rebuilt from the parsed segments, without a trailing slash.
	path string
	// invalid is true if a typed segment does not match its type. That is not found,
	// but only for callers with a valid token, as at Meet.
	invalid bool
}

// roomInPath returns the id of the room that a path below /rooms/{id} is about, or "".
func (m match) roomInPath() string {
	if m.pattern == nil || len(m.pattern.segments) < 2 || m.pattern.segments[0].literal != "rooms" || m.pattern.segments[1].kind != segmentID {
		return ""
	}
	return m.id
}

// room returns the id if the path is that of a room itself, or "".
func (m match) room() string {
	if m.pattern == nil || len(m.pattern.segments) != 2 {
		return ""
	}
	return m.roomInPath()
}

// routeTable is the closed list of served paths.
type routeTable struct {
	patterns []*pattern
}

// newRouteTable returns the published routes and those that the operator opened.
func newRouteTable(routes []Route) (*routeTable, error) {
	t := &routeTable{}
	for _, r := range []struct {
		path, method string
		endpoint     endpoint
		scope        string
	}{
		{pathToken, http.MethodPost, endpointToken, ""},
		{pathRevoke, http.MethodPost, endpointRevoke, ""},
		{pathIntrospect, http.MethodPost, endpointIntrospect, ""},
		{"/identity", http.MethodGet, endpointIdentity, ""},
		{"/identity/source", http.MethodGet, endpointIdentitySource, ""},
		{"/rooms", http.MethodGet, endpointRoomsList, "rooms:list"},
		{"/rooms", http.MethodPost, endpointRoomsCreate, "rooms:create"},
		{"/rooms/{id}", http.MethodGet, endpointRoomsRetrieve, "rooms:retrieve"},
		{pathJWKS, http.MethodGet, endpointJWKS, ""},
		{pathServerMetadata, http.MethodGet, endpointServerMetadata, ""},
		{pathResourceMetadata, http.MethodGet, endpointResourceMetadata, ""},
		{pathOpenAPIYAML, http.MethodGet, endpointOpenAPI, ""},
		{pathOpenAPIJSON, http.MethodGet, endpointOpenAPI, ""},
	} {
		if err := t.add(r.path, r.method, r.endpoint, r.scope, nil); err != nil {
			return nil, err
		}
	}
	for _, r := range routes {
		if err := r.validate(); err != nil {
			return nil, err
		}
		if err := t.add(r.Path, r.Method, endpointOperator, r.Scope, &r); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// addDocs adds the page for integrators and its assets, which are not part of the API's
// description.
func (t *routeTable) addDocs() error {
	for _, path := range []string{pathDocs, pathDocs + "/style.css", pathDocs + "/try.js"} {
		if err := t.add(path, http.MethodGet, endpointDocs, "", nil); err != nil {
			return err
		}
	}
	return nil
}

func (t *routeTable) add(path, method string, at endpoint, scope string, route *Route) error {
	segments, err := parsePattern(path)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(t.patterns, func(p *pattern) bool { return slices.Equal(p.segments, segments) })
	if i < 0 {
		t.patterns = append(t.patterns, &pattern{template: path, segments: segments})
		// At the same position a literal is preferred to a typed segment.
		slices.SortStableFunc(t.patterns, func(a, b *pattern) int { return slices.CompareFunc(a.segments, b.segments, compareKind) })
		i = slices.IndexFunc(t.patterns, func(p *pattern) bool { return slices.Equal(p.segments, segments) })
	}
	p := t.patterns[i]
	if p.action(method) != nil {
		return fmt.Errorf("duplicate route %s %s", method, path)
	}
	var scopes []string
	if scope != "" {
		scopes = []string{scope}
	}
	p.actions = append(p.actions, action{method, at, scope, scopes, route, requestsTotal.WithLabelValues(string(at), outcomeOK), newObservers(at)})
	p.allow = p.allowed()
	return nil
}

// scopes returns all scopes that routes require.
func (t *routeTable) scopes() tokens.Scopes {
	var scopes tokens.Scopes
	for _, p := range t.patterns {
		for _, a := range p.actions {
			if a.scope != "" && !scopes.Has(a.scope) {
				scopes = append(scopes, a.scope)
			}
		}
	}
	return scopes
}

func compareKind(a, b segment) int { return int(a.kind) - int(b.kind) }

// action returns the action for a method, or nil. HEAD is served like GET (RFC 9110
// §9.3.2).
func (p *pattern) action(method string) *action {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for i := range p.actions {
		if p.actions[i].method == method {
			return &p.actions[i]
		}
	}
	return nil
}

func (p *pattern) allowed() string {
	var methods []string
	for _, a := range p.actions {
		methods = append(methods, a.method)
		if a.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// lookup finds the pattern of a path below the base path, which parse.Target has
// accepted.
func (t *routeTable) lookup(path string) (match, bool) {
	var invalid match // the first pattern that matches but for types
	segments := strings.Count(path, "/")
	for _, p := range t.patterns {
		if len(p.segments) != segments {
			continue
		}
		m, ok := p.match(path)
		if ok && !m.invalid {
			return m, true
		}
		if ok && invalid.pattern == nil {
			invalid = m
		}
	}
	return invalid, invalid.pattern != nil
}

// match matches a path with the right number of segments.
func (p *pattern) match(path string) (match, bool) {
	m := match{pattern: p, path: path}
	rest := path
	for _, s := range p.segments {
		var value string
		value, rest = cutSegment(rest)
		switch s.kind {
		case segmentLiteral:
			if value != s.literal {
				return match{}, false
			}
		case segmentID:
			id, ok := canonicalUUID(value)
			if !ok {
				m.invalid = true
				continue
			}
			if id != value {
				// Replaced by position: another segment may have the same text.
				m.path = m.path[:len(m.path)-len(rest)-len(value)] + id + rest
			}
			if !m.invalid {
				m.id = cmp.Or(m.id, id)
			}
		case segmentSlug:
			if !isSlug(value) {
				m.invalid = true
			}
		}
	}
	return m, true
}

// cutSegment splits "/a/b" into "a" and "/b".
func cutSegment(path string) (value, rest string) {
	path = path[1:]
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}

func parsePattern(path string) ([]segment, error) {
	if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") {
		return nil, fmt.Errorf("path %q must begin with a slash and not end with one", path)
	}
	var segments []segment
	for s := range strings.SplitSeq(path[1:], "/") {
		switch {
		case s == "{id}":
			segments = append(segments, segment{kind: segmentID})
		case s == "{slug}":
			segments = append(segments, segment{kind: segmentSlug})
		case isLiteral(s):
			segments = append(segments, segment{literal: s})
		case strings.Contains(s, "{"):
			return nil, fmt.Errorf("path %q: write {id} for a UUID and {slug} for a room's slug; Caddy's placeholders, such as {uuid}, are not supported here", path)
		default:
			return nil, fmt.Errorf("path %q: a segment is {id}, {slug} or made of a-z, 0-9, -, . and _", path)
		}
	}
	return segments, nil
}

func (r Route) validate() error {
	switch r.Method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		return fmt.Errorf("route method %q is not one of GET, POST, PUT, PATCH, DELETE", r.Method)
	}
	if first, _, _ := strings.Cut(strings.TrimPrefix(r.Path, "/"), "/"); isReserved(first) {
		return fmt.Errorf("route path %q is below one of the gateway's own endpoints: application, identity, openapi, .well-known", r.Path)
	}
	if !strings.HasPrefix(r.Path, "/") || strings.HasPrefix(r.Path, "/{") {
		return fmt.Errorf("route path %q must begin with a slash and a literal segment, such as /rooms/{id}", r.Path)
	}
	if r.Scope == "" {
		return errors.New("a route needs a scope")
	}
	if scopes, err := tokens.NewScopes(r.Scope); err != nil || len(scopes) != 1 {
		return fmt.Errorf("route scope %q must be one word such as rooms:update", r.Scope)
	}
	for i, field := range r.Mail {
		switch {
		case field == judgeNoMail && len(r.Mail) > 1:
			return errors.New("route mail: none must be the only value")
		case !isFieldName(field):
			return fmt.Errorf("route mail: %q is not the name of a field", field)
		case slices.Contains(r.Mail[:i], field):
			return fmt.Errorf("route mail: duplicate %s", field)
		case field == fieldAccessLevel:
			return errors.New("route mail: access_level does not contain mail addresses")
		}
	}
	if r.Idempotent && r.Method == http.MethodGet {
		return errors.New("route idempotent: not for GET, which changes nothing")
	}
	if r.Idempotent && r.Sensitive {
		return errors.New("route idempotent stores the answer, which sensitive forbids")
	}
	return nil
}

// isReserved reports whether a path's first segment belongs to the gateway's own
// endpoints.
func isReserved(segment string) bool {
	switch segment {
	case "application", "identity", ".well-known", "openapi.yaml", "openapi.json":
		return true
	}
	return false
}

// Characters of the texts that a route is made of.
const (
	lowerDigits   = "abcdefghijklmnopqrstuvwxyz0123456789"
	literalChars  = lowerDigits + "-_."
	fieldChars    = lowerDigits + "_"
	slugChars     = lowerDigits + "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_" // Django's
	maxFieldName  = 64
	maxSlugLength = 100
)

// consistsOf reports whether s is not empty and contains only chars.
func consistsOf(s, chars string) bool { return s != "" && strings.TrimLeft(s, chars) == "" }

func isFieldName(s string) bool { return len(s) <= maxFieldName && consistsOf(s, fieldChars) }

func isLiteral(s string) bool { return s != "." && s != ".." && consistsOf(s, literalChars) }

// isSlug reports whether s has the form of a room's slug.
func isSlug(s string) bool { return len(s) <= maxSlugLength && consistsOf(s, slugChars) }

// canonicalUUID returns s in lower case with dashes (RFC 9562 §4). Like Meet, it
// accepts either case and leaves dashes optional.
func canonicalUUID(s string) (string, bool) {
	const dashed, bare = 36, 32 // package uuid accepts other forms too
	if len(s) != dashed && len(s) != bare || uuid.Validate(s) != nil {
		return "", false
	}
	s = strings.ToLower(s)
	if len(s) == bare {
		s = s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
	}
	return s, true
}
