// SPDX-License-Identifier: MIT

package backendclient

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzJudge checks that every answer has a verdict, that every error has a known kind, and
// that only JSON is relayed.
func FuzzJudge(f *testing.F) {
	for _, seed := range []struct {
		status      int
		contentType string
		location    string
		body        string
	}{
		{200, "application/json", "", `{"id":"x"}`},
		{200, "text/html", "", `<html>`},
		{204, "", "", ``},
		{301, "text/html", "/external-api/v1.0/rooms/", ``},
		{301, "text/html", "https://meet.example.org/external-api/v1.0/rooms/", ``},
		{302, "", "%zz", ``},
		{400, "text/html; charset=utf-8", "", `<h1>Bad Request (400)</h1>`},
		{400, "application/json", "", `["“%(value)s” is not a valid UUID."]`},
		{400, "application/json", "", `{"client_id":["This field is required."],"grant_type":["This field is required."]}`},
		{401, "application/json", "", `{"detail":"User not found."}`},
		{403, "application/json", "", `{"error":"This application is not authorized for this email domain."}`},
		{404, "application/json", "", `{"detail":"Not found."}`},
		{429, "text/plain", "", ``},
		{500, "text/html", "", ``},
		{503, "application/json", "", `{`},
		{999, "", "", ``},
	} {
		f.Add(seed.status, seed.contentType, seed.location, seed.body)
	}
	f.Fuzz(func(t *testing.T, status int, contentType, location, body string) {
		a := &reply{
			status: status, location: location, retryAfter: location,
			json: isJSON(contentType) && json.Valid([]byte(body)),
		}
		if a.json {
			a.body = []byte(body)
		}
		known := func(e *Error) {
			require.NotEqual(t, "other", Reason(e))
			require.GreaterOrEqual(t, e.RetryAfter.Nanoseconds(), int64(0))
			require.NotEmpty(t, e.Error())
		}

		for _, w := range []wireRequest{
			{method: "GET", path: "/b/rooms/", below: "/rooms/"},
			{method: "POST", path: "/b/rooms/", below: "/rooms/", effect: true},
		} {
			v, e := judgeRooms(a, w)
			if v == relay {
				require.Nil(t, e)
				require.True(t, a.json || status == http.StatusNoContent)
				continue
			}
			require.NotNil(t, e)
			known(e)
			if v == renew {
				require.False(t, e.Effect, "a refused token has no effect")
			}
		}
		if e := judgeExchange(a, "/b/application/token/"); e != nil {
			require.False(t, e.Effect)
			known(e)
		} else {
			require.True(t, a.json)
		}
	})
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"/rooms/", "/rooms/5eed0000-0000-4000-8000-000000000001/", "/a.b/c~d/e_f/"} {
		require.True(t, canonical(good), good)
	}
	for _, bad := range []string{
		"", "/", "//", "rooms/", "/rooms", "/rooms//", "//rooms/", "/rooms/../x/", "/rooms/./", "/rooms/%2e%2e/",
		"/rooms/a;b/", "/rooms/a?b/", "/rooms/a#b/", "/rooms/a\\b/", "/rooms/a b/", "/rooms/é/", "/rooms/a\n/",
	} {
		require.False(t, canonical(bad), bad)
	}
}

func TestReasons_AreDistinct(t *testing.T) {
	t.Parallel()
	words := Reasons()
	seen := map[string]bool{}
	for _, w := range words {
		require.False(t, seen[w], w)
		seen[w] = true
	}
	for _, r := range reasons {
		require.Equal(t, r.word, Reason(&Error{Kind: r.kind}))
	}
	require.Equal(t, "ok", Reason(nil))
	require.Equal(t, "other", Reason(http.ErrBodyNotAllowed))
}
