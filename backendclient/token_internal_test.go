// SPDX-License-Identifier: MIT

package backendclient

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUsableUntil(t *testing.T) {
	t.Parallel()
	received := time.Unix(1_000_000, 0)
	for _, c := range []struct{ life, usable time.Duration }{
		{-time.Second, 0},
		{0, 0},
		{time.Second, 500 * time.Millisecond},
		{time.Minute, 30 * time.Second},
		{119 * time.Second, 59500 * time.Millisecond},
		{2 * time.Minute, time.Minute},
		{10 * time.Minute, 9 * time.Minute},
		{time.Hour, 54 * time.Minute},
		{24 * time.Hour, 24*time.Hour - 144*time.Minute},
		{31 * 365 * 24 * time.Hour, maxKept},
	} {
		token := &Token{received: received.UnixMilli(), expires: received.Add(c.life).UnixMilli()}
		require.Equal(t, c.usable, token.usableUntil().Sub(received), "life %s", c.life)
	}
}

func TestReadToken(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 123_456_789)
	jwt := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"user_id":"u-1"}`)) + ".sig"
	for name, c := range map[string]struct {
		body   string
		life   time.Duration
		scopes []string
		bad    bool
	}{
		"plain":              {body: `{"access_token":"` + jwt + `","expires_in":3600,"scope":"a b"}`, life: time.Hour, scopes: []string{"a", "b"}},
		"no scope":           {body: `{"access_token":"` + jwt + `","expires_in":60}`, life: time.Minute},
		"null scope":         {body: `{"access_token":"` + jwt + `","expires_in":60,"scope":null}`, life: time.Minute},
		"fraction":           {body: `{"access_token":"` + jwt + `","expires_in":1.5}`, life: 1500 * time.Millisecond},
		"no lifetime":        {body: `{"access_token":"` + jwt + `"}`},
		"expires at once":    {body: `{"access_token":"` + jwt + `","expires_in":0}`},
		"negative":           {body: `{"access_token":"` + jwt + `","expires_in":-5}`},
		"very long lifetime": {body: `{"access_token":"` + jwt + `","expires_in":1e300}`, life: 10 * 365 * 24 * time.Hour},
		"lifetime as string": {body: `{"access_token":"` + jwt + `","expires_in":"3600"}`, bad: true},
		"no token":           {body: `{"expires_in":3600}`, bad: true},
		"token with line":    {body: `{"access_token":"a\r\nX: y","expires_in":3600}`, bad: true},
		"token with space":   {body: `{"access_token":"a b","expires_in":3600}`, bad: true},
		"token too long":     {body: `{"access_token":"` + strings.Repeat("a", maxTokenLength+1) + `","expires_in":3600}`, bad: true},
		"array":              {body: `[]`, bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := readToken([]byte(c.body), now)
			if c.bad {
				require.Error(t, err)
				require.NotContains(t, err.Error(), "3600")
				return
			}
			require.NoError(t, err)
			require.Equal(t, jwt, token.Value())
			require.Equal(t, "u-1", token.UserID())
			require.Equal(t, c.life, token.Expires().Sub(token.Received()))
			require.Equal(t, c.scopes, token.Scopes())
		})
	}
}

func TestStoredTokenRoundTrip(t *testing.T) {
	t.Parallel()
	token, err := readToken([]byte(`{"access_token":"a.b.c","expires_in":3600,"scope":"x y"}`), time.Now())
	require.NoError(t, err)
	value, err := encodeToken(token)
	require.NoError(t, err)

	read := decodeToken(value)
	require.NotNil(t, read)
	require.True(t, token.Expires().Equal(read.Expires()))
	again, err := encodeToken(read)
	require.NoError(t, err)
	require.Equal(t, value, again, "the store compares bytes")

	for _, foreign := range []string{"", "{}", `{"v":2,"t":"a"}`, `{"v":1}`, `{"v":1,"t":"a b"}`, "\x00"} {
		require.Nil(t, decodeToken([]byte(foreign)), foreign)
	}
}

// FuzzUserID checks that any token can be read for its user, and that the user is short: it
// becomes a part of the gateway's own tokens, which have a maximum length.
func FuzzUserID(f *testing.F) {
	for _, seed := range []string{
		"", ".", "..", "a.b.c", "e30.e30.e30",
		"e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"user_id":"a11ce000-0000-4000-8000-00000000000a"}`)) + ".x",
		"e30." + base64.URLEncoding.EncodeToString([]byte(`{"user_id":"padded"}`)) + ".x",
		"e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"user_id":7}`)) + ".x",
		"e30." + base64.RawURLEncoding.EncodeToString([]byte(`[]`)) + ".x",
	} {
		f.Add(seed)
	}
	f.Add("e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"user_id":"`+strings.Repeat("a", 5000)+`"}`)) + ".x")
	f.Fuzz(func(t *testing.T, token string) {
		id := userID(token)
		if len(id) > maxUserID {
			t.Fatalf("a user of %d bytes", len(id))
		}
		if id != "" && strings.Count(token, ".") < 2 {
			t.Fatalf("user %q from a token of fewer than three parts", id)
		}
	})
}

// FuzzReadToken checks that an accepted token can be sent, stored and read again.
func FuzzReadToken(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"a.b.c","token_type":"Bearer","expires_in":3600,"scope":"rooms:list rooms:create"}`,
		`{"access_token":"a","expires_in":1e308}`, `{"access_token":"a\n"}`, `{"access_token":7}`, `null`, `<html>`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		token, err := readToken(body, time.Unix(1_000_000, 0))
		if err != nil {
			return
		}
		require.True(t, sendable(token.Value()))
		require.False(t, token.Expires().Before(token.Received()))
		require.False(t, token.usableUntil().After(token.Received().Add(maxKept)))
		value, err := encodeToken(token)
		require.NoError(t, err)
		require.NotNil(t, decodeToken(value))
	})
}

// Tokens that were received together are due at different times in the last third of their
// use. If that time has passed, as for a gateway that has just started, they are due at
// different times from now on.
func TestToken_RenewAt(t *testing.T) {
	t.Parallel()
	received := time.Unix(1000, 0)
	for _, now := range []time.Time{received, received.Add(20 * time.Hour)} {
		earliest, latest := received.Add(24*time.Hour), received
		for i := range 1000 {
			token := newToken(fmt.Sprintf("header.payload.%d", i), "")
			token.received, token.expires = received.UnixMilli(), received.Add(24*time.Hour).UnixMilli()
			at := token.renewAt(now)
			require.False(t, at.Before(now))
			if at.Before(earliest) {
				earliest = at
			}
			if at.After(latest) {
				latest = at
			}
		}
		require.Less(t, latest.Sub(received), time.Duration(0.99*float64(21*time.Hour+36*time.Minute)))
		if now.Equal(received) {
			require.GreaterOrEqual(t, earliest.Sub(received), 15*time.Hour)
			require.Greater(t, latest.Sub(earliest), 4*time.Hour)
		} else {
			require.Greater(t, latest.Sub(earliest), 40*time.Minute)
		}
	}
}
