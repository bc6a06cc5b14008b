// SPDX-License-Identifier: MIT

package tokens

import (
	"crypto/sha256"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// An answer of another form than expected is an outage of Redis, and the error says so.
func TestScripts_UnexpectedAnswer(t *testing.T) {
	a, f := testNode(t, miniredis.RunT(t), func(o *Options) { o.Quota.Users = 5 })
	app := testApp(t, a)
	tok := testToken(t, a, app)
	_, _, err := a.CreateApplication(t.Context(), Application{Name: "Chat", Aliases: []string{"chat"}, Domains: []string{"example.org"}})
	require.NoError(t, err)
	for name, call := range map[string]func() error{
		"refresh": func() error { _, err := a.Refresh(t.Context(), app, tok.Refresh); return err },
		"quota":   func() error { _, err := a.Admit(t.Context(), app, "new@example.org"); return err },
		"idempotency": func() error {
			_, err := a.BeginIdempotent(t.Context(), "app", "user", "key", sha256.Sum256(nil))
			return err
		},
		"alias": func() error {
			_, _, err := a.CreateApplication(t.Context(), Application{Name: "Mail", Aliases: []string{"chat"}, Domains: []string{"example.org"}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f.set(nil, func(cmd redis.Cmder) error {
				if cmd, ok := cmd.(*redis.Cmd); ok {
					if _, err := cmd.Slice(); err == nil {
						cmd.SetVal([]any{})
					}
				}
				return nil
			})
			defer f.set(nil, nil)
			err := call()
			require.ErrorIs(t, err, ErrUnavailable)
			require.ErrorContains(t, err, "the answer does not have the expected form")
		})
	}
}
