// SPDX-License-Identifier: MIT

package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	_ "github.com/meet-gateway/meet-gateway/tests/seed" // seeds rapid
	"github.com/meet-gateway/meet-gateway/tokens"
)

// TestPublished_AnyRequest makes random valid and invalid requests within the published description,
// with and without the trailing slash, and compares the responses with a small model. The transport
// compares every response with the description.
func TestPublished_AnyRequest(t *testing.T) {
	const listed = 45
	meet := strictMeet(t, nil)
	roomsOfAlice(meet, listed)
	meet.AddUser(sandbox.User{ID: "ca401000-0000-4000-8000-00000000000c", Sub: "carol", Email: "carol@example.com", Active: true})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: "base_path /external-api/v1.0 /\n" + meet.Backend()})
	whole := g.AddApplication(func(a *tokens.Application) { a.Domains = []string{"example.com"} })
	narrow := g.AddApplication(func(a *tokens.Application) { a.Scopes = tokens.Scopes{"rooms:update"} })
	credentials := map[string]string{ // of alice, by the expected answer
		"":    gatewaytest.Bearer(g.Token(whole, "alice@example.com")),
		"401": "Bearer " + g.Token(whole, "alice@example.com") + "x",
		"403": gatewaytest.Bearer(g.Token(narrow, "alice@example.com")),
	}
	carol := gatewaytest.Bearer(g.Token(whole, "carol@example.com"))
	path := func(t *rapid.T, path string) string {
		return rapid.SampledFrom([]string{"", base}).Draw(t, "base path") + path + rapid.SampledFrom([]string{"", "/"}).Draw(t, "slash")
	}
	credential := func(t *rapid.T) (header, answer string) {
		answer = rapid.SampledFrom([]string{"", "", "", "401", "403"}).Draw(t, "credential")
		return credentials[answer], answer
	}

	t.Run("token", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			secret := rapid.SampledFrom([]string{whole.Secret, whole.Secret, "wrong"}).Draw(t, "secret")
			mail := rapid.SampledFrom([]string{"alice@example.com", "Alice@Example.COM", "nobody@example.com", "ada@elsewhere.example", "no mail"}).Draw(t, "mail")
			var a *gatewaytest.Answer
			target := path(t, "/application/token")
			switch rapid.SampledFrom([]string{"json", "form", "basic"}).Draw(t, "form") {
			case "json":
				a = g.Do(http.MethodPost, target, gatewaytest.TokenBody(whole.ID, secret, mail), "Content-Type", jsonType)
			case "form":
				form := url.Values{"client_id": {whole.ID}, "client_secret": {secret}, "grant_type": {"client_credentials"}, "scope": {mail}}
				a = g.Do(http.MethodPost, target, form.Encode(), "Content-Type", formType)
			default:
				form := url.Values{"grant_type": {"client_credentials"}, "scope": {mail}}
				a = g.Do(http.MethodPost, target, form.Encode(), "Content-Type", formType, "Authorization", basicOf(whole.ID, secret))
			}
			status, text := http.StatusOK, ""
			switch {
			case secret == "wrong":
				status, text = http.StatusUnauthorized, "Invalid credentials"
			case mail == "no mail":
				status, text = http.StatusBadRequest, "Scope should be a valid email address."
			case mail == "ada@elsewhere.example":
				status, text = http.StatusForbidden, "This application is not authorized for this email domain."
			case mail == "nobody@example.com":
				status, text = http.StatusBadRequest, "User not found."
			}
			require.Equal(t, status, a.Status, a.Body)
			if text != "" {
				require.Contains(t, a.Body, `"error":"`+text+`"`)
			}
		})
	})

	t.Run("list", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			header, refused := credential(t)
			page := rapid.IntRange(0, 6).Draw(t, "page")
			size := rapid.SampledFrom([]int{-1, 0, 1, 2, 7, 9, 15, 19, 20, 21, 44, 45, 46, 99, 100, 101}).Draw(t, "page_size")
			query := url.Values{}
			if page > 0 {
				query.Set("page", fmt.Sprint(page))
			}
			if size >= 0 {
				query.Set("page_size", fmt.Sprint(size))
			}
			a := g.Do(http.MethodGet, path(t, "/rooms")+"?"+query.Encode(), "", "Authorization", header)
			page = max(page, 1)
			if size < 0 {
				size = 20
			}
			pages := 0 // none if the size is not permitted
			if 1 <= size && size <= 100 {
				pages = (listed + size - 1) / size
			}
			switch {
			case refused != "":
				require.Equal(t, refused, fmt.Sprint(a.Status))
			case page > pages:
				require.Equal(t, http.StatusNotFound, a.Status, a.Body)
				require.Contains(t, a.Body, "Invalid page.")
			default:
				require.Equal(t, http.StatusOK, a.Status, a.Body)
				var list struct {
					Count          int
					Next, Previous *string
					Results        []struct{ ID string }
				}
				require.NoError(t, json.Unmarshal([]byte(a.Body), &list))
				require.Equal(t, listed, list.Count)
				require.Equal(t, page < pages, list.Next != nil)
				require.Equal(t, page > 1, list.Previous != nil)
				require.Len(t, list.Results, min(size, listed-(page-1)*size))
				for i, room := range list.Results {
					require.Equal(t, roomID((page-1)*size+i+1), room.ID)
				}
			}
		})
	})

	t.Run("retrieve", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			header, refused := credential(t)
			number := rapid.SampledFrom([]int{1, listed, 100, 999}).Draw(t, "room")
			a := g.Do(http.MethodGet, path(t, "/rooms/"+roomID(number)), "", "Authorization", header)
			want := map[int]string{1: "200", listed: "200", 100: "403", 999: "404"}[number]
			if refused != "" {
				want = refused
			}
			require.Equal(t, want, fmt.Sprint(a.Status), a.Body)
		})
	})

	t.Run("create", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			body := rapid.SampledFrom([]string{"", "{}", " {} ", `{"name":"x"}`, `{"access_level":"restricted"}`}).Draw(t, "body")
			a := g.Do(http.MethodPost, path(t, "/rooms"), body, "Authorization", carol, "Content-Type", jsonType)
			require.Equal(t, http.StatusCreated, a.Status, a.Body)
			var room struct{ ID string }
			require.NoError(t, json.Unmarshal([]byte(a.Body), &room))
			again := g.Do(http.MethodGet, path(t, "/rooms/"+room.ID), "", "Authorization", carol)
			require.JSONEq(t, a.Body, again.Body)
		})
	})
}
