// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

var (
	rotationA = []byte("users-test-secret-a-0123456789abcdef")
	rotationB = []byte("users-test-secret-b-0123456789abcdef")
)

// idFor returns the id of an address and creates it if there is none, as userFor does. The
// record may be encrypted with a secret that the gateway lacks.
func idFor(ctx context.Context, a *Authority, m Mail) (string, error) {
	id, err := a.users.index.Find(ctx, m)
	if err == nil && id == "" {
		_, id, err = a.users.create(ctx, m, "application")
	}
	return id, err
}

// duringRotation runs a test with gateways in the middle of a rotation of the secret.
func duringRotation(t *testing.T, s schedule, test func(*testing.T, *miniredis.Miniredis, []*actor)) {
	t.Helper()
	for name, gateways := range map[string][][][]byte{
		"both orders":                    {{rotationA, rotationB}, {rotationB, rotationA}},
		"one lacks the new secret":       {{rotationA, rotationB}, {rotationB, rotationA}, {rotationA}},
		"one has dropped the old secret": {{rotationA, rotationB}, {rotationB, rotationA}, {rotationB}},
	} {
		t.Run(name, func(t *testing.T) {
			server := miniredis.RunT(t)
			var actors []*actor
			for _, secrets := range gateways {
				actors = append(actors, newActor(t, server, s, withSecrets(secrets...)))
			}
			test(t, server, actors)
		})
	}
}

// Concurrent gateways give an address one id, whatever the order of their secrets and
// wherever they stop.
func TestUserID_UniqueDuringRotation(t *testing.T) {
	duringRotation(t, schedule{redisdb.KeyPrefix + "m:", redisdb.KeyUser("")}, func(t *testing.T, server *miniredis.Miniredis, actors []*actor) {
		for seed := range uint64(200) {
			at, m := fmt.Sprint("seed ", seed), Mail(fmt.Sprintf("user-%d@example.org", seed))
			var mu sync.Mutex
			ids := map[string]bool{}
			act := func(ctx context.Context, me *actor, _ *rand.Rand) {
				for range 2 {
					if id, err := idFor(ctx, me.a, m); err == nil {
						mu.Lock()
						ids[id] = true
						mu.Unlock()
					}
				}
			}
			drive(t.Context(), actors, rand.New(rand.NewPCG(seed, 13)), act, func() bool { return true })
			for _, me := range actors { // including the gateways that stopped
				id, err := idFor(t.Context(), me.a, m)
				require.NoError(t, err, at)
				ids[id] = true
			}
			require.Len(t, ids, 1, at)
			for _, name := range actors[0].a.users.index.Names(m) {
				id, err := server.Get(name)
				require.NoError(t, err, at)
				require.Contains(t, ids, id, at)
			}
		}
	})
}

// Concurrent gateways send a request with an Idempotency-Key at most once during a
// rotation of the secret.
func TestIdempotency_SentOnceDuringRotation(t *testing.T) {
	duringRotation(t, schedule{redisdb.KeyPrefix + "i:"}, func(t *testing.T, _ *miniredis.Miniredis, actors []*actor) {
		for seed := range uint64(200) {
			var sent, refused atomic.Int32
			act := func(ctx context.Context, me *actor, _ *rand.Rand) {
				for range 2 {
					r, err := me.a.BeginIdempotent(ctx, "application", "user", fmt.Sprint("key-", seed), hashToken("request"))
					switch {
					case err != nil:
						refused.Add(1)
					case r.Answer == nil:
						sent.Add(1)
						_ = r.Finish(ctx, Answer{Status: 201})
					}
				}
			}
			drive(t.Context(), actors, rand.New(rand.NewPCG(seed, 14)), act, func() bool { return true })
			require.LessOrEqual(t, sent.Load(), int32(1), "seed %d", seed)
			if refused.Load() == 0 { // no gateway stopped or collided: the request was sent, and all got the answer
				require.EqualValues(t, 1, sent.Load(), "seed %d", seed)
			}
		}
	})
}

// If an address has two ids, a revocation by the address or by either id covers both.
func TestUserID_BothIDsAreRevoked(t *testing.T) {
	const mail = "ada@example.org"
	for name, revoke := range map[string]func(context.Context, *Authority, string, string) error{
		"user":  func(ctx context.Context, a *Authority, _, user string) error { return a.RevokeUser(ctx, user) },
		"grant": func(ctx context.Context, a *Authority, app, user string) error { return a.RevokeGrant(ctx, app, user) },
	} {
		for by := range 3 {
			t.Run(fmt.Sprint(name, by), func(t *testing.T) {
				ctx := t.Context()
				server := miniredis.RunT(t)
				a, _ := testNode(t, server, withSecrets(rotationA, rotationB))
				b, _ := testNode(t, server, withSecrets(rotationB, rotationA))
				app := testApp(t, a)
				first, err := a.Issue(ctx, Grant{Application: app, Mail: mail, Scopes: app.Scopes})
				require.NoError(t, err)
				// As in former versions, each gateway indexes the address under its own first key only.
				server.Del(redisdb.KeyMail(b.keys.First(), string(mail)))
				own := vault.RandomID(vault.UserID)
				_, err = b.users.write(ctx, own, mail, app.ID)
				require.NoError(t, err)
				require.NoError(t, server.Set(redisdb.KeyMail(b.keys.First(), string(mail)), own))
				b.cache.mails.Store(mail, own)
				second, err := b.Issue(ctx, Grant{Application: app, Mail: mail, Scopes: app.Scopes})
				require.NoError(t, err)
				u, err := a.User(ctx, mail)
				require.NoError(t, err)
				require.Len(t, *u.others, 1)
				require.NoError(t, revoke(ctx, b, app.ID, []string{mail, u.ID, (*u.others)[0]}[by]))
				for _, tok := range []*Token{first, second} {
					for _, gateway := range []*Authority{a, b} {
						eventually(t, func() bool { _, err := gateway.Verify(ctx, tok.Value); return err != nil })
						_, err := gateway.Inspect(ctx, tok.Value)
						require.ErrorIs(t, err, ErrTokenInvalid)
					}
				}
			})
		}
	}
}

// After a failover, another gateway may give an address a second id. The tokens of both
// ids stay valid, and are revoked together.
func TestUserID_SecondIDAfterFailover(t *testing.T) {
	ctx := t.Context()
	const mail = "ada@example.org"
	server := miniredis.RunT(t)
	a, _ := testNode(t, server)
	b, _ := testNode(t, server)
	app := testApp(t, a)
	first, err := a.Issue(ctx, Grant{Application: app, Mail: mail, Scopes: app.Scopes})
	require.NoError(t, err)
	was, err := a.User(ctx, mail)
	require.NoError(t, err)
	for _, key := range []string{redisdb.KeyUser(was.ID), redisdb.KeyMail(a.keys.First(), string(mail))} {
		server.Del(key)
	}
	second, err := b.Issue(ctx, Grant{Application: app, Mail: mail, Scopes: app.Scopes})
	require.NoError(t, err)
	replayJournal(t, a)
	for _, tok := range []*Token{first, second} {
		_, err := b.Inspect(ctx, tok.Value)
		require.NoError(t, err)
	}
	_, u, err := a.issuer.userFor(ctx, Grant{Application: app, Mail: mail})
	require.NoError(t, err)
	require.NotEqual(t, was.ID, u.ID, "new tokens use the second id")

	// If this is lost as well, the gateway that issued under both ids links them again.
	third, err := a.Issue(ctx, Grant{Application: app, Mail: mail, Scopes: app.Scopes})
	require.NoError(t, err)
	require.Equal(t, u.ID, third.UserID)
	server.Del(redisdb.KeyUser(was.ID))
	server.HDel(redisdb.KeyUser(u.ID), prefixOther+was.ID)
	replayJournal(t, a)

	require.NoError(t, a.RevokeUser(ctx, mail))
	for _, tok := range []*Token{first, second, third} {
		_, err := a.Inspect(ctx, tok.Value)
		require.ErrorIs(t, err, ErrTokenInvalid)
	}
}
