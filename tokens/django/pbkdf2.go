// SPDX-License-Identifier: MIT

package django

import (
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // PBKDF2SHA1PasswordHasher; HMAC does not need collision resistance
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	gohash "hash"
	"strings"
)

const (
	maxIterations = 10_000_000 // Django 5.2 has 1,000,000
	maxSalt       = 128        // Django's have 22 characters
)

// pbkdf2Hash is iterations$salt$base64 (RFC 8018 §5.2). The key is as long as the digest.
type pbkdf2Hash struct {
	digest     func() gohash.Hash
	iterations int
	salt       string // the text itself is the salt
	want       []byte
}

func parsePBKDF2SHA256(rest string) (hash, error) { return parsePBKDF2(rest, sha256.New, sha256.Size) }
func parsePBKDF2SHA1(rest string) (hash, error)   { return parsePBKDF2(rest, sha1.New, sha1.Size) }

func parsePBKDF2(rest string, digest func() gohash.Hash, size int) (hash, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 3 {
		return nil, malformed("want iterations, salt and hash")
	}
	n, ok := number(parts[0])
	if !ok {
		return nil, malformed("iterations are not a positive number")
	}
	if n > maxIterations {
		return nil, tooCostly("more than %d iterations", maxIterations)
	}
	if parts[1] == "" || len(parts[1]) > maxSalt {
		return nil, malformed(fmt.Sprintf("salt is not 1 to %d bytes", maxSalt))
	}
	want, ok := decode(base64.StdEncoding, parts[2], size, size)
	if !ok {
		return nil, malformed(fmt.Sprintf("hash is not %d bytes in base64", size))
	}
	return &pbkdf2Hash{digest: digest, iterations: n, salt: parts[1], want: want}, nil
}

func (h *pbkdf2Hash) verify(password string) (bool, error) {
	got, err := pbkdf2.Key(h.digest, password, []byte(h.salt), h.iterations, len(h.want))
	if err != nil {
		return false, fmt.Errorf("pbkdf2: %w", err) // only in FIPS 140 mode
	}
	return subtle.ConstantTimeCompare(got, h.want) == 1, nil
}
