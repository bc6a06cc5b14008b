// SPDX-License-Identifier: MIT

package backendclient

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// pattern is a JWT without the id of its user. The tokens of one application differ otherwise only in
// two times and the signature, so another token is kept as its differences from the pattern.
type pattern struct {
	bytes string // of its three parts, decoded
	// header and payload are where these parts end.
	header, payload int
}

// tokenEncoding is that of JWTs (RFC 7515 §2). It is strict, so that a decoded part has only one
// encoding.
var tokenEncoding = base64.RawURLEncoding.Strict()

// newPattern returns a pattern with the user's id, or nil if the token is not three parts in
// base64url.
func newPattern(token string) *pattern {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	var decoded []byte
	var ends [3]int
	for i, part := range parts {
		var err error
		if decoded, err = tokenEncoding.AppendDecode(decoded, []byte(part)); err != nil {
			return nil
		}
		ends[i] = len(decoded)
	}
	return &pattern{string(decoded), ends[0], ends[1]}
}

// form returns where the three parts end.
func (p *pattern) form() [3]int { return [3]int{p.header, p.payload, len(p.bytes)} }

// minEqual is the least length of an equal part that ends a difference. The numbers before the
// next difference take two bytes.
const minEqual = 3

// appendDifferences appends where a token of the same form differs from the pattern: for each difference the
// length of the equal part before it, its own length, and its bytes.
func (p *pattern) appendDifferences(dst []byte, token *pattern) []byte {
	a, b := p.bytes, token.bytes
	for at := 0; ; {
		from := at + equalBytes(a[at:], b[at:])
		if from == len(b) {
			return dst
		}
		to := from + 1
		for to < len(b) && equalBytes(a[to:min(to+minEqual, len(a))], b[to:]) < minEqual {
			to++
		}
		dst = binary.AppendUvarint(dst, uint64(from-at))
		dst = appendText(dst, b[from:to])
		at = to
	}
}

// equalBytes returns the length of the common beginning. b is not shorter than a.
func equalBytes(a, b string) int {
	for i := range len(a) {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// appendDecoded appends the parts of the token with these differences.
func (p *pattern) appendDecoded(dst []byte, differences string) []byte {
	at := 0
	for differences != "" {
		equal, rest := cutUvarint(differences)
		different, rest := cutText(rest)
		dst = append(dst, p.bytes[at:at+int(equal)]...)
		dst = append(dst, different...)
		at += int(equal) + len(different)
		differences = rest
	}
	return append(dst, p.bytes[at:]...)
}

// appendEncoded appends the token with these parts, whose payload is longer than the pattern's.
func (p *pattern) appendEncoded(dst, decoded []byte, longer int) []byte {
	payload := p.payload + longer
	dst = tokenEncoding.AppendEncode(dst, decoded[:p.header])
	dst = append(dst, '.')
	dst = tokenEncoding.AppendEncode(dst, decoded[p.header:payload])
	dst = append(dst, '.')
	return tokenEncoding.AppendEncode(dst, decoded[payload:])
}

// appendText appends the length of a text, and the text.
func appendText(dst []byte, text string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

// cutText reads what appendText wrote from the beginning of a text.
func cutText(packed string) (text, rest string) {
	length, rest := cutUvarint(packed)
	return rest[:length], rest[length:]
}

// cutUvarint reads what binary.AppendUvarint wrote from the beginning of a text.
func cutUvarint(packed string) (n uint64, rest string) {
	for i, shift := 0, 0; ; i, shift = i+1, shift+7 {
		n |= uint64(packed[i]&0x7f) << shift
		if packed[i] < 0x80 {
			return n, packed[i+1:]
		}
	}
}
