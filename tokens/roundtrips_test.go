// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// roundTrips records the commands that a gateway sends to Redis for a request, grouped by
// round trip. Heartbeats and background work do not use the context of a request, so they
// are left out.
type roundTrips struct {
	mu   sync.Mutex
	sent [][]string
}

type counted struct{}

func (c *roundTrips) note(ctx context.Context, commands ...redis.Cmder) {
	if ctx.Value(counted{}) == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, cmd := range commands {
		names = append(names, cmd.Name())
	}
	c.sent = append(c.sent, names)
}

func (c *roundTrips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *roundTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.note(ctx, cmd)
		return next(ctx, cmd)
	}
}

func (c *roundTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		c.note(ctx, commands...)
		return next(ctx, commands)
	}
}

// of returns the round roundTrips of do.
func (c *roundTrips) of(t *testing.T, do func(context.Context) error) [][]string {
	t.Helper()
	c.mu.Lock()
	c.sent = nil
	c.mu.Unlock()
	require.NoError(t, do(context.WithValue(t.Context(), counted{}, true)))
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// countingGateway starts a gateway whose round trips are counted. Its cache stays fresh
// for the whole test. It has a single connection, so that none is opened while the test
// counts.
func countingGateway(t *testing.T, server *redistest.Server) (*tokens.Authority, *roundTrips) {
	t.Helper()
	c := new(roundTrips)
	a := storetest.Node(t, func(t *testing.T) *tokens.Store {
		store := opener(tokens.RedisOptions{URL: server.URL(), PoolSize: 1})(t)
		store.Client().AddHook(c)
		return store
	}, func(o *tokens.Options) { o.Staleness = time.Hour })
	require.NoError(t, a.Ready(t.Context()))
	return a, c
}

// requestToken does what the token endpoint does, with the answer of Meet in the cache.
func requestToken(a *tokens.Authority, clientID, secret string, mail tokens.Mail, issued *tokens.Token) func(context.Context) error {
	return func(ctx context.Context) error {
		app, _, err := a.Authenticate(ctx, clientID, secret)
		if err != nil {
			return err
		}
		_, seen, err := a.Generations(ctx, app, mail)
		if err != nil {
			return err
		}
		t, err := a.Issue(ctx, tokens.Grant{Application: app, Mail: mail, Scopes: app.Scopes, Unseen: !seen})
		if err == nil && issued != nil {
			*issued = *t
		}
		return err
	}
}

// A token request of a cached application for a cached user sends one command, which
// writes the record of the token.
func TestRoundTrips_TokenRequest(t *testing.T) {
	server := redistest.Standalone(t)
	app, secret := storetest.App(t, newGateway(t, opener(tokens.RedisOptions{URL: server.URL()})), func(n *tokens.Application) { n.Aliases = []string{"calendar"} })
	a, count := countingGateway(t, server)
	record := [][]string{{"set"}}
	for _, clientID := range []string{app.ID, "calendar"} {
		require.NoError(t, requestToken(a, clientID, secret, "known@example.org", nil)(t.Context()))
		var issued tokens.Token
		require.Equal(t, record, count.of(t, requestToken(a, clientID, secret, "known@example.org", &issued)))
		_, err := a.Verify(t.Context(), issued.Value)
		require.NoError(t, err)
	}

	// For a new user, one round trip looks for the address before Meet is asked. Three more
	// create the user, index the address and write the record.
	require.Equal(t, [][]string{{"get"}, {"evalsha"}, {"evalsha"}, {"set"}},
		count.of(t, requestToken(a, app.ID, secret, "new@example.org", nil)))
	require.Equal(t, record, count.of(t, requestToken(a, app.ID, secret, "new@example.org", nil)))

	// One round trip shows that there is no token of Meet and no lock on it.
	_, unlock, err := a.LoadOrLockMeetToken(t.Context(), tokens.NewPassword(), time.Minute)
	require.NoError(t, err)
	unlock()
	require.Equal(t, [][]string{{"evalsha"}}, count.of(t, func(ctx context.Context) (err error) {
		_, unlock, err = a.LoadOrLockMeetToken(ctx, tokens.NewPassword(), time.Minute)
		return err
	}))
	unlock()
}

// A token is verified in one round trip, however much is cached.
func TestRoundTrips_Verify(t *testing.T) {
	server := redistest.Standalone(t)
	issuing := newGateway(t, opener(tokens.RedisOptions{URL: server.URL()}))
	app, _ := storetest.App(t, issuing)
	var tok [3]*tokens.Token
	for i := range tok {
		tok[i] = storetest.Issue(t, issuing, app, "known@example.org")
	}
	a, count := countingGateway(t, server)
	verify := func(i int) func(context.Context) error {
		return func(ctx context.Context) error { _, err := a.Verify(ctx, tok[i].Value); return err }
	}
	everything := [][]string{{"get", "hgetall", "hgetall", "hgetall"}}
	require.Equal(t, everything, count.of(t, verify(0)), "nothing is cached")
	require.Empty(t, count.of(t, verify(0)))
	require.Equal(t, [][]string{{"get"}}, count.of(t, verify(1)), "application and user are cached")
	require.Equal(t, everything, count.of(t, func(ctx context.Context) error {
		_, err := a.Inspect(ctx, tok[2].Value)
		return err
	}), "/identity")
}

// A refusal sends the same commands to Redis whatever its reason, whether or not the
// application is cached.
func TestRoundTrips_EqualForRefusals(t *testing.T) {
	server := redistest.Standalone(t)
	other := newGateway(t, opener(tokens.RedisOptions{URL: server.URL()}))
	known, secret := storetest.App(t, other)
	unused, _ := storetest.App(t, other)
	off, offSecret := storetest.App(t, other, func(n *tokens.Application) { n.Active = false })
	a, count := countingGateway(t, server)
	_, _, err := a.Authenticate(t.Context(), known.ID, secret)
	require.NoError(t, err)
	_, err = a.Application(t.Context(), off.ID)
	require.NoError(t, err)
	for _, app := range []*tokens.Application{known, off} {
		client, err := a.FindClient(t.Context(), app.ID)
		require.NoError(t, err)
		require.True(t, client.Remembered())
	}
	refused := func(clientID, secret string, as error) [][]string {
		return count.of(t, func(ctx context.Context) error {
			if _, _, err := a.Authenticate(ctx, clientID, secret); !errors.Is(err, as) {
				return errors.Join(errors.New("another error"), err)
			}
			return nil
		})
	}
	unknown := refused("nobody", secret, tokens.ErrInvalidClient)
	require.NotEmpty(t, unknown)
	require.Equal(t, unknown, refused(known.ID, "wrong", tokens.ErrInvalidClient), "cached")
	require.Equal(t, unknown, refused(unused.ID, "wrong", tokens.ErrInvalidClient), "not cached")
	require.Equal(t, unknown, refused(off.ID, "wrong", tokens.ErrInvalidClient))
	require.Equal(t, unknown, refused(off.ID, offSecret, tokens.ErrInactiveApplication))
	require.Equal(t, unknown, refused(tokens.NewPassword(), "", tokens.ErrInvalidClient))
}
