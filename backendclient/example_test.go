// SPDX-License-Identifier: MIT

package backendclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// dial sends every request to one address and ignores the host of the URL.
type dial string

func (address dial) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", string(address)
	return http.DefaultTransport.RoundTrip(r)
}

// A user whom Meet has never seen gets a room and a list of rooms. Meet makes
// one token for all of it.
func Example() {
	meet := sandbox.New(sandbox.Quickstart())
	meet.AddApplication(sandbox.Application{
		ClientID: "booking",
		Secret:   "only-for-this-example",
		Scopes:   []string{"rooms:create", "rooms:list"},
		Active:   true,
	})
	server := httptest.NewServer(meet)
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()

	client, err := backendclient.New(backendclient.Options{
		Transport: dial(server.Listener.Addr().String()),
		Host:      "meet.example.org",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ada := backendclient.Caller{
		Credentials: backendclient.Credentials{ClientID: "booking", ClientSecret: "only-for-this-example"},
		Mail:        "ada@example.com",
	}
	ctx := context.Background()

	created, err := client.CreateRoom(ctx, ada, []byte(`{"access_level":"restricted"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(created.Status)

	answer, err := client.ListRooms(ctx, ada, backendclient.ListOptions{PageSize: 50})
	if err != nil {
		fmt.Println(err)
		return
	}
	var list struct {
		Count   int
		Results []struct {
			AccessLevel string `json:"access_level"`
		}
	}
	if err := json.Unmarshal(answer.Body, &list); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(list.Count, list.Results[0].AccessLevel)
	fmt.Println("exchanges:", meet.Exchanges())
	// Output:
	// 201
	// 1 restricted
	// exchanges: 1
}

// An error has a kind for errors.Is. Its [backendclient.Error] has the details for an
// operator.
func ExampleError() {
	settings := sandbox.Production()
	settings.AllowedHosts = []string{"visio.example.org"}
	server := httptest.NewServer(sandbox.New(settings))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()

	client, err := backendclient.New(backendclient.Options{
		Transport: dial(server.Listener.Addr().String()),
		Host:      "meet.example.org",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = client.Token(context.Background(), backendclient.Caller{
		Credentials: backendclient.Credentials{ClientID: "booking", ClientSecret: "secret"},
		Mail:        "ada@example.com",
	})
	fmt.Println(err)
	fmt.Println(errors.Is(err, backendclient.ErrMisconfigured), backendclient.Reason(err))

	if failure, ok := errors.AsType[*backendclient.Error](err); ok {
		fmt.Println(failure.Hint)
	}
	// Output:
	// exchange: meet is misconfigured for the gateway (status 400)
	// true misconfigured
	// Meet refuses the Host header: the configured host must be Meet's public name, listed in DJANGO_ALLOWED_HOSTS
}
