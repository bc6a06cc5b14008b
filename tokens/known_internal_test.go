// SPDX-License-Identifier: MIT

package tokens

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

func knownFor(i int) (sum [sha256.Size]byte, t *accessToken) {
	t = &accessToken{
		id: tokenID([]byte(fmt.Sprintf("%022d", i))), user: userIDOf(fmt.Sprintf("user%04d", i%1000)), app: "app", kid: "kid", scope: "rooms:list",
		issued: 1760000000, expires: 1760003600, issuedUnder: generations{1, 2, uint64(i), 4}, read: 5,
	}
	return hashToken(string(t.id[:])), t
}

// check requires that the index of records has what the shards have, and no more.
func (k *knownTokens) check(t *testing.T) {
	t.Helper()
	found := 0
	for i := range k.shards {
		s := &k.shards[i]
		require.LessOrEqual(t, len(s.slots), int(s.most))
		require.Equal(t, int(s.filled), len(s.slots)+len(s.free))
		for _, slot := range s.slots {
			e := s.at(slot)
			record := e.id.record()
			require.Equal(t, place{uint32(i), slot}, k.record(record).places[record])
			found++
		}
	}
	for i := range k.records {
		found -= len(k.records[i].places)
	}
	require.Zero(t, found)
}

func TestKnownTokens(t *testing.T) {
	for _, entries := range []int{10, 10_000} {
		k := newKnownTokens(entries)
		for i := range 3 * entries {
			sum, tok := knownFor(i)
			require.True(t, k.set(sum, tok))
			got, ok := k.get(sum)
			require.True(t, ok)
			require.Same(t, tok.class, got.class)
			require.Equal(t, *tok, got)
			require.True(t, k.set(sum, tok), "again")
		}
		k.check(t)
		require.LessOrEqual(t, k.len(), entries)
		require.GreaterOrEqual(t, k.len(), entries*9/10)

		kept := k.len()
		for i := range 3 * entries {
			sum, tok := knownFor(i)
			_, there := k.get(sum)
			k.forget(tok.id.record())
			if _, still := k.get(sum); there {
				require.False(t, still)
				kept--
			}
			require.Equal(t, kept, k.len())
		}
		require.Zero(t, k.len())
		k.check(t)
		sum, tok := knownFor(0)
		require.True(t, k.set(sum, tok))
		k.check(t)
	}
}

// A token that is used stays when others that are not come and go.
func TestKnownTokens_UsedOnesStay(t *testing.T) {
	k := newKnownTokens(100)
	used, tok := knownFor(0)
	k.set(used, tok)
	for i := range 1000 {
		_, ok := k.get(used)
		require.True(t, ok, i)
		sum, tok := knownFor(i + 1)
		k.set(sum, tok)
	}
}

// Two hashes that begin alike are two tokens.
func TestKnownTokens_SameBeginning(t *testing.T) {
	k := newKnownTokens(100)
	one, a := knownFor(1)
	other, b := one, *a
	other[20]++
	b.id[0] = 'x'
	k.set(one, a)
	_, ok := k.get(other)
	require.False(t, ok)
	k.set(other, &b)
	_, ok = k.get(one)
	require.False(t, ok, "it made room")
	got, ok := k.get(other)
	require.True(t, ok)
	require.Equal(t, b.id, got.id)
	k.check(t)
}

// Classes are bounded as tokens are.
func TestCache_ManyClasses(t *testing.T) {
	c := newCache(10)
	for i := range 1000 {
		sum, tok := knownFor(i)
		tok.scope = fmt.Sprint(i)
		c.fillToken(sum, tok, tok.key(), c.epochs.Now(tok.key()))
		require.LessOrEqual(t, len(*c.tokens.Load().classes.Load()), 10)
	}
	c.tokens.Load().check(t)
}

func TestKnownTokens_Races(t *testing.T) {
	c := newCache(wholeTokens + 1)
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			for i := range 5000 {
				sum, tok := knownFor((i*7 + g) % 6000)
				switch i % 5 {
				case 0:
					c.forget(tok.key())
				case 1, 2:
					c.fillToken(sum, tok, tok.key(), c.epochs.Now(tok.key()))
				default:
					if got, ok := c.tokens.Load().get(sum); ok && (got.id != tok.id || got.issuedUnder != tok.issuedUnder) {
						t.Error("another token")
					}
				}
				if i == 2500 && g == 0 {
					c.dropAll()
				}
			}
		})
	}
	wait.Wait()
	c.tokens.Load().check(t)
}

// What is written down for each known token.
func TestKnownTokens_Memory(t *testing.T) {
	const n = 100_000
	before := heapInUse()
	k := newKnownTokens(n)
	for i := range n {
		sum, tok := knownFor(i)
		k.set(sum, tok)
	}
	each := float64(heapInUse()-before) / float64(k.len())
	t.Logf("%d tokens, %.0f bytes for each", k.len(), each)
	require.Less(t, each, 220.0)
	runtime.KeepAlive(k)
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers held
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A token found by its record is the one that the record is of.
func TestRecordID(t *testing.T) {
	id := vault.RandomID(vault.TokenID)
	record, ok := redisdb.ParseRecordID(redisdb.KeyToken(id)[len("mg1:t:"):])
	require.True(t, ok)
	require.Equal(t, redisdb.RecordOf([]byte(id)), record)
	for _, bad := range []string{"", "u", "*", string(make([]byte, 100)), redisdb.KeyToken(id)} {
		_, ok := redisdb.ParseRecordID(bad)
		require.False(t, ok, bad)
	}
}

func BenchmarkKnownTokens(b *testing.B) {
	k := newKnownTokens(100_000)
	sums := make([][sha256.Size]byte, 100_000)
	for i := range sums {
		sum, tok := knownFor(i)
		sums[i] = sum
		k.set(sum, tok)
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			k.get(sums[i*31%len(sums)])
		}
	})
}
