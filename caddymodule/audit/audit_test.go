// SPDX-License-Identifier: MIT

package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
)

var secret = []byte("0123456789-0123456789-0123456789")

func key(t testing.TB) *audit.Key {
	t.Helper()
	k, err := audit.NewKey(secret)
	require.NoError(t, err)
	return k
}

// appendTo opens a file as Caddy's log writers do.
func appendTo(path string) func() (io.WriteCloser, error) {
	return func() (io.WriteCloser, error) { return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) }
}

func open(t testing.TB, path string) *audit.Trail {
	t.Helper()
	trail, err := audit.Open(audit.Options{Open: appendTo(path), File: path, Gateway: "gw1", Key: key(t)})
	require.NoError(t, err)
	return trail
}

func event(i int) audit.Event {
	return audit.Event{
		Type: audit.RoomCreated, Decision: audit.Allowed, Rule: "scope rooms:create", RequestID: fmt.Sprintf("request-%d", i),
		Application: &audit.Application{ID: "app1", Name: "Calendar"}, User: "abcd1234", Room: &audit.Room{ID: fmt.Sprint("room-", i), Slug: "aaa-bbbb-ccc"},
	}
}

// write creates a trail with n events in lines 2 to n+1, and closes it.
func write(t testing.TB, path string, n int) {
	t.Helper()
	trail := open(t, path)
	for i := range n {
		require.NoError(t, trail.Write(event(i)))
	}
	require.NoError(t, trail.Close())
}

func verify(t testing.TB, o audit.VerifyOptions, files ...string) *audit.Report {
	t.Helper()
	if o.Keys == nil {
		o.Keys = []*audit.Key{key(t)}
	}
	r, err := audit.Verify(files, o)
	require.NoError(t, err)
	return r
}

func readLines(t testing.TB, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")
}

// Every change to the lines of a trail is found and its place is reported.
func TestVerify_Tampering(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tamper func([]string) []string
		kind   string
		seq    uint64 // named by a finding, as the line itself or in the text
	}{
		"a value changed": {func(l []string) []string {
			l[4] = strings.Replace(l[4], "abcd1234", "abcd1235", 1)
			return l
		}, audit.Changed, 5},
		"a line made unreadable": {func(l []string) []string { l[4] = "{}\n"; return l }, audit.Changed, 5},
		"a line removed":         {func(l []string) []string { return append(l[:4:4], l[5:]...) }, audit.Removed, 5},
		"several lines removed":  {func(l []string) []string { return append(l[:4:4], l[7:]...) }, audit.Removed, 5},
		"two lines swapped":      {func(l []string) []string { l[4], l[5] = l[5], l[4]; return l }, audit.Swapped, 5},
		"a line twice":           {func(l []string) []string { return append(l[:5:5], l[4:]...) }, audit.Swapped, 5},
		"the last line cut in the middle": {func(l []string) []string {
			l[len(l)-1] = l[len(l)-1][:40]
			return l
		}, audit.Cut, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "audit.log")
			write(t, path, 10)
			require.Empty(t, verify(t, audit.VerifyOptions{}, path).Findings)
			require.NoError(t, os.WriteFile(path, []byte(strings.Join(c.tamper(readLines(t, path)), "")), 0o600))
			r := verify(t, audit.VerifyOptions{}, path)
			require.False(t, r.OK())
			require.Equal(t, c.kind, r.Findings[0].Kind, r.Findings)
			require.Contains(t, r.Findings[0].File, "audit.log")
			if c.seq > 0 && r.Findings[0].Seq != c.seq && r.Findings[0].Line != int(c.seq) {
				require.Regexp(t, fmt.Sprintf(`lines? %d\b`, c.seq), r.Findings[0].Text)
			}
		})
	}
}

// The noted head reveals lines that were removed from the end. The key reveals lines that were
// written with another secret.
func TestVerify_HeadAndKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	trail := open(t, path)
	for i := range 5 {
		require.NoError(t, trail.Write(event(i)))
	}
	noted := trail.State().Hash
	require.NoError(t, trail.Close())
	require.True(t, verify(t, audit.VerifyOptions{Head: noted}, path).OK())

	lines := readLines(t, path)
	cut := filepath.Join(dir, "cut.log")
	require.NoError(t, os.WriteFile(cut, []byte(strings.Join(lines[:4], "")), 0o600))
	r := verify(t, audit.VerifyOptions{Head: noted}, cut)
	require.Equal(t, audit.Cut, r.Findings[0].Kind)
	require.Contains(t, r.Findings[0].Text, noted)
	require.Contains(t, r.Findings[0].Text, "line 4")
	r = verify(t, audit.VerifyOptions{}, cut)
	require.True(t, r.OK(), "the gateway may still be running")
	require.Contains(t, r.Notes[0], "without being closed")

	forged := filepath.Join(dir, "forged.log")
	other, err := audit.NewKey([]byte("another secret with enough characters"))
	require.NoError(t, err)
	forger, err := audit.Open(audit.Options{Open: appendTo(forged), File: forged, Gateway: "gw1", Key: other})
	require.NoError(t, err)
	require.NoError(t, forger.Write(event(1)))
	require.NoError(t, forger.Close())
	chainOnly, err := audit.Verify([]string{forged}, audit.VerifyOptions{})
	require.NoError(t, err)
	require.True(t, chainOnly.OK(), "hashes alone prove nothing about who wrote them")
	require.Equal(t, audit.Forged, verify(t, audit.VerifyOptions{}, forged).Findings[0].Kind)
}

// A trail continues after a restart, and reports that the last process was killed.
func TestTrail_Restarts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	write(t, path, 3)
	killed := open(t, path) // never closed
	require.NoError(t, killed.Write(event(3)))
	require.Equal(t, uint64(7), killed.State().Seq)
	write(t, path, 1)
	r := verify(t, audit.VerifyOptions{}, path)
	require.Empty(t, r.Findings)
	require.Len(t, r.Chains, 1)
	require.True(t, r.Chains[0].Closed)
	require.Equal(t, uint64(10), r.Chains[0].Last)
	require.Len(t, r.Notes, 1)
	require.Contains(t, r.Notes[0], "killed after line 7")

	// The machine failed while a line was written.
	lines := readLines(t, path)
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines[:len(lines)-1], "")+`{"chain":"0`), 0o600))
	write(t, path, 1)
	r = verify(t, audit.VerifyOptions{}, path)
	require.Empty(t, r.Findings)
	require.Contains(t, strings.Join(r.Notes, "\n"), "not whole")
	require.NoError(t, killed.Close())
}

// rotating is a log writer that begins a new file after four lines.
type rotating struct {
	path  string
	f     *os.File
	lines int
	n     int
}

func (w *rotating) Write(p []byte) (int, error) {
	if w.f != nil && w.lines >= 4 {
		_ = w.f.Close()
		w.n++
		if err := os.Rename(w.path, fmt.Sprintf("%s-%03d.log", strings.TrimSuffix(w.path, ".log"), w.n)); err != nil {
			return 0, err
		}
		w.f, w.lines = nil, 0
	}
	if w.f == nil {
		var err error
		if w.f, err = os.OpenFile(w.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return 0, err
		}
	}
	w.lines++
	return w.f.Write(p)
}

func (w *rotating) Close() error { return w.f.Close() }

// A chain continues over rotated files, and each file holds a keyed head. A missing file and a
// missing first line are found.
func TestTrail_Rotation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	trail, err := audit.Open(audit.Options{
		Open: func() (io.WriteCloser, error) { return &rotating{path: path}, nil }, File: path, Gateway: "gw1", Key: key(t),
	})
	require.NoError(t, err)
	for i := range 12 {
		require.NoError(t, trail.Write(event(i)))
	}
	require.NoError(t, trail.Close())
	files, err := audit.Files(path)
	require.NoError(t, err)
	require.Greater(t, len(files), 3)
	r := verify(t, audit.VerifyOptions{}, files...)
	require.Empty(t, r.Findings)
	require.Len(t, r.Chains, 1)
	for _, file := range files {
		require.Contains(t, strings.Join(readLines(t, file), ""), `"mac":"`)
	}
	r = verify(t, audit.VerifyOptions{}, append(files[:1:1], files[2:]...)...)
	require.Equal(t, audit.Removed, r.Findings[0].Kind)

	last := files[1]
	lines := readLines(t, last)
	require.NoError(t, os.WriteFile(last, []byte(strings.Join(lines[1:], "")), 0o600))
	r = verify(t, audit.VerifyOptions{}, files[1:]...)
	require.Equal(t, audit.Cut, r.Findings[0].Kind)
}

// full is a disk that accepts a limited number of bytes.
type full struct {
	bytes.Buffer
	room int
}

func (w *full) Write(p []byte) (int, error) {
	n := min(len(p), w.room)
	w.room -= n
	w.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func (*full) Close() error { return nil }

// Events that a full disk does not accept are written later, whole and in order. Events that
// exceed the buffer are counted as lost.
func TestTrail_FullDisk(t *testing.T) {
	t.Parallel()
	disk := &full{room: 1500}
	var states []error
	trail, err := audit.Open(audit.Options{
		Open: func() (io.WriteCloser, error) { return disk, nil }, Gateway: "gw1", Key: key(t),
		OnState: func(err error) { states = append(states, err) },
	})
	require.NoError(t, err)
	failed := 0
	for i := range 20 {
		if err := trail.Write(event(i)); err != nil {
			require.ErrorIs(t, err, audit.ErrNotWritten)
			failed++
		}
	}
	require.Positive(t, failed)
	require.ErrorIs(t, trail.Ready(), audit.ErrNotWritten)
	require.True(t, trail.State().Failing)
	long := event(21)
	long.Rule = strings.Repeat("x", 64<<10)
	for range 100 {
		require.Error(t, trail.Write(long))
	}
	lost := trail.State().Lost
	require.Positive(t, lost)

	disk.room = 1 << 30
	require.NoError(t, trail.Ready())
	require.NoError(t, trail.Write(event(22)))
	require.NoError(t, trail.Close())
	require.Len(t, states, 2)
	path := filepath.Join(t.TempDir(), "audit.log")
	require.NoError(t, os.WriteFile(path, disk.Bytes(), 0o600))
	r := verify(t, audit.VerifyOptions{}, path)
	require.Empty(t, r.Findings)
	require.Contains(t, strings.Join(r.Notes, "\n"), fmt.Sprintf("%d events could not be written", lost))
}

func TestQuery(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	trail := open(t, path)
	k := key(t)
	for i := range 5 {
		e := event(i)
		e.MailHash = k.MailHash(fmt.Sprintf("user%d@example.org", i))
		require.NoError(t, trail.Write(e))
	}
	require.NoError(t, trail.Write(audit.Event{Type: audit.TokenRefused, Decision: audit.Refused, Rule: "domain_not_allowed", Application: &audit.Application{ID: "app2"}}))
	require.NoError(t, trail.Close())
	count := func(f audit.Filter) (n int) {
		unreadable, err := audit.Query([]string{path}, f, func(audit.Line) error { n++; return nil })
		require.NoError(t, err)
		require.Zero(t, unreadable)
		return n
	}
	require.Equal(t, 1, count(audit.Filter{Room: "room-3"}))
	require.Equal(t, 5, count(audit.Filter{Room: "aaa-bbbb-ccc"}))
	require.Equal(t, 5, count(audit.Filter{Application: "Calendar"}))
	require.Equal(t, 5, count(audit.Filter{User: "abcd1234"}))
	require.Equal(t, 0, count(audit.Filter{User: "user3@example.org"}))
	require.Equal(t, 1, count(audit.Filter{User: "User3@example.org", Keys: []*audit.Key{k}}))
	require.Equal(t, 1, count(audit.Filter{Type: "token", Decision: audit.Refused}))
	require.Equal(t, 1, count(audit.Filter{RequestID: "request-4"}))
	require.Equal(t, 0, count(audit.Filter{Since: time.Now().Add(time.Hour)}))
	require.Equal(t, 8, count(audit.Filter{Since: time.Now().Add(-time.Hour)}))
}

// FuzzVerify checks that any file is read without a panic, and that a file that is not a trail
// has a finding.
func FuzzVerify(f *testing.F) {
	path := filepath.Join(f.TempDir(), "audit.log")
	write(f, path, 3)
	good, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"chain":"x","seq":1}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "audit.log")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		r, err := audit.Verify([]string{path}, audit.VerifyOptions{Keys: []*audit.Key{key(t)}})
		if err == nil && len(content) > 0 && !bytes.Equal(content, good) && r.OK() {
			require.True(t, bytes.HasPrefix(good, content), "%q", content)
		}
	})
}

func BenchmarkTrail_Write(b *testing.B) {
	trail := open(b, filepath.Join(b.TempDir(), "audit.log"))
	b.ReportAllocs()
	for b.Loop() {
		if err := trail.Write(event(1)); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, trail.Close())
}
