// SPDX-License-Identifier: MIT

package redistest

import "testing"

// CutFeeds closes the connections of all subscribers once; they may subscribe
// again at once. All other connections go on.
func (s *Server) CutFeeds(t testing.TB) {
	t.Helper()
	s.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
}

// RefuseFeeds closes the connections of all subscribers and lets nobody
// subscribe until AllowFeeds, while every other command is served.
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
