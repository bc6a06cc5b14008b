// SPDX-License-Identifier: MIT

package caddymodule

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

const sampleID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

func TestRouteTable_Lookup(t *testing.T) {
	table, err := newRouteTable([]Route{
		{Method: http.MethodPatch, Path: "/rooms/{id}", Scope: "rooms:update"},
		{Method: http.MethodPost, Path: "/rooms/{id}/grant-access", Scope: "rooms:grant-access"},
		{Method: http.MethodGet, Path: "/rooms/by-slug/{slug}", Scope: "rooms:retrieve"},
		{Method: http.MethodDelete, Path: "/rooms/archive", Scope: "rooms:delete"},
		{Method: http.MethodPost, Path: "/rooms/{slug}/merge/{id}", Scope: "rooms:update"},
		{Method: http.MethodPut, Path: "/rooms/{id}/accesses/{id}", Scope: "rooms:update"},
		{Method: http.MethodGet, Path: "/users/{id}", Scope: "users:read"},
	})
	require.NoError(t, err)
	const (
		upper      = "7C9E6679742540DE944BE07FC1F90AE7" // a slug, too
		otherID    = "00000000-0000-4000-8000-00000000000f"
		otherUpper = "0000000000004000800000000000000F"
	)

	for _, tc := range []struct {
		path, method string
		template     string
		endpoint     endpoint
		scope        string
		id, upstream string
		invalid      bool
	}{
		{"/application/token", "POST", "/application/token", endpointToken, "", "", "/application/token", false},
		{"/identity", "GET", "/identity", endpointIdentity, "", "", "/identity", false},
		{"/identity", "HEAD", "/identity", endpointIdentity, "", "", "/identity", false},
		{"/identity/source", "GET", "/identity/source", endpointIdentitySource, "", "", "/identity/source", false},
		{"/rooms", "GET", "/rooms", endpointRoomsList, "rooms:list", "", "/rooms", false},
		{"/rooms", "POST", "/rooms", endpointRoomsCreate, "rooms:create", "", "/rooms", false},
		{"/rooms/" + sampleID, "GET", "/rooms/{id}", endpointRoomsRetrieve, "rooms:retrieve", sampleID, "/rooms/" + sampleID, false},
		{"/rooms/7C9E6679-7425-40DE-944B-E07FC1F90AE7", "HEAD", "/rooms/{id}", endpointRoomsRetrieve, "rooms:retrieve", sampleID, "/rooms/" + sampleID, false},
		{"/rooms/7c9e6679742540de944be07fc1f90ae7", "GET", "/rooms/{id}", endpointRoomsRetrieve, "rooms:retrieve", sampleID, "/rooms/" + sampleID, false},
		{"/rooms/aae-erez-aaz", "GET", "/rooms/{id}", endpointRoomsRetrieve, "rooms:retrieve", "", "/rooms/aae-erez-aaz", true},
		{"/rooms/" + sampleID, "PATCH", "/rooms/{id}", endpointOperator, "rooms:update", sampleID, "/rooms/" + sampleID, false},
		{"/rooms/" + sampleID + "/grant-access", "POST", "/rooms/{id}/grant-access", endpointOperator, "rooms:grant-access", sampleID, "/rooms/" + sampleID + "/grant-access", false},
		{"/rooms/by-slug/aae-erez-aaz", "GET", "/rooms/by-slug/{slug}", endpointOperator, "rooms:retrieve", "", "/rooms/by-slug/aae-erez-aaz", false},
		{"/rooms/archive", "DELETE", "/rooms/archive", endpointOperator, "rooms:delete", "", "/rooms/archive", false},
		{"/rooms/" + upper + "/merge/" + upper, "POST", "/rooms/{slug}/merge/{id}", endpointOperator, "rooms:update", sampleID, "/rooms/" + upper + "/merge/" + sampleID, false},
		{"/rooms/" + upper + "x/merge/" + upper, "POST", "/rooms/{slug}/merge/{id}", endpointOperator, "rooms:update", sampleID, "/rooms/" + upper + "x/merge/" + sampleID, false},
		{"/rooms/" + upper + "/accesses/" + upper, "PUT", "/rooms/{id}/accesses/{id}", endpointOperator, "rooms:update", sampleID, "/rooms/" + sampleID + "/accesses/" + sampleID, false},
		{"/rooms/" + sampleID + "/accesses/" + otherUpper, "PUT", "/rooms/{id}/accesses/{id}", endpointOperator, "rooms:update", sampleID, "/rooms/" + sampleID + "/accesses/" + otherID, false},
		{"/rooms/" + otherUpper + "/accesses/" + sampleID, "PUT", "/rooms/{id}/accesses/{id}", endpointOperator, "rooms:update", otherID, "/rooms/" + otherID + "/accesses/" + sampleID, false},
		{"/rooms/" + sampleID + "/accesses/x", "PUT", "/rooms/{id}/accesses/{id}", endpointOperator, "rooms:update", sampleID, "/rooms/" + sampleID + "/accesses/x", true},
		{"/rooms/x/accesses/" + sampleID, "PUT", "/rooms/{id}/accesses/{id}", endpointOperator, "rooms:update", "", "/rooms/x/accesses/" + sampleID, true},
		{"/users/" + sampleID, "GET", "/users/{id}", endpointOperator, "users:read", sampleID, "/users/" + sampleID, false},
	} {
		m, ok := table.lookup(tc.path)
		require.True(t, ok, tc.path)
		require.Equal(t, tc.template, m.pattern.template, tc.path)
		require.Equal(t, tc.id, m.id, tc.path)
		require.Equal(t, tc.upstream, m.path, tc.path)
		require.Equal(t, tc.invalid, m.invalid, tc.path)
		a := m.pattern.action(tc.method)
		require.NotNil(t, a, tc.path)
		require.Equal(t, tc.endpoint, a.endpoint, tc.path)
		require.Equal(t, tc.scope, a.scope, tc.path)
	}
}

// room returns the room of a path without further segments, and roomInPath the room at its
// start.
func TestMatch_Rooms(t *testing.T) {
	table, err := newRouteTable([]Route{
		{Method: http.MethodPut, Path: "/rooms/{id}/accesses/{id}", Scope: "x"},
		{Method: http.MethodPost, Path: "/rooms/{slug}/merge/{id}", Scope: "x"},
		{Method: http.MethodGet, Path: "/users/{id}", Scope: "x"},
		{Method: http.MethodGet, Path: "/rooms/of/{id}", Scope: "x"},
	})
	require.NoError(t, err)
	const otherID = "00000000-0000-4000-8000-00000000000f"
	for path, want := range map[string][2]string{
		"/rooms/" + sampleID:                          {sampleID, sampleID},
		"/rooms/" + sampleID + "/accesses/" + otherID: {"", sampleID},
		"/rooms/a-slug/merge/" + sampleID:             {"", ""},
		"/users/" + sampleID:                          {"", ""},
		"/rooms/of/" + sampleID:                       {"", ""},
		"/rooms":                                      {"", ""},
	} {
		m, ok := table.lookup(path)
		require.True(t, ok, path)
		require.Equal(t, want, [2]string{m.room(), m.roomInPath()}, path)
	}
}

func TestRouteTable_UnknownPathsAndMethods(t *testing.T) {
	table, err := newRouteTable(nil)
	require.NoError(t, err)
	for _, path := range []string{
		"", "/", "/room", "/roomsx", "/Rooms", "/ROOMS", "/rooms/" + sampleID + "/x", "/rooms.json", "/rooms/x/y", "/application", "/application/tokens",
		"/identity/sources", "/identity/source/x", "/api/v1.0/users", "/admin", "/r%6Foms", "/application/token/x", "/__heartbeat__",
		"/.well-known", "/.well-known/openid-configuration", "/.well-known/jwksxjson", "/openapi", "/openapi.yml",
	} {
		if path == "/" {
			continue
		}
		_, ok := table.lookup(path)
		require.False(t, ok, path)
	}
	m, ok := table.lookup("/rooms/" + sampleID)
	require.True(t, ok)
	for _, method := range []string{"PUT", "PATCH", "DELETE", "POST", "OPTIONS", "TRACE", "CONNECT", "get", "GET ", ""} {
		require.Nil(t, m.pattern.action(method), method)
	}
	require.Equal(t, "GET, HEAD", m.pattern.allow)
}

func TestNewRouteTable_InvalidRoutes(t *testing.T) {
	for _, tc := range []struct {
		route Route
		want  string
	}{
		{Route{Method: "GET", Path: "/rooms/{id}", Scope: "x"}, "duplicate route GET /rooms/{id}"},
		{Route{Method: "get", Path: "/rooms/{id}/x", Scope: "x"}, `route method "get" is not one of GET, POST, PUT, PATCH, DELETE`},
		{Route{Method: "OPTIONS", Path: "/rooms/{id}/x", Scope: "x"}, `route method "OPTIONS" is not one of GET, POST, PUT, PATCH, DELETE`},
		{Route{Method: "POST", Path: "/application/token/x", Scope: "x"}, `route path "/application/token/x" is below one of the gateway's own endpoints: application, identity, openapi, .well-known`},
		{Route{Method: "GET", Path: "/{slug}/x", Scope: "x"}, `route path "/{slug}/x" must begin with a slash and a literal segment, such as /rooms/{id}`},
		{Route{Method: "GET", Path: "users", Scope: "x"}, `route path "users" must begin with a slash and a literal segment, such as /rooms/{id}`},
		{Route{Method: "POST", Path: "/users/x", Scope: "x", Mail: []string{"none", "email"}}, "route mail: none must be the only value"},
		{Route{Method: "POST", Path: "/users/x", Scope: "x", Mail: []string{"e mail"}}, `route mail: "e mail" is not the name of a field`},
		{Route{Method: "POST", Path: "/users/x", Scope: "x", Mail: []string{"email", "email"}}, "route mail: duplicate email"},
		{Route{Method: "POST", Path: "/users/x", Scope: "x", Mail: []string{"access_level"}}, "route mail: access_level does not contain mail addresses"},
		{Route{Method: "GET", Path: "/users/x", Scope: "x", Idempotent: true}, "route idempotent: not for GET, which changes nothing"},
		{Route{Method: "POST", Path: "/users/x", Scope: "x", Idempotent: true, Sensitive: true}, "route idempotent stores the answer, which sensitive forbids"},
		{Route{Method: "GET", Path: "/rooms/{id}/", Scope: "x"}, `path "/rooms/{id}/" must begin with a slash and not end with one`},
		{Route{Method: "GET", Path: "/rooms/{id}/../x", Scope: "x"}, `path "/rooms/{id}/../x": a segment is {id}, {slug} or made of a-z, 0-9, -, . and _`},
		{Route{Method: "GET", Path: "/rooms//x", Scope: "x"}, `path "/rooms//x": a segment is {id}, {slug} or made of a-z, 0-9, -, . and _`},
		{Route{Method: "GET", Path: "/rooms/*", Scope: "x"}, `path "/rooms/*": a segment is {id}, {slug} or made of a-z, 0-9, -, . and _`},
		{Route{Method: "GET", Path: "/rooms/{id}{id}", Scope: "x"}, `path "/rooms/{id}{id}": write {id} for a UUID and {slug} for a room's slug; Caddy's placeholders, such as {uuid}, are not supported here`},
		{Route{Method: "GET", Path: "/rooms/{id}/x", Scope: ""}, "a route needs a scope"},
	} {
		_, err := newRouteTable([]Route{tc.route})
		require.EqualError(t, err, tc.want)
	}
}

func TestCanonicalUUID(t *testing.T) {
	for in, want := range map[string]string{
		sampleID:                                        sampleID,
		"7C9E6679-7425-40DE-944B-E07FC1F90AE7":          sampleID,
		"7c9e6679742540de944be07fc1f90ae7":              sampleID,
		"":                                              "",
		"7c9e6679-7425-40de-944b-e07fc1f90ae":           "",
		"7c9e6679-7425-40de-944b-e07fc1f90aeg":          "",
		"7c9e66797-425-40de-944b-e07fc1f90ae7":          "",
		"{7c9e6679-7425-40de-944b-e07fc1f90ae7}":        "",
		"urn:uuid:7c9e6679-7425-40de-944b-e07fc1f90ae7": "",
		"7c9e6679%2D7425-40de-944b-e07fc1f9":            "",
	} {
		got, ok := canonicalUUID(in)
		require.Equal(t, want, got, in)
		require.Equal(t, want != "", ok, in)
	}
}

func BenchmarkRouteLookup(b *testing.B) {
	table, err := newRouteTable(nil)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := table.lookup("/rooms/" + sampleID); !ok {
			b.Fatal("not found")
		}
	}
}
