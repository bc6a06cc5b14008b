// SPDX-License-Identifier: MIT

package journal

import (
	"encoding/binary"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// records holds the entries of rank Records, oldest first. A busy gateway has a hundred
// thousand, so they are kept as bytes, which the garbage collector does not look into.
type records struct {
	// script is that of all entries.
	script *redisdb.Script
	// chunks hold the entries one after another. from is where the oldest one begins in the
	// first chunk.
	chunks [][]byte
	from   int
	count  int
	bytes  int
}

// An entry is a header, its key, and the argument of its script. The header holds, in eight
// bytes each, when the entry was added, as nanoseconds since the process began, and when the
// value expires, in Unix milliseconds; then the lengths of key and argument, in four bytes
// each.
const (
	recordAt      = 0
	recordExpires = 8
	recordKey     = 16
	recordArg     = 20
	recordHeader  = 24
)

// recordChunk is the size of a chunk. A longer entry has a chunk of its own.
const recordChunk = 64 << 10

// began is when the process began. Times since then do not jump with the system's clock.
var began = time.Now()

// add remembers an entry with one argument, a string, and no name.
func (r *records) add(e Entry, most bound) {
	arg, _ := e.Args[0].(string)
	size := recordHeader + len(e.Key) + len(arg)
	last := len(r.chunks) - 1
	if last < 0 || cap(r.chunks[last])-len(r.chunks[last]) < size {
		r.chunks = append(r.chunks, make([]byte, 0, max(size, recordChunk)))
		last++
	}
	b := r.chunks[last]
	b = binary.LittleEndian.AppendUint64(b, uint64(e.at.Sub(began)))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Expires.UnixMilli()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Key)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(arg)))
	r.chunks[last] = append(append(b, e.Key...), arg...)
	r.script = e.Script
	r.count++
	r.bytes += size
	for r.count > most.entries || r.bytes > most.bytes && r.count > 1 {
		r.dropOldest()
	}
}

// sizeOf is the size of the entry at the start of b.
func sizeOf(b []byte) int {
	return recordHeader + int(binary.LittleEndian.Uint32(b[recordKey:])) + int(binary.LittleEndian.Uint32(b[recordArg:]))
}

// addedAt is when the entry at the start of b was added.
func addedAt(b []byte) time.Time {
	return began.Add(time.Duration(binary.LittleEndian.Uint64(b[recordAt:])))
}

func (r *records) dropOldest() {
	size := sizeOf(r.chunks[0][r.from:])
	r.from += size
	r.bytes -= size
	r.count--
	if r.from == len(r.chunks[0]) {
		r.chunks[0] = nil
		r.chunks, r.from = r.chunks[1:], 0
	}
}

// forget drops entries from before the given time.
func (r *records) forget(before time.Time) {
	for r.count > 0 && addedAt(r.chunks[0][r.from:]).Before(before) {
		r.dropOldest()
	}
}

// each calls f with the bytes of each entry.
func (r *records) each(f func([]byte)) {
	from := r.from
	for _, chunk := range r.chunks {
		for rest := chunk[from:]; len(rest) > 0; {
			size := sizeOf(rest)
			f(rest[:size])
			rest = rest[size:]
		}
		from = 0
	}
}

// age makes all entries older, for tests.
func (r *records) age(d time.Duration) {
	r.each(func(b []byte) {
		binary.LittleEndian.PutUint64(b[recordAt:], uint64(addedAt(b).Add(-d).Sub(began)))
	})
}

// all returns the entries.
func (r *records) all() []Entry {
	all := make([]Entry, 0, r.count)
	r.each(func(b []byte) {
		key := recordHeader + int(binary.LittleEndian.Uint32(b[recordKey:]))
		all = append(all, Entry{
			Rank: Records, Key: string(b[recordHeader:key]), Script: r.script, Args: []any{string(b[key:])},
			Expires: time.UnixMilli(int64(binary.LittleEndian.Uint64(b[recordExpires:]))), at: addedAt(b),
		})
	})
	return all
}
