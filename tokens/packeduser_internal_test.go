// SPDX-License-Identifier: MIT

package tokens

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/meet-gateway/meet-gateway/tests/heap"
)

// What decisions need of a user is the same after it was packed.
func TestPackedUser(t *testing.T) {
	t.Parallel()
	instant := rapid.OneOf(rapid.Just(time.Time{}), rapid.Custom(func(t *rapid.T) time.Time {
		return time.UnixMilli(rapid.Int64Range(1, 1<<42).Draw(t, "ms")).UTC()
	}))
	rapid.Check(t, func(t *rapid.T) {
		u := &User{
			ID: rapid.StringMatching(`[A-Za-z0-9]{8}`).Draw(t, "user"), Mail: Mail(rapid.String().Draw(t, "mail")),
			FirstSeen: instant.Draw(t, "first"), FirstSeenBy: rapid.String().Draw(t, "firstBy"),
			generation: rapid.Uint64().Draw(t, "generation"), grantCount: rapid.Uint64().Draw(t, "grantCount"),
			read: instant.Draw(t, "read"),
		}
		if rapid.Bool().Draw(t, "revoked") {
			u.revoked, u.others = &revokedGrants{floor: 3, latest: map[string]uint64{"app": 4}}, &[]string{"other"}
		}
		full := *u
		full.BackendUserID, full.LastSeen, full.LastSeenBy = "id", time.Now(), "application"
		if got := full.pack().unpack(userIDOf(u.ID)); !reflect.DeepEqual(got, u) {
			t.Fatalf("%+v became %+v", u, got)
		}
	})
}

func TestPackedUser_Memory(t *testing.T) {
	const n = 50_000
	c := newCache(n)
	now := time.Now()
	before := heap.InUse()
	for i := range n {
		u := &User{
			ID: fmt.Sprintf("%08d", i), Mail: Mail(fmt.Sprintf("user.%d@example.org", i)),
			FirstSeen: now, FirstSeenBy: "anApplicationHas32LettersOrDigit",
			generation: uint64(now.Unix()), read: now,
		}
		c.users.Store(userIDOf(u.ID), u.pack())
	}
	each := float64(heap.InUse()-before) / n
	t.Logf("%.0f bytes a user", each)
	require.Less(t, each, 110.0)
	require.Equal(t, n, c.users.Len())
}

func BenchmarkPackedUser(b *testing.B) {
	u := &User{
		ID: "abcdefgh", Mail: "alice@example.org", FirstSeen: time.Now(), read: time.Now(),
		generation: uint64(time.Now().Unix()),
	}
	packed := u.pack()
	b.ReportAllocs()
	for b.Loop() {
		packed.unpack(userIDOf(u.ID))
	}
}
