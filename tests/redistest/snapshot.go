// SPDX-License-Identifier: MIT

package redistest

import (
	"os"
	"path/filepath"
	"testing"
)

// dumpFile is where redis-server looks for its data when it starts.
const dumpFile = "dump.rdb"

// Snapshot is all data of a server at one moment, in Redis' own dump format.
type Snapshot []byte

// SaveSnapshot takes the server's data as it is now.
func (s *Server) SaveSnapshot(t testing.TB) Snapshot {
	t.Helper()
	s.do(t, "SAVE")
	dump, err := os.ReadFile(filepath.Join(s.dir, dumpFile))
	if err != nil {
		t.Fatal("redistest: reading the snapshot:", err)
	}
	if err := os.Remove(filepath.Join(s.dir, dumpFile)); err != nil {
		t.Fatal("redistest: removing the snapshot:", err) // else a plain restart would bring it back
	}
	return dump
}

// RestoreSnapshot restarts the server with the data of a snapshot, as an
// operator does from a backup: whatever happened since is undone.
// It is for servers without append-only file, which would win over the snapshot.
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
