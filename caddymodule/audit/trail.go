// SPDX-License-Identifier: MIT

package audit

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// headPeriod is the period of heads while there are events.
const headPeriod = time.Minute

// maxPiece bounds one write. No line is longer.
const maxPiece = 256 << 10

// maxPending bounds the memory for lines that cannot be written.
const maxPending = 4 << 20

// ErrNotWritten reports that the trail cannot be written, such as on a full disk.
var ErrNotWritten = errors.New("the audit trail cannot be written")

// Options are the options of [Open].
type Options struct {
	// Open opens the writer. Each write is one or more whole lines.
	Open func() (io.WriteCloser, error)
	// File is the path of the file, or "" if the writer is no file. A trail continues the
	// chain in an existing file.
	File string
	// Gateway is the name in every line.
	Gateway string
	// Key makes the heads.
	Key *Key
	// OnState is called when writing fails, and with nil when it works again. It must
	// not call the trail.
	OnState func(err error)
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Trail writes a chain of lines. It is safe for concurrent use. When Write returns, the
// operating system has the line, so killing the process loses none.
type Trail struct {
	o Options

	mu      sync.Mutex
	w       io.WriteCloser
	last    link // place of the last line; Prev is its hash
	headed  time.Time
	dirty   bool   // there are lines since the last head
	pending []byte // lines to write
	from    uint64 // number of the first pending line
	failing error
	lost    uint64 // events since the last gap line
	total   uint64 // events lost in all
	info    os.FileInfo
	stop    chan struct{}
	closed  bool
	stopped sync.WaitGroup
}

// Open begins or goes on with a trail. It fails if the file there cannot be read or
// written; a disk that is full is no such failure.
func Open(o Options) (*Trail, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnState == nil {
		o.OnState = func(error) {}
	}
	t := &Trail{o: o, stop: make(chan struct{})}
	h, err := t.resume()
	if err != nil {
		return nil, err
	}
	if t.w, err = o.Open(); err != nil {
		return nil, fmt.Errorf("opening the audit trail: %w", err)
	}
	t.mu.Lock()
	if h.Torn {
		t.pending = append(t.pending, '\n') // the next line is on one of its own
	}
	t.writeHead(opened, h)
	t.mu.Unlock()
	t.stopped.Go(t.beat)
	return t, nil
}

// resume finds the end of the chain in the file.
func (t *Trail) resume() (*head, error) {
	h := new(head)
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	t.last = link{Chain: hex.EncodeToString(id[:]), Prev: noHash}
	if t.o.File == "" {
		return h, nil
	}
	end, err := readEnd(t.o.File)
	if errors.Is(err, os.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the audit trail: %w", err)
	}
	h.Torn = end.torn
	if end.last != nil {
		t.last = link{Chain: end.last.Chain, Seq: end.last.Seq, Prev: end.last.Hash}
		h.Unclean = end.last.Type != closed
	}
	return h, nil
}

// Write adds an event. After an error the line is kept and written as soon as possible,
// unless too many are waiting.
func (t *Trail) Write(e Event) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) > maxPending {
		_ = t.flush() // lines that it cannot write stay pending
	}
	if len(t.pending) > maxPending {
		t.lost++
		t.total++
		return fmt.Errorf("%w: %w", ErrNotWritten, t.failing)
	}
	if err := t.add(&e, nil); err != nil {
		return err
	}
	t.dirty = true
	if err := t.flush(); err != nil {
		return err
	}
	if t.lost > 0 {
		t.writeHead(gap, &head{Lost: t.lost})
		t.lost = 0
	}
	t.noticeRotation()
	return nil
}

// Ready tries to write the pending lines. It fails with [ErrNotWritten].
func (t *Trail) Ready() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) == 0 {
		return nil
	}
	return t.flush()
}

// State is the position of a trail.
type State struct {
	Chain string `json:"chain"`
	Seq   uint64 `json:"seq"`
	// Hash is the hash of the last line, for `meet audit verify --head`.
	Hash string `json:"hash"`
	File string `json:"file,omitempty"`
	// Failing reports that lines cannot be written now. Lost counts the events that the
	// trail gave up.
	Failing bool   `json:"failing,omitempty"`
	Lost    uint64 `json:"lost,omitempty"`
}

// State returns the position of the trail.
func (t *Trail) State() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return State{Chain: t.last.Chain, Seq: t.last.Seq, Hash: t.last.Prev, File: t.o.File, Failing: t.failing != nil, Lost: t.total}
}

// Use replaces the key and the name of the gateway for later lines, after a reload.
func (t *Trail) Use(key *Key, gateway string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.o.Key, t.o.Gateway = key, gateway
}

// Close ends the trail with a head. Lines that cannot be written are lost.
func (t *Trail) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	close(t.stop)
	t.writeHead(closed, new(head))
	err := t.flush()
	t.mu.Unlock()
	t.stopped.Wait()
	if closing := t.w.Close(); closing != nil {
		err = errors.Join(err, fmt.Errorf("closing the audit trail: %w", closing))
	}
	return err
}

// beat writes heads periodically.
func (t *Trail) beat() {
	tick := time.NewTicker(headPeriod / 4)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
			t.beatOnce()
		}
	}
}

func (t *Trail) beatOnce() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if len(t.pending) > 0 && t.flush() != nil {
		return
	}
	if t.dirty && t.o.Now().Sub(t.headed) >= headPeriod*3/4 {
		t.writeHead(minute, new(head))
	}
}

// writeHead adds a line with a keyed head. A failure shows at the next write. The caller
// holds the lock, as for all methods below.
func (t *Trail) writeHead(kind string, h *head) {
	if t.o.Key != nil {
		h.Key, h.MAC = t.o.Key.ID, t.o.Key.head(t.last.Chain, t.last.Seq+1, t.last.Prev)
	}
	e := &Event{Type: kind, Decision: Allowed, Actor: &Party{Type: "gateway", ID: t.o.Gateway}}
	if t.add(e, h) != nil {
		return
	}
	t.headed, t.dirty = t.o.Now(), false
	if t.flush() == nil && kind != rotated {
		t.noticeRotation()
	}
}

// add chains a line and appends it to the pending ones.
func (t *Trail) add(e *Event, h *head) error {
	e.Time, e.LogType, e.Gateway = t.o.Now().UTC().Truncate(time.Microsecond), "audit", t.o.Gateway
	next := link{Chain: t.last.Chain, Seq: t.last.Seq + 1, Prev: t.last.Prev}
	line, hash, err := encode(next, e, h)
	if err != nil {
		return err
	}
	if len(t.pending) == 0 {
		t.from = next.Seq
	}
	t.pending = append(append(t.pending, line...), '\n')
	t.last = link{Chain: next.Chain, Seq: next.Seq, Prev: hash}
	return nil
}

// flush writes the pending lines. After a partial write it continues where it stopped.
func (t *Trail) flush() error {
	var err error
	for len(t.pending) > 0 && err == nil {
		piece := t.pending
		if len(piece) > maxPiece { // a log writer refuses more than fits into one file
			piece = piece[:bytes.LastIndexByte(piece[:maxPiece], '\n')+1]
		}
		var n int
		n, err = t.w.Write(piece)
		if n < len(piece) && err == nil {
			err = io.ErrShortWrite
		}
		t.pending = append(t.pending[:0], t.pending[n:]...)
	}
	if (err != nil) != (t.failing != nil) {
		t.o.OnState(err)
	}
	t.failing = err
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotWritten, err)
	}
	return nil
}

// noticeRotation writes a head into a new file. Log writers rotate without notice.
func (t *Trail) noticeRotation() {
	if t.o.File == "" {
		return
	}
	info, err := os.Stat(t.o.File)
	if err != nil {
		return
	}
	was := t.info
	t.info = info
	if was != nil && !os.SameFile(was, info) {
		t.writeHead(rotated, &head{First: t.from})
	}
}

// end is the end of a file.
type end struct {
	last *record // nil if there is no line
	torn bool    // the file does not end with a whole line
}

// readEnd reads the last whole line of a file.
func readEnd(path string) (end, error) {
	f, err := os.Open(path)
	if err != nil {
		return end{}, err //nolint:wrapcheck // the caller adds the file
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return end{}, err //nolint:wrapcheck // the same
	}
	const most = 1 << 20
	from := max(0, size-most)
	tail := make([]byte, size-from)
	if _, err := f.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return end{}, err //nolint:wrapcheck // the same
	}
	var e end
	e.torn = len(tail) > 0 && tail[len(tail)-1] != '\n'
	lines := bytes.Split(tail, []byte{'\n'})
	for i := len(lines) - 2; i >= 0; i-- { // the last element is empty or a torn line
		if r, intact, err := decode(lines[i]); err == nil && intact {
			e.last = &r
			return e, nil
		}
	}
	return e, nil
}
