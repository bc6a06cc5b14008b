// SPDX-License-Identifier: MIT

package parse

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
)

// maxRequestID is the maximum length of a caller's request id.
const maxRequestID = 64

// RequestID returns the id of a request for logs, for Meet and for the caller. It is
// the caller's if that has 1 to 64 characters of A-Z a-z 0-9 . _ - and is sent once;
// otherwise it is random.
func RequestID(h http.Header) string {
	if values := h["X-Request-Id"]; len(values) == 1 && saneRequestID(values[0]) {
		return values[0]
	}
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64()) //nolint:gosec // an id must be unique, not secret
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // the same
	var text [2 * len(b)]byte
	hex.Encode(text[:], b[:])
	return string(text[:])
}

func saneRequestID(s string) bool {
	if s == "" || len(s) > maxRequestID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
