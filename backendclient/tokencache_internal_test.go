// SPDX-License-Identifier: MIT

package backendclient

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/meet-gateway/meet-gateway/tests/heap"
)

func identityOf(client, mail string) identity {
	return Caller{Credentials: Credentials{client, "secret"}, Mail: mail}.identity()
}

// tokenOf returns a token like Meet's that can be used for a while after received.
func tokenOf(value, userID string, received time.Time) *Token {
	t := newToken(value, userID)
	t.received, t.expires = received.UnixMilli(), received.Add(time.Hour).UnixMilli()
	t.scopes = sharedScopes.fields("rooms:list")
	return t
}

// hmac returns 32 bytes like a signature.
func hmac(user int) string {
	sum := sha256.Sum256(fmt.Append(nil, user))
	return string(sum[:])
}

func meetToken(user, issued int) (value, userID string) {
	userID = uuid.NewSHA1(uuid.Nil, fmt.Append(nil, user)).String()
	payload := fmt.Sprintf(`{"client_id":"gateway","delegated":true,"iat":%d,"exp":%d,"user_id":"%s","iss":"lasuite-meet",`+
		`"aud":"meet-clients","scope":"rooms:list rooms:retrieve rooms:create"}`, issued, issued+3600, userID)
	return jwt(`{"alg":"HS256","typ":"JWT"}`, payload, hmac(user)), userID
}

// A token is the same after it was packed, whatever its form.
func TestTokenCache_KeepsEverything(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_760_000_000, 123e6)
	c := newTokenCache(100)
	value, userID := meetToken(1, 1_760_000_000)
	similar, similarID := meetToken(2, 1_760_000_100)
	for i, token := range []*Token{
		tokenOf(value, userID, now),
		tokenOf(similar, similarID, now),
		tokenOf(jwt("{}", "{}", strings.Repeat("long", 1000)), "", now), // another form
		tokenOf(similar, "escaped", now),                                // the user id is not in the token as it is
		tokenOf(similar, "HS256", now),                                  // in the header, too
		tokenOf(similar, strings.ToUpper(similarID), now),
		tokenOf(jwt("{}", strings.ToUpper(similarID), ""), strings.ToUpper(similarID), now), // not as UUIDs are usually written
		tokenOf(jwt("{}", strings.Repeat("i", 2*maxUserID), ""), strings.Repeat("i", 2*maxUserID), now),
		tokenOf("opaque", "", now),
		tokenOf("e30.e30.e31", "", now),
		{text: "Bearer x", headerSize: 8, received: now.UnixMilli(), expires: now.Add(time.Hour).UnixMilli()}, // without scopes
		{
			text: "Bearer x", headerSize: 8, received: now.UnixMilli(), expires: now.Add(10 * 365 * 24 * time.Hour).UnixMilli(),
			missedScopes: 1 << 30, lastUse: use{now.Unix(), "application"},
		},
	} {
		id := identityOf("client", fmt.Sprintf("user%d@example.com", i))
		key := c.put(id, token)
		got, ok := c.get(id, now)
		require.True(t, ok, i)
		require.Equal(t, token, got)

		kept, got, ok := c.at(key, now)
		require.True(t, ok, i)
		require.Equal(t, token, got)
		require.Equal(t, id, kept)
	}
}

func TestTokenCache_ExpiresOnTime(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_760_000_000, 0)
	c, id, token := newTokenCache(1), identityOf("client", "alice@example.com"), tokenOf("a.b.c", "", now)
	key := c.put(id, token)
	for after, usable := range map[time.Duration]bool{0: true, 54*time.Minute - 1: true, 54 * time.Minute: false} {
		_, ok := c.get(id, now.Add(after))
		require.Equal(t, usable, ok)
		_, _, ok = c.at(key, now.Add(after))
		require.Equal(t, usable, ok)
	}
}

// Two identities with the same hash do not get each other's token.
func TestTokenCache_SameHash(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_760_000_000, 0)
	c, alice, bob := newTokenCache(10), identityOf("client", "alice@example.com"), identityOf("client", "bob@example.com")
	token := tokenOf("a.b.c", "", now)
	c.packed[c.key(bob)] = c.packed[c.put(alice, token)]
	_, ok := c.get(bob, now)
	require.False(t, ok)
	c.setUse(bob, token, use{at: 1})
	c.drop(bob, token)
	require.Equal(t, 2, c.len())
	_, got, _ := c.at(c.key(bob), now)
	require.Zero(t, got.lastUse)
}

// Only the token that is kept can be dropped or used.
func TestTokenCache_AnotherToken(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_760_000_000, 0)
	c, id := newTokenCache(10), identityOf("client", "alice@example.com")
	old, kept := tokenOf("a.b.c", "", now), tokenOf("a.b.d", "", now)
	c.setUse(id, old, use{at: 1})
	c.drop(id, old)
	require.Zero(t, c.len())
	c.put(id, kept)
	c.setUse(id, old, use{now.Unix(), "application"})
	c.drop(id, old)
	got, ok := c.get(id, now)
	require.True(t, ok)
	require.Equal(t, kept, got)

	c.setUse(id, kept, use{now.Unix(), "application"})
	got, _ = c.get(id, now)
	require.Equal(t, use{now.Unix(), "application"}, got.lastUse)
	c.drop(id, kept)
	require.Zero(t, c.len())

	c.put(id, kept)
	c.forget(identityOf("client", "bob@example.com"))
	require.Equal(t, 1, c.len())
	c.forget(id)
	require.Zero(t, c.len())
}

// A full cache drops the token that was not used for the longest time. It compares all
// tokens if there are few.
func TestTokenCache_DropsLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, evictionSamples).Draw(t, "limit")
		c := newTokenCache(limit)
		now := time.Unix(1_760_000_000, 0)
		kept := map[int]*Token{}
		used := map[int]time.Time{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			now = now.Add(time.Second)
			user := rapid.IntRange(0, 2*evictionSamples).Draw(t, "user")
			id := identityOf("client", fmt.Sprint(user))
			if token := kept[user]; token != nil && rapid.Bool().Draw(t, "use") {
				c.setUse(id, token, use{at: now.Unix()})
				used[user] = now
			} else {
				if token == nil && len(kept) == limit {
					oldest := -1
					for other, at := range used {
						if oldest < 0 || at.Before(used[oldest]) {
							oldest = other
						}
					}
					delete(kept, oldest)
					delete(used, oldest)
				}
				value, userID := meetToken(user, int(now.Unix()))
				kept[user], used[user] = tokenOf(value, userID, now), now
				c.put(id, kept[user])
			}
			if c.len() != len(kept) {
				t.Fatalf("%d tokens, want %d", c.len(), len(kept))
			}
			for user, want := range kept {
				if got, ok := c.get(identityOf("client", fmt.Sprint(user)), now); !ok || got.Value() != want.Value() {
					t.Fatalf("user %d has another token, or none", user)
				}
			}
		}
	})
}

// Meet's token takes less than half of the memory of its text, which has 410 bytes.
func TestTokenCache_Memory(t *testing.T) {
	const n = 50_000
	c := newTokenCache(n)
	now := time.Unix(1_760_000_000, 0)
	before := heap.InUse()
	for i := range n {
		value, userID := meetToken(i, int(now.Unix())+i)
		c.put(identityOf("client", fmt.Sprintf("user.%d@example.org", i)), tokenOf(value, userID, now))
	}
	each := float64(heap.InUse()-before) / n
	t.Logf("%.0f bytes a token", each)
	require.Less(t, each, 190.0)
	require.Equal(t, n, c.len())
}

// After a change in Meet, the tokens of an application have two forms for a while. Each has a pattern.
func TestTokenCache_TwoForms(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_760_000_000, 0)
	c := newTokenCache(100)
	for i := range 20 {
		value, userID := meetToken(i, int(now.Unix()))
		id := identityOf("client", fmt.Sprint(i))
		c.put(id, tokenOf(value, userID, now))
		c.put(identityOf("client", fmt.Sprint(i, "later")), tokenOf(jwt("{}", strings.Repeat("i", i+1), ""), "", now))
		if pattern := c.packed[c.key(id)].shared.Value().pattern; i > 0 {
			require.Same(t, c.packed[c.key(identityOf("client", "0"))].shared.Value().pattern, pattern)
		}
	}
}
