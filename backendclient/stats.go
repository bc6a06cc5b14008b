// SPDX-License-Identifier: MIT

package backendclient

import "sync/atomic"

// Stats counts how callers got one of Meet's tokens.
type Stats struct {
	// Queued is the number of exchanges that wait for a slot now, Running of those that have one.
	Queued, Running int
	// FromMemory counts tokens from this process, FromStore tokens that another process had
	// stored, Shared callers that joined an exchange in progress. None of them cost Meet an
	// exchange.
	FromMemory, FromStore, Shared uint64
	// Tokens is the number of tokens in this process.
	Tokens int
	// Renewals counts the results of [Client.Renew].
	Renewals Renewals
}

// counters are the fields of Stats that only grow.
type counters struct {
	fromMemory, fromStore atomic.Uint64
	// asked counts callers without a token in this process, flights those of them that
	// did not join another's flight.
	asked, flights atomic.Uint64
}

// Stats returns the counters of this client.
func (c *Client) Stats() Stats {
	s := Stats{
		FromMemory: c.counters.fromMemory.Load(), FromStore: c.counters.fromStore.Load(),
		Tokens: c.tokens.len(),
		Renewals: Renewals{
			Exchanged: c.renewals.exchanged.Load(), Found: c.renewals.found.Load(),
			Refused: c.renewals.refused.Load(), Failed: c.renewals.failed.Load(),
		},
	}
	flights := c.counters.flights.Load() // before asked, so that asked is never less
	s.Shared = c.counters.asked.Load() - flights
	s.Queued, s.Running = c.turns.count()
	return s
}
