// SPDX-License-Identifier: MIT

package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

func testMeetTokens(t *testing.T, open Opener) {
	ctx := t.Context()
	a, b := Node(t, open), Node(t, open)
	key := tokens.NewPassword()
	v, err := a.LoadMeetToken(ctx, key)
	require.NoError(t, err)
	require.Nil(t, v)
	require.NoError(t, a.SaveMeetToken(ctx, key, []byte("token at Meet"), time.Minute))
	v, err = b.LoadMeetToken(ctx, key)
	require.NoError(t, err)
	require.Equal(t, "token at Meet", string(v))
	require.NoError(t, b.DropMeetToken(ctx, key, []byte("an older one")))
	v, err = a.LoadMeetToken(ctx, key)
	require.NoError(t, err)
	require.NotNil(t, v, "another gateway has renewed the token")
	require.NoError(t, b.DropMeetToken(ctx, key, []byte("token at Meet")))
	v, err = a.LoadMeetToken(ctx, key)
	require.NoError(t, err)
	require.Nil(t, v)

	unlock, ok, err := a.LockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	_, ok, err = b.LockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.False(t, ok)
	unlock()
	unlock, ok, err = b.LockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	unlock()

	v, unlock, err = a.LoadOrLockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.Nil(t, v)
	require.NotNil(t, unlock, "there is no token and no lock")
	v, other, err := b.LoadOrLockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.Nil(t, v)
	require.Nil(t, other, "gateway a holds the lock")
	require.NoError(t, a.SaveMeetToken(ctx, key, []byte("token at Meet"), time.Minute))
	v, other, err = b.LoadOrLockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.Equal(t, "token at Meet", string(v))
	require.Nil(t, other)
	unlock()
	_, ok, err = b.LockMeetToken(ctx, key, time.Minute)
	require.NoError(t, err)
	require.True(t, ok, "loading a token takes no lock")
}
