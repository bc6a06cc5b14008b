// SPDX-License-Identifier: MIT

package vault

import (
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
)

// Secrets and refresh tokens are a recognisable prefix, a random part in base
// 62 and a checksum, so that scanners find leaked ones and a typo can be told
// from a wrong secret without asking anybody.
const (
	secretBytes = 32 // 256 bits: needs no stretching
	// SecretDigits is how many digits the random part has: 62^43 > 2^256.
	SecretDigits = 43
	// ChecksumDigits is how many digits the checksum has: 62^6 > 2^32.
	ChecksumDigits = 6
)

// NewSecret returns the prefix, 256 random bits and the checksum.
func NewSecret(prefix string) string {
	var b [secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return withChecksum(prefix + Base62(b[:], SecretDigits))
}

// ChecksumOK reports whether a secret ends in the checksum of what precedes it.
func ChecksumOK(s string) bool {
	return len(s) > ChecksumDigits && withChecksum(s[:len(s)-ChecksumDigits]) == s
}

func withChecksum(s string) string {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(s)))
	return s + Base62(sum[:], ChecksumDigits)
}
