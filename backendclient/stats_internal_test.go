// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Queued, running and shared exchanges are counted while they last.
func TestClient_Stats(t *testing.T) {
	t.Parallel()
	type key struct{}
	arrived, release := make(chan context.Context, 1), make(chan struct{})
	c, err := New(Options{
		Host: "meet.example.org", MaxExchanges: 1,
		Detach: func(ctx context.Context) context.Context {
			return context.WithValue(context.Background(), key{}, ctx.Value(key{}))
		},
		Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
			arrived <- r.Context()
			<-release
			return nil, errors.New("unavailable")
		}),
	})
	require.NoError(t, err)
	ask := func(mail string) {
		go func() {
			ctx := context.WithValue(context.Background(), key{}, "carried")
			_, _ = c.Token(ctx, Caller{Credentials: Credentials{ClientID: "id", ClientSecret: "secret"}, Mail: mail})
		}()
	}
	ask("ada@example.org")
	ctx := <-arrived
	require.Equal(t, "carried", ctx.Value(key{}))
	require.Equal(t, Stats{Running: 1}, c.Stats())
	ask("ada@example.org")
	ask("bob@example.org")
	want := Stats{Running: 1, Queued: 1, Shared: 1}
	require.Eventually(t, func() bool { return c.Stats() == want }, 10*time.Second, time.Millisecond)
	close(release)
	require.Eventually(t, func() bool { s := c.Stats(); return s.Running == 0 && s.Queued == 0 }, 10*time.Second, time.Millisecond)
}
