// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"net/http"
	"runtime"
	"strings"
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

// Reading a page takes no more memory than its text, however many rooms Meet lists in it.
func TestPage_Memory(t *testing.T) { // not parallel: it measures what the process allocates
	for name, body := range map[string]string{
		"numbers":     `{"count":1,"results":[1` + strings.Repeat(",1", 2<<20) + `]}`,
		"empty rooms": `{"count":1,"results":[{}` + strings.Repeat(",{}", 1<<20) + `]}`,
		"lists":       `{"count":1` + strings.Repeat(`,"results":[]`, 4<<20/13) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			text := []byte(body)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			valid := new(page).parse(text)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
			require.False(t, valid)
		})
	}
}
