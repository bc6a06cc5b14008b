// SPDX-License-Identifier: MIT

package vault

import (
	"crypto/rand"
	"math/big"
)

// Ids are cryptographically random and drawn from 62 letters and digits.
const (
	// Alphabet is what ids are drawn from.
	Alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

	// ApplicationID, UserID and TokenID are the lengths of ids.
	ApplicationID = 32
	UserID        = 8
	TokenID       = 22 // 131 bits
)

// RandomID returns n random characters of the alphabet.
func RandomID(n int) string {
	id := make([]byte, 0, n)
	var buf [64]byte
	for len(id) < n {
		_, _ = rand.Read(buf[:]) // never fails since Go 1.24
		for _, b := range buf {
			// 248 is the largest multiple of 62 in a byte: without the bound
			// the first letters would come up more often.
			if b < 248 && len(id) < n {
				id = append(id, Alphabet[b%62])
			}
		}
	}
	return string(id)
}

// IsID reports whether s is n characters of the alphabet.
func IsID(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) {
			return false
		}
	}
	return true
}

// Base62 writes b as a number in base 62, padded to width characters.
func Base62(b []byte, width int) string {
	s := new(big.Int).SetBytes(b).Text(62)
	out := make([]byte, width)
	for i := range out {
		out[i] = '0'
	}
	// big.Int counts 0-9a-zA-Z; only the width and the character set matter
	// here, and that it is always the same.
	copy(out[width-len(s):], s)
	return string(out)
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// IsSlug reports whether s is letters, digits, underscores and inner hyphens.
func IsSlug(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
