// SPDX-License-Identifier: MIT

package tokens

import (
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/clientids"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// An entry of the index counts only if its application lists the client id.
func TestAliases_RecordDecides(t *testing.T) {
	ctx := t.Context()
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	app, secret, err := a.CreateApplication(ctx, Application{Name: "Calendar", Active: true})
	require.NoError(t, err)
	require.NoError(t, server.Set(redisdb.KeyAlias("stale"), app.ID))
	_, _, err = a.Authenticate(ctx, "stale", secret)
	require.ErrorIs(t, err, ErrInvalidClient)
	_, err = a.Application(ctx, "stale")
	require.ErrorIs(t, err, ErrNotFound)

	other, secret, err := a.CreateApplication(ctx, Application{Name: "Chat", Active: true, Aliases: []string{"stale"}})
	require.NoError(t, err, "a stale entry can be taken")
	found, _, err := a.Authenticate(ctx, "stale", secret)
	require.NoError(t, err)
	require.Equal(t, other.ID, found.ID)

	// Deleting the first application does not release the client id of the second.
	require.NoError(t, a.DeleteApplication(ctx, app.ID, 0))
	_, _, err = a.Authenticate(ctx, "stale", secret)
	require.NoError(t, err)
}

// Each entry has a unique value, so that a compare-and-set does not mistake a new entry of
// the same application for the one that was read. In each case another gateway gives the
// client id back to its application just before the script runs.
func TestAliases_RetakenConcurrently(t *testing.T) {
	const alias = "at-meet"
	for name, tc := range map[string]struct {
		script *redis.Script
		do     func(a *Authority, owner string) error
	}{
		"during release": {clientids.GiveBackScript, func(a *Authority, owner string) error {
			_, err := a.UpdateApplication(t.Context(), owner, 0, func(n *Application) error { n.Aliases = nil; return nil })
			return err
		}},
		"during takeover": {clientids.TakeScript, func(a *Authority, owner string) error {
			entry, err := a.registry.clientIDs.Entry(t.Context(), alias)
			if err != nil {
				return err
			}
			_, err = a.UpdateApplication(t.Context(), owner, 0, func(n *Application) error { n.Aliases = nil; return nil })
			if err != nil {
				return err
			}
			// The entry stays, as if releasing it had failed.
			if err := a.db.Set(t.Context(), redisdb.KeyAlias(alias), entry, 0); err != nil {
				return err
			}
			_, _, err = a.CreateApplication(t.Context(), Application{Name: "Chat", Active: true, Aliases: []string{alias}})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			server := miniredis.RunT(t)
			a, f := testNode(t, server)
			b, _ := testNode(t, server)
			owner, secret, err := a.CreateApplication(ctx, Application{Name: "Calendar", Active: true, Aliases: []string{alias}})
			require.NoError(t, err)
			var once sync.Once
			hit := onScript(tc.script)
			f.set(func(cmd redis.Cmder) error {
				if hit(cmd) == nil {
					return nil
				}
				once.Do(func() {
					_, err := b.UpdateApplication(ctx, owner.ID, 0, func(n *Application) error { n.Aliases = []string{alias}; return nil })
					if err != nil {
						t.Error(err)
					}
				})
				return nil
			}, nil)
			err = tc.do(a, owner.ID)
			f.set(nil, nil)
			if tc.script == clientids.TakeScript {
				require.ErrorIs(t, err, ErrConflict)
			} else {
				require.NoError(t, err)
			}
			entry, err := server.Get(redisdb.KeyAlias(alias))
			require.NoError(t, err)
			require.Equal(t, owner.ID, clientids.Owner(entry))
			found, _, err := b.Authenticate(ctx, alias, secret)
			require.NoError(t, err)
			require.Equal(t, owner.ID, found.ID)
		})
	}
}
