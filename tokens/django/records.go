// SPDX-License-Identifier: MIT

package django

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxRecord bounds one serialized object with the space around it. An application has about
// one KiB.
const maxRecord = 1 << 20

var errRecordTooLarge = fmt.Errorf("longer than %d bytes", maxRecord)

// recordReader reads serialized objects from a sequence of JSON arrays or of JSON objects.
type recordReader struct {
	input  *boundedReader
	dec    *json.Decoder
	arrays bool // the objects are in arrays
	inside bool // of an array
}

func newRecordReader(r io.Reader) (*recordReader, error) {
	br := bufio.NewReader(r)
	if b, _ := br.Peek(3); bytes.Equal(b, []byte("\ufeff")) {
		_, _ = br.Discard(len(b)) // the byte order mark that some shells write
	}
	input := &boundedReader{r: br, limit: maxRecord}
	first, err := firstByte(br)
	switch {
	case err == io.EOF: //nolint:errorlint // bufio returns it bare
		return nil, errors.New("empty file")
	case err != nil:
		return nil, fmt.Errorf("read: %w", err)
	case first != '[' && first != '{':
		return nil, errors.New("neither a JSON array nor JSON lines")
	}
	return &recordReader{input: input, dec: json.NewDecoder(input), arrays: first == '['}, nil
}

// firstByte skips white space and peeks at the next byte.
func firstByte(br *bufio.Reader) (byte, error) {
	for range maxRecord {
		b, err := br.ReadByte()
		if err != nil {
			return 0, err //nolint:wrapcheck // the caller does
		}
		switch b {
		case ' ', '\t', '\r', '\n':
		default:
			return b, br.UnreadByte() //nolint:wrapcheck // never fails after ReadByte
		}
	}
	return 0, errRecordTooLarge
}

// next returns the next object, and io.EOF after the last one.
func (r *recordReader) next() (json.RawMessage, error) {
	r.input.limit = r.dec.InputOffset() + maxRecord
	for r.arrays && (!r.inside || !r.dec.More()) {
		t, err := r.dec.Token()
		if err == io.EOF && !r.inside { // the decoder returns it bare
			return nil, io.EOF
		}
		if err != nil {
			return nil, r.explain(err)
		}
		r.inside = !r.inside
		if r.inside && t != json.Delim('[') {
			return nil, errors.New("something other than an array follows an array")
		}
	}
	var raw json.RawMessage
	err := r.dec.Decode(&raw)
	if err == io.EOF && !r.inside { // the decoder returns it bare
		return nil, io.EOF
	}
	if err != nil {
		return nil, r.explain(err)
	}
	return raw, nil
}

// explain keeps the contents of the file out of the error.
func (r *recordReader) explain(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON, after byte %d", r.dec.InputOffset())
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	default:
		return err
	}
}

// boundedReader fails beyond a limit, which its owner raises. A json.Decoder alone reads a
// record of any size into memory.
type boundedReader struct {
	r           io.Reader
	read, limit int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	left := b.limit - b.read
	if left <= 0 {
		return 0, errRecordTooLarge
	}
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := b.r.Read(p)
	b.read += int64(n)
	return n, err
}
