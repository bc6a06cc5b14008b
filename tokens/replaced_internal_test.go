package tokens

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// replace makes the server one that has the value under key that it had before,
// or none, and that a has found to be another one and checked.
func replace(a *Authority, server *miniredis.Miniredis, key, value string) {
	server.Del(key)
	if value != "" {
		_ = server.Set(key, value)
	}
	a.feed.replaced.Store(int64(time.Since(a.feed.born)))
}

// A server may be replaced between a write and what follows it: the successor
// does not have the write, and was checked before anybody knew of it.
func TestReplaced_InTheMiddleOfARevocation(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	tok := testToken(t, a, testApp(t, a))
	live, err := server.Get(keyToken(tok.ID))
	require.NoError(t, err)

	var done atomic.Bool
	publishes := runs(publishScript)
	f.set(func(cmd redis.Cmder) error {
		if publishes(cmd) != nil && done.CompareAndSwap(false, true) {
			replace(a, server, keyToken(tok.ID), live)
		}
		return nil
	}, nil)
	require.NoError(t, a.RevokeToken(t.Context(), tok.Value))
	require.True(t, done.Load())
	_, err = a.Inspect(t.Context(), tok.Value)
	require.ErrorIs(t, err, ErrTokenInvalid)
}

func TestReplaced_InTheMiddleOfIssuing(t *testing.T) {
	server := miniredis.RunT(t)
	a, f := testNode(t, server)
	app := testApp(t, a)
	testToken(t, a, app) // so that the user is there

	var done atomic.Bool
	f.set(nil, func(cmd redis.Cmder) error {
		key, _ := append(cmd.Args(), "", "")[1].(string)
		if cmd.Name() == "set" && len(key) > 6 && key[:6] == keyPrefix+"t:" && done.CompareAndSwap(false, true) {
			replace(a, server, key, "")
		}
		return nil
	})
	tok := testToken(t, a, app)
	require.True(t, done.Load())
	_, err := a.Inspect(t.Context(), tok.Value)
	require.NoError(t, err)
}
