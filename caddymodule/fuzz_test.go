// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/meet-gateway/meet-gateway/caddymodule/parse"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// For any body, Meet is asked for an access level that the policy allows, in one JSON object.
func FuzzRoomPolicy(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"access_level":"public"}`, `{"access_level":"trusted"}`, `{"access_level":null}`, `{"access_level":["public"]}`,
		`{"access_level":"trusted","access_level":"public"}`, `{"Access_Level":"public"}`, `{"access_level":"\u0070ublic"}`,
		`{"configuration":{"access_level":"public"}}`, `{"configuration":"\u0000"}`,
	} {
		f.Add([]byte(seed))
	}
	policy := roomPolicy{levels: []string{"trusted", "restricted"}}
	f.Fuzz(func(t *testing.T, sent []byte) {
		body, err := policy.body(sent, tokens.RoomDefaults{})
		if err != nil {
			return
		}
		var room map[string]json.RawMessage
		if err := json.Unmarshal(body, &room); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		var level string
		if err := json.Unmarshal(room["access_level"], &level); err != nil || !slices.Contains(policy.levels, level) {
			t.Fatalf("level %s from %q", room["access_level"], sent)
		}
		for name := range room {
			if name != "access_level" && name != "configuration" {
				t.Fatalf("member %q from %q", name, sent)
			}
		}
	})
}

// A path that matches a route is rebuilt from parsed values, so that no other server can read
// it as another path.
func FuzzRouteTable(f *testing.F) {
	for _, seed := range []string{
		"/rooms", "/rooms/", "/rooms/11111111-2222-3333-4444-555555555555", "/rooms/11111111222233334444555555555555", "/rooms/x",
		"/rooms/../users", "//rooms", "/rooms/%2e%2e", "/rooms/a;b", "/application/token", "/rooms/11111111-2222-3333-4444-55555555555A/grant-access",
	} {
		f.Add(seed)
	}
	table, err := newRouteTable([]Route{{Method: http.MethodPost, Path: "/rooms/{id}/grant-access", Scope: "rooms:grant-access"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		target, err := parse.Target(path)
		if err != nil || target.Path == "" {
			return
		}
		m, ok := table.lookup(target.Path)
		if !ok || m.invalid {
			return
		}
		for _, bad := range []string{"..", "//", "%", ";", "\\", "?", "#"} {
			if strings.Contains(m.path, bad) {
				t.Fatalf("%q leads to %q", path, m.path)
			}
		}
		if again, ok := table.lookup(m.path); !ok || again.pattern != m.pattern || again.path != m.path {
			t.Fatalf("%q leads to %q, which is another route", path, m.path)
		}
	})
}

// A payload that the gateway would sign is found whatever surrounds it.
func FuzzHoldsOwnToken(f *testing.F) {
	for _, seed := range [][2]string{{"", ""}, {"Bearer.", ".x"}, {"a/", "/b"}, {"~", "="}, {"eyJhbGciOiJIUzI1NiJ9.", ".c2lnbmF0dXJl"}} {
		f.Add(seed[0], seed[1])
	}
	payload := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"meet-gateway","aud":"meet-clients","sub":"abcdefgh"}`))
	f.Fuzz(func(t *testing.T, before, after string) {
		if !holdsOwnToken(before+"."+payload+"."+after, "meet-gateway") {
			t.Fatalf("not found between %q and %q", before, after)
		}
	})
}

// A credential of the gateway is recognised if it is embedded, encoded again, or has claims
// that another parser reads differently.
func FuzzHoldsOwnCredential(f *testing.F) {
	claims := []string{
		`{"iss":"meet-gateway","aud":"meet-clients","sub":"abcdefgh","client_id":"a","jti":"b"}`,
		`{"iss" : "meet-gateway","iss":"elsewhere"}`, `{"ISS":"meet-gateway"}`, `{"\u0069ss":"meet-gateway"}`,
		`{"client_id":"a","sub":"abcdefgh","sub":null,"jti":"b"}`,
	}
	var own []string
	for _, c := range claims {
		own = append(own, "eyJhbGciOiJIUzI1NiJ9."+base64.RawURLEncoding.EncodeToString([]byte(c))+".c2lnbmF0dXJl")
	}
	own = append(own, tokens.RefreshPrefix+strings.Repeat("a", 40), tokens.SecretPrefix+strings.Repeat("b", 40))
	for i := range own {
		f.Add("", "", i, 0)
		f.Add("x.", ".y", i, 1)
	}
	f.Fuzz(func(t *testing.T, before, after string, which, how int) {
		token := before + "." + own[uint(which)%uint(len(own))] + "." + after
		switch uint(how) % 4 {
		case 1:
			token = base64.StdEncoding.EncodeToString([]byte(token))
		case 2:
			token = base64.RawURLEncoding.EncodeToString([]byte(token))
		case 3:
			token = strings.ToUpper(before) + "." + own[uint(which)%uint(len(own))]
		}
		if !holdsOwnCredential(token, "meet-gateway") {
			t.Fatalf("%q is not recognised", token)
		}
	})
}

// An edited answer of Meet stays valid JSON, keeps the id, and has detail and error.
func FuzzEditedAnswers(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "[]", `{"detail":"No."}`, `{"error":"No."}`, `{"scope":["No."]}`, `{"id":"x","slug":"abc-defg-hij"}`, `{"id":"x","url":null,"slug":"a"}`,
		`{"slug":"\"},{\""}`, ` {"slug":"abc"} `, `{"telephony":{"pin_code":null}}`,
	} {
		f.Add([]byte(seed))
	}
	h := &Handler{RoomURLBase: "https://meet.example.org"}
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) {
			return // refused earlier
		}
		var was, is map[string]json.RawMessage
		_ = json.Unmarshal(body, &was)
		for function, edited := range map[string][]byte{"withBothKeys": withBothKeys(slices.Clone(body)), "completeRoom": h.completeRoom(slices.Clone(body))} {
			if !json.Valid(edited) {
				t.Fatalf("%s returned %q for %q", function, edited, body)
			}
			is = nil
			_ = json.Unmarshal(edited, &is)
			if string(is["id"]) != string(was["id"]) && was["id"] != nil {
				t.Fatalf("%s returned %q for %q", function, edited, body)
			}
		}
		both := withBothKeys(slices.Clone(body))
		var said map[string]json.RawMessage
		_ = json.Unmarshal(both, &said)
		if said["detail"] == nil || said["error"] == nil {
			t.Fatalf("withBothKeys returned %q for %q", both, body)
		}
	})
}

// The links of an edited list lead only to the URL that the caller requested. The list keeps
// the number of Meet's rooms.
func FuzzRelinked(f *testing.F) {
	for _, seed := range []string{
		`{"count":2,"next":"https://meet.internal/external-api/v1.0/rooms/?page=2","previous":null,"results":[{"id":"x","slug":"abc"}]}`,
		`{"count":0,"next":null,"previous":null,"results":[]}`, `{"next":"?page=-1","previous":"%","results":[null,7]}`,
		`{"next":7,"previous":"https://meet.internal/","results":[]}`, `{"results":null}`, `{"Next":"x","next":"y","results":[]}`, `[]`, `null`, ``,
	} {
		f.Add([]byte(seed))
	}
	h := &Handler{RoomURLBase: "https://meet.example.org"}
	links := publicURL("https://gateway.example.org/rooms")
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) {
			return // refused earlier
		}
		edited, err := relinked(slices.Clone(body), links, h.completeRoom)
		if err != nil {
			return
		}
		var was, is struct {
			Count          json.RawMessage
			Next, Previous *string
			Results        []json.RawMessage
		}
		if err := json.Unmarshal(edited, &is); err != nil {
			t.Fatalf("%q of %q: %v", edited, body, err)
		}
		_ = json.Unmarshal(body, &was)
		if len(is.Results) != len(was.Results) || (is.Next == nil) != (was.Next == nil) || (is.Previous == nil) != (was.Previous == nil) {
			t.Fatalf("%q of %q", edited, body)
		}
		for _, link := range []*string{is.Next, is.Previous} {
			if link != nil && *link != string(links) && !strings.HasPrefix(*link, string(links)+"?page=") {
				t.Fatalf("%q leads to %q", body, *link)
			}
		}
	})
}
