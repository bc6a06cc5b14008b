// SPDX-License-Identifier: MIT

package redistest

import "testing"

// CutFeeds closes the connections of all subscribers once.
func (s *Server) CutFeeds(t testing.TB) {
	t.Helper()
	s.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
}

// RefuseFeeds closes the connections of all subscribers and forbids to subscribe until
// AllowFeeds.
func (s *Server) RefuseFeeds(t testing.TB) {
	t.Helper()
	s.do(t, "ACL", "SETUSER", "default", "-subscribe", "-psubscribe", "-ssubscribe")
	s.CutFeeds(t)
}

// AllowFeeds ends RefuseFeeds.
func (s *Server) AllowFeeds(t testing.TB) {
	t.Helper()
	s.do(t, "ACL", "SETUSER", "default", "+subscribe", "+psubscribe", "+ssubscribe")
}
