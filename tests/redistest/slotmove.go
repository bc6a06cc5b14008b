// SPDX-License-Identifier: MIT

package redistest

import (
	"slices"
	"testing"
)

// SlotMove is a slot that moves from one node to another. Until it has finished, the cluster
// answers ASK for keys that have moved, and TRYAGAIN to an operation on keys of both nodes.
type SlotMove struct {
	cluster    *ClusterServers
	slot       int
	from, to   *Server
	fromID, id any
}

// MoveSlot moves a slot with its keys to another node. Clients that use the old one are
// answered MOVED.
func (c *ClusterServers) MoveSlot(t testing.TB, slot int) {
	t.Helper()
	c.BeginSlotMove(t, slot).Finish(t)
}

// BeginSlotMove begins to move a slot to another node, without any key.
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

// MoveKeys moves up to count keys and returns how many it moved.
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

// Finish moves the remaining keys and the slot, and returns when all nodes know the new owner.
func (m *SlotMove) Finish(t testing.TB) {
	t.Helper()
	for m.MoveKeys(t, 100) > 0 {
	}
	// The new owner first, so that some node always serves the slot.
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
