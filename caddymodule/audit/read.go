// SPDX-License-Identifier: MIT

package audit

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// entry is a line with its place.
type entry struct {
	record
	file   string
	line   int // from 1
	raw    []byte
	intact bool
	// broken says why the line is unreadable. torn reports that it has no newline.
	broken error
	torn   bool
}

// maxLine bounds the length of a line.
const maxLine = 1 << 20

// readFile calls each for all lines of a file, which may be compressed with gzip.
func readFile(path string, each func(entry) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err //nolint:wrapcheck // names the file
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(path) {
	case ".gz":
		if r, err = gzip.NewReader(f); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	case ".zst":
		return fmt.Errorf("%s: unpack it first (zstd -d)", path)
	}
	lines := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		raw, err := readLine(lines)
		torn := errors.Is(err, io.EOF)
		if err != nil && !torn {
			return fmt.Errorf("%s: line %d: %w", path, n, err)
		}
		if torn && len(raw) == 0 {
			return nil
		}
		e := entry{file: path, line: n, raw: raw, torn: torn}
		e.record, e.intact, e.broken = decode(raw)
		if err := each(e); err != nil || torn {
			return err
		}
	}
}

// readLine returns a line without its newline. It returns io.EOF with a last line that has
// none.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err //nolint:wrapcheck // the caller adds the place
		case len(line) > maxLine:
			return nil, fmt.Errorf("longer than %d bytes", maxLine)
		}
	}
}

// Files returns the files of the trail at path, the rotated ones first.
func Files(path string) ([]string, error) {
	ext := filepath.Ext(path)
	rolled, err := filepath.Glob(escapeGlob(strings.TrimSuffix(path, ext)) + "-*" + escapeGlob(ext) + "*")
	if err != nil {
		return nil, fmt.Errorf("looking for rotated files: %w", err)
	}
	slices.Sort(rolled)
	return append(rolled, path), nil
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
