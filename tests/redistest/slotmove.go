// SPDX-License-Identifier: MIT

package redistest

import (
	"slices"
	"testing"
)

// SlotMove is a slot on its way from one node to another. Until it is finished
// the cluster answers ASK for keys that are at the new node already, and
// TRYAGAIN where an operation needs keys of both.
type SlotMove struct {
	cluster    *ClusterServers
	slot       int
	from, to   *Server
	fromID, id any
}

// MoveSlot moves a slot with all its keys to another node while the cluster
// serves; clients that remember the old owner are answered MOVED.
func (c *ClusterServers) MoveSlot(t testing.TB, slot int) {
	t.Helper()
	c.BeginSlotMove(t, slot).Finish(t)
}

// BeginSlotMove opens the move of a slot to another node and leaves it open:
// no key has moved yet.
func (c *ClusterServers) BeginSlotMove(t testing.TB, slot int) *SlotMove {
	t.Helper()
	m := &SlotMove{cluster: c, slot: slot, from: c.Owner(t, slot)}
	for _, n := range c.Nodes {
		if n != m.from {
			m.to = n
		}
	}
	m.fromID, m.id = m.from.do(t, "CLUSTER", "MYID"), m.to.do(t, "CLUSTER", "MYID")
	m.to.do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", m.fromID)
	m.from.do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", m.id)
	return m
}

// MoveKeys moves up to count keys and returns how many it found to move.
func (m *SlotMove) MoveKeys(t testing.TB, count int) int {
	t.Helper()
	keys, ok := m.from.do(t, "CLUSTER", "GETKEYSINSLOT", m.slot, count).([]any)
	if !ok {
		t.Fatal("redistest: CLUSTER GETKEYSINSLOT did not answer a list")
	}
	if len(keys) > 0 {
		to := []any{"MIGRATE", "127.0.0.1", m.to.claim.Port, "", 0, patience.Milliseconds(), "KEYS"}
		m.from.do(t, slices.Concat(to, keys)...)
	}
	return len(keys)
}

// Finish moves the keys that are left, hands the slot over and returns when all
// nodes know it.
func (m *SlotMove) Finish(t testing.TB) {
	t.Helper()
	for m.MoveKeys(t, 100) > 0 {
	}
	// The new owner first: were the old one to forget the slot before the new one
	// claims it, nobody would serve it.
	m.to.do(t, "CLUSTER", "SETSLOT", m.slot, "NODE", m.id)
	for _, n := range m.cluster.Nodes {
		if n != m.to {
			n.do(t, "CLUSTER", "SETSLOT", m.slot, "NODE", m.id)
		}
	}
	eventually(t, "all nodes to know the slot's new owner", func() bool {
		return m.cluster.agreedOwner(m.slot) == m.to
	})
}
