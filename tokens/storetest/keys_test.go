// SPDX-License-Identifier: MIT

package storetest

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// testAnotherSecret checks that gateways with different secrets do not refuse the tokens
// of each other.
func testAnotherSecret(t *testing.T, open Opener) {
	ctx := t.Context()
	secret := []byte("storetest-" + t.Name() + "-0123456789abcdef")
	a := Node(t, open, func(o *tokens.Options) { o.Secrets = [][]byte{secret} })
	kid := a.Status(ctx).Keys[0].ID
	app, clientSecret := App(t, a, refreshing)
	tok := Issue(t, a, app, "another@example.org")

	seen := new(keyObserver)
	b := Node(t, open, func(o *tokens.Options) {
		o.Secrets, o.Observer = [][]byte{[]byte("storetest-mistaken-0123456789abcdef")}, seen
	})
	Eventually(t, "the gateway reports the key as missing", func() bool { return seen.has(kid) })
	require.Contains(t, b.Status(ctx).MissingKeys, kid)
	own := b.Status(ctx).Keys[0].ID
	Eventually(t, "the first gateway reports the key of the second as missing", func() bool { return slices.Contains(a.Status(ctx).MissingKeys, own) })

	require.ErrorIs(t, b.Ready(ctx), tokens.ErrUnavailable)
	require.Equal(t, "other gateways use keys that this one was not given", tokens.StoreProblem(b.Ready(ctx)))

	for what, try := range map[string]func() error{
		"a token":                    func() error { _, err := b.Verify(ctx, tok.Value); return err },
		"a token, inspected":         func() error { _, err := b.Inspect(ctx, tok.Value); return err },
		"a token to revoke":          func() error { return b.RevokeToken(ctx, tok.Value) },
		"a secret":                   func() error { _, _, err := b.Authenticate(ctx, app.ID, clientSecret); return err },
		"a refresh token":            func() error { _, err := b.Refresh(ctx, app, tok.Refresh); return err },
		"a refresh token, inspected": func() error { _, err := b.Inspect(ctx, tok.Refresh); return err },
	} {
		require.ErrorIs(t, try(), tokens.ErrUnavailable, what)
	}
	_, err := a.Verify(ctx, tok.Value)
	require.NoError(t, err)
	_, err = a.Refresh(ctx, app, tok.Refresh)
	require.NoError(t, err, "the failed requests changed nothing")

	// A key that no gateway uses is foreign.
	_, rest, _ := strings.Cut(tok.Value, ".")
	_, err = b.Verify(ctx, base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"00000000","typ":"JWT"}`))+"."+rest)
	require.ErrorIs(t, err, tokens.ErrTokenForeign)

	// So is a withdrawn key.
	require.NoError(t, b.RevokeKey(ctx, kid))
	Eventually(t, "the token is refused", func() bool { _, err = b.Verify(ctx, tok.Value); return err != nil })
	require.ErrorIs(t, err, tokens.ErrTokenForeign)
	Eventually(t, "the other gateway refuses the withdrawn key", func() bool {
		_, err = a.Verify(ctx, tok.Value)
		return errors.Is(err, tokens.ErrTokenInvalid)
	})
	require.ErrorIs(t, b.RevokeKey(ctx, "00000000"), tokens.ErrNotFound)
}

// keyObserver records the missing keys.
type keyObserver struct {
	mu  sync.Mutex
	ids []string
}

func (o *keyObserver) has(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.ids, id)
}

func (o *keyObserver) KeysMissing(ids []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ids = ids
}

func (*keyObserver) FeedLag(time.Duration)           {}
func (*keyObserver) FeedState(bool)                  {}
func (*keyObserver) PermissionsMissing(string, bool) {}
func (*keyObserver) Readiness(error)                 {}
func (*keyObserver) StoreRolledBack(int64, bool)     {}
