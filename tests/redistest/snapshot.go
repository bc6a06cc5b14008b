// SPDX-License-Identifier: MIT

package redistest

import (
	"os"
	"path/filepath"
	"testing"
)

// dumpFile is what redis-server loads when it starts.
const dumpFile = "dump.rdb"

// Snapshot is an RDB dump of a server.
type Snapshot []byte

// SaveSnapshot dumps the data of the server.
func (s *Server) SaveSnapshot(t testing.TB) Snapshot {
	t.Helper()
	s.do(t, "SAVE")
	dump, err := os.ReadFile(filepath.Join(s.dir, dumpFile))
	if err != nil {
		t.Fatal("redistest: reading the snapshot:", err)
	}
	if err := os.Remove(filepath.Join(s.dir, dumpFile)); err != nil {
		t.Fatal("redistest: removing the snapshot:", err) // or a restart would load it
	}
	return dump
}

// RestoreSnapshot restarts the server with the data of a snapshot. It must have no append-only
// file, which would be loaded instead.
func (s *Server) RestoreSnapshot(t testing.TB, snapshot Snapshot) {
	t.Helper()
	s.Stop(t)
	if err := os.WriteFile(filepath.Join(s.dir, dumpFile), snapshot, 0o600); err != nil {
		t.Fatal("redistest: writing the snapshot:", err)
	}
	s.Start(t)
	if err := os.Remove(filepath.Join(s.dir, dumpFile)); err != nil {
		t.Fatal("redistest: removing the snapshot:", err)
	}
}
