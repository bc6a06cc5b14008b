// SPDX-License-Identifier: MIT

package limit

// Names lists the names of all policies, in the order of the constants.
var Names = names[:]

// Entries returns the number of counts in memory.
func (l *Limiter) Entries() int {
	n := 0
	for _, c := range l.buckets {
		if c != nil {
			n += c.Len()
		}
	}
	return n
}
