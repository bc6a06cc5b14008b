// SPDX-License-Identifier: MIT

package knowntokens

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/heap"
	"github.com/meet-gateway/meet-gateway/tokens/grammar"
)

// sample returns the i-th token of a test with its hash and the prefix of its record name.
func sample(i int) (sum [sha256.Size]byte, record uint32, t *Token) {
	t = &Token{
		ID: [22]byte(fmt.Appendf(nil, "%022d", i)), User: [8]byte(fmt.Appendf(nil, "user%04d", i%1000)),
		Application: "app", KeyID: "kid", Scope: "rooms:list",
		Issued: 1760000000, Expires: 1760003600, Generations: [4]uint64{1, 2, uint64(i), 4}, Read: 5,
	}
	name := sha256.Sum256(t.ID[:])
	return sha256.Sum256(fmt.Appendf(nil, "token %d", i)), binary.BigEndian.Uint32(name[:]), t
}

// check requires that both indexes of each shard hold the same entries, and that every
// other slot is free.
func (t *Table) check(test *testing.T) {
	test.Helper()
	for i := range t.shards {
		s := &t.shards[i]
		bySum, byRecord, free := map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}
		for chain := range s.bySum {
			for slot := s.bySum[chain]; slot != 0; slot = s.at(slot).nextSum {
				require.Equal(test, slot, s.find(&s.at(slot).sum))
				bySum[slot] = true
			}
			for slot := s.byRecord[chain]; slot != 0; slot = s.at(slot).nextRecord {
				byRecord[slot] = true
			}
		}
		for slot := s.free; slot != 0; slot = s.at(slot).nextSum {
			require.False(test, bySum[slot])
			free[slot] = true
		}
		require.Equal(test, bySum, byRecord)
		require.Len(test, bySum, s.count)
		require.Equal(test, int(s.filled), s.count+len(free))
		require.LessOrEqual(test, int(s.filled), len(s.bySum))
	}
}

func TestTable_AddGetForget(t *testing.T) {
	for _, entries := range []int{10, 10_000} {
		table := New(entries)
		for i := range 3 * entries {
			sum, record, token := sample(i)
			require.True(t, table.Add(sum, record, token))
			require.Equal(t, grammar.Scopes{"rooms:list"}, token.Scopes)
			got, ok := table.Get(sum)
			require.True(t, ok)
			require.Equal(t, *token, got)
			require.True(t, table.Add(sum, record, token), "added twice")
		}
		table.check(t)
		require.LessOrEqual(t, table.Len(), entries)
		require.GreaterOrEqual(t, table.Len(), entries*9/10)

		kept := table.Len()
		for i := range 3 * entries {
			sum, record, _ := sample(i)
			_, there := table.Get(sum)
			table.Forget(record)
			if _, still := table.Get(sum); there {
				require.False(t, still)
				kept--
			}
			require.Equal(t, kept, table.Len())
		}
		require.Zero(t, table.Len())
		table.check(t)
		sum, record, token := sample(0)
		require.True(t, table.Add(sum, record, token))
		table.check(t)
	}
}

func TestTable_UsedTokensStay(t *testing.T) {
	table := New(100)
	used, record, token := sample(0)
	table.Add(used, record, token)
	for i := range 1000 {
		_, ok := table.Get(used)
		require.True(t, ok, i)
		sum, record, token := sample(i + 1)
		table.Add(sum, record, token)
	}
}

// Tokens with a common prefix of their hashes or record names are distinguished.
func TestTable_CommonPrefix(t *testing.T) {
	table := New(100)
	one, record, a := sample(1)
	other, b := one, *a
	other[15]++
	b.ID[0] = 'x'
	table.Add(one, record, a)
	_, ok := table.Get(other)
	require.False(t, ok)
	table.Add(other, record+100, &b)
	for sum, token := range map[[sha256.Size]byte]*Token{one: a, other: &b} {
		got, ok := table.Get(sum)
		require.True(t, ok)
		require.Equal(t, *token, got)
	}
	table.check(t)
	table.Forget(record)
	_, ok = table.Get(one)
	require.False(t, ok)
	_, ok = table.Get(other)
	require.True(t, ok, "another record in the same chain")
	table.Add(one, record+100, a)
	table.Forget(record + 100)
	require.Zero(t, table.Len())
	table.check(t)
}

func TestTable_ClassesAreBounded(t *testing.T) {
	table := New(10)
	for i := range 20 {
		sum, record, token := sample(i)
		token.Scope = fmt.Sprint(i)
		require.Equal(t, i < 10, table.Add(sum, record, token))
	}
	table.check(t)
}

func TestTable_Races(t *testing.T) {
	table := New(manyEntries + 1)
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			for i := range 5000 {
				sum, record, token := sample((i*7 + g) % 6000)
				switch i % 5 {
				case 0:
					table.Forget(record)
				case 1, 2:
					table.Add(sum, record, token)
				default:
					if got, ok := table.Get(sum); ok && (got.ID != token.ID || got.Generations != token.Generations) {
						t.Error("another token")
					}
				}
			}
		})
	}
	wait.Wait()
	table.check(t)
}

// An entry takes the memory that docs/decisions.md states.
func TestTable_Memory(t *testing.T) {
	const n = 100_000
	before := heap.InUse()
	table := New(n)
	for i := range n {
		sum, record, token := sample(i)
		table.Add(sum, record, token)
	}
	each := float64(heap.InUse()-before) / float64(table.Len())
	t.Logf("%d tokens, %.0f bytes per token", table.Len(), each)
	require.Less(t, each, 120.0)
	runtime.KeepAlive(table)
}

func full(b *testing.B) (*Table, [][sha256.Size]byte, []uint32) {
	b.Helper()
	table := New(100_000)
	sums, records := make([][sha256.Size]byte, 100_000), make([]uint32, 100_000)
	for i := range sums {
		sum, record, token := sample(i)
		sums[i], records[i] = sum, record
		table.Add(sum, record, token)
	}
	b.ReportAllocs()
	b.ResetTimer()
	return table, sums, records
}

func BenchmarkTable_Get(b *testing.B) {
	table, sums, _ := full(b)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			table.Get(sums[i*31%len(sums)])
		}
	})
}

func BenchmarkTable_Forget(b *testing.B) {
	table, _, records := full(b)
	for i := 0; b.Loop(); i++ {
		table.Forget(records[i%len(records)])
	}
}
