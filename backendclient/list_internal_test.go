// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// Pages that were not fetched because the request ended are not reported as missing.
func TestLister_RequestEnds(t *testing.T) {
	t.Parallel()
	c, err := New(Options{Host: "meet.example.org", Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
		return nil, r.Context().Err()
	})})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, refusal, err := (&lister{c: c, caller: Caller{Credentials: Credentials{ClientID: "calendar", ClientSecret: "secret"}, Mail: "ada@example.org"}}).fetchPages(ctx, nil, 0, 1, 3)
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, refusal)
}
