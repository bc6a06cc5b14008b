// SPDX-License-Identifier: MIT

package backendclient

import "sync/atomic"

// Stats counts what became of callers who needed one of Meet's tokens.
type Stats struct {
	// Queued is how many exchanges wait for their turn now, Running how many are
	// under way.
	Queued, Running int
	// FromMemory counts callers who got a token that this process had kept,
	// FromStore those who got one that another process had put into the store, and
	// Shared those who waited for an exchange that was under way already. None of
	// them cost Meet an exchange.
	FromMemory, FromStore, Shared uint64
	// Tokens is how many tokens are kept in this process.
	Tokens int
	// Renewals are what [Client.Renew] did.
	Renewals Renewals
}

// counters are the parts of Stats that only grow.
type counters struct {
	fromMemory, fromStore atomic.Uint64
	// asked counts callers without a token in this process; flights those of them
	// that looked for one instead of waiting for another's.
	asked, flights atomic.Uint64
}

// Stats returns the numbers of this client.
func (c *Client) Stats() Stats {
	s := Stats{
		FromMemory: c.counters.fromMemory.Load(), FromStore: c.counters.fromStore.Load(),
		Tokens: c.tokens.len(),
		Renewals: Renewals{
			Exchanged: c.renewals.exchanged.Load(), Found: c.renewals.found.Load(),
			Refused: c.renewals.refused.Load(), Failed: c.renewals.failed.Load(),
		},
	}
	flights := c.counters.flights.Load() // before asked, which is never less
	s.Shared = c.counters.asked.Load() - flights
	s.Queued, s.Running = c.turns.count()
	return s
}

// count returns how many wait for a turn and how many have one.
func (t *fairQueue) count() (queued, running int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, waiting := range t.waiting {
		queued += waiting.turns.Len()
	}
	return queued, t.size - t.free
}
