// SPDX-License-Identifier: MIT

package sandbox

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// FuzzServeHTTP looks for a request that crashes the sandbox, or that succeeds without a valid
// token.
func FuzzServeHTTP(f *testing.F) {
	now := time.Date(2026, time.September, 1, 12, 0, 0, 0, time.UTC)
	m := New(Production(), WithClock(func() time.Time { return now }))
	m.LoadFixtures()
	token, err := signToken("HS256", m.settings.JWTSecretKey, tokenClaims{
		ClientID: "app-full", Delegated: true, UserID: aliceID, Issuer: "lasuite-meet", Audience: "meet-clients",
		ExpiresAt: now.Add(time.Hour).Unix(), Scope: "rooms:list rooms:create",
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("GET", "/external-api/v1.0/rooms/?page=2&page_size=3", "meet.example.org", "Bearer x.y.z", "", "", []byte(nil))
	f.Add("POST", "/external-api/v1.0/rooms/", "meet.example.org", token, "application/json", "fr;q=0.5",
		[]byte(`{"access_level":"restricted","configuration":{"everyone_can_mute":"yes"}}`))
	f.Add("POST", "/external-api/v1.0/rooms/", "meet.example.org", token, "multipart/form-data; boundary=x", "",
		[]byte("--x\r\nContent-Disposition: form-data; name=\"access_level\"\r\n\r\nrestricted\r\n--x--\r\n"))
	f.Add("POST", "/external-api/v1.0/application/token/", "meet.example.org", "", "application/x-www-form-urlencoded", "*",
		[]byte("client_id=app-full&client_secret=a&grant_type=client_credentials&scope=%22x%22@[::1]"))
	f.Add("OPTIONS", "/external-api/v1.0/rooms/%7Burn:uuid:5eed0000%7D", "[::1]:80", "Basic eDp5", "", "", []byte("x"))
	f.Fuzz(func(t *testing.T, method, target, host, authorization, contentType, language string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := &http.Request{
			Method: method, URL: u, Host: host, Header: http.Header{}, RequestURI: target,
			ContentLength: int64(len(body)), Body: http.NoBody,
		}
		if len(body) > 0 {
			r.Body = readCloser{bytes.NewReader(body)}
		}
		signed := authorization == token
		if signed {
			authorization = "Bearer " + token
		}
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Accept-Language", language)
		r.Header.Set("X-Forwarded-Proto", "https")
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		rooms := m.view(u.Path) != nil && !isHeartbeat(u.Path)
		if rooms && !signed && w.Code < 300 && method != http.MethodOptions {
			t.Fatalf("%s %s with %q is %d", method, target, authorization, w.Code)
		}
	})
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }
