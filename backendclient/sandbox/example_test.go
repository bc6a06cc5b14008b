// SPDX-License-Identifier: MIT

package sandbox_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// An application asks for a token for a user whom Meet has never seen, and creates a room.
func Example() {
	s := sandbox.Quickstart()
	s.BaseURL = "https://meet.example.org"
	meet := sandbox.New(s)
	meet.AddApplication(sandbox.Application{
		ClientID: "booking",
		Secret:   "only-for-this-test",
		Scopes:   []string{"rooms:create", "rooms:list"},
		Active:   true,
	})
	server := httptest.NewServer(meet)
	defer server.Close()

	var token struct {
		AccessToken string `json:"access_token"`
	}
	post(server.URL+"/external-api/v1.0/application/token/", "", `{
		"client_id": "booking",
		"client_secret": "only-for-this-test",
		"grant_type": "client_credentials",
		"scope": "ada@example.com"
	}`, &token)

	var room struct {
		AccessLevel string `json:"access_level"`
	}
	status := post(server.URL+"/external-api/v1.0/rooms/", token.AccessToken, `{"access_level": "restricted"}`, &room)
	fmt.Println(status, room.AccessLevel)
	fmt.Println("exchanges:", meet.Exchanges())
	// Output:
	// 201 Created restricted
	// exchanges: 1
}

func post(address, token, body string, into any) (status string) {
	r, err := http.NewRequest(http.MethodPost, address, bytes.NewBufferString(body))
	if err != nil {
		return err.Error()
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return err.Error()
	}
	return response.Status
}
