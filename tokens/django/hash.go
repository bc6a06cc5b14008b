// SPDX-License-Identifier: MIT

package django

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Errors about encoded hashes, for [errors.Is]. They never contain a part of the hash.
var (
	// ErrNotHash means that Django would not take the text for a password hash: it is a
	// secret in clear, an unusable password ("!…"), or empty.
	ErrNotHash = errors.New("not a Django password hash")
	// ErrUnsupported means that Django may support the algorithm and this package does not.
	ErrUnsupported = errors.New("unsupported password hash")
	// ErrMalformed means that the algorithm is known and the rest is invalid.
	ErrMalformed = errors.New("malformed password hash")
	// ErrTooCostly means that the parameters of the hash exceed the bounds of Verify.
	ErrTooCostly = errors.New("password hash is too costly to check")
)

// Names of the supported algorithms, as Django writes them before the first "$".
const (
	PBKDF2SHA256 = "pbkdf2_sha256"
	PBKDF2SHA1   = "pbkdf2_sha1"
	Argon2       = "argon2"
	BCryptSHA256 = "bcrypt_sha256"
	BCrypt       = "bcrypt"
)

// maxEncoded is twice the length of Meet's column.
const maxEncoded = 512

// hash is a parsed hash within the bounds of Verify.
type hash interface {
	verify(password string) (bool, error)
}

// parsers parse what follows "algorithm$".
var parsers = map[string]func(rest string) (hash, error){
	PBKDF2SHA256: parsePBKDF2SHA256,
	PBKDF2SHA1:   parsePBKDF2SHA1,
	Argon2:       parseArgon2,
	BCryptSHA256: parseBCryptSHA256,
	BCrypt:       parseBCrypt,
}

// unsupported are the other algorithms of Django. With them a hash is not taken for a secret
// in clear.
var unsupported = map[string]bool{
	"scrypt": true, "md5": true, "sha1": true, "crypt": true,
	"unsalted_md5": true, "unsalted_sha1": true,
}

// Verify reports whether encoded is the hash of the password by one of Django's hashers:
// pbkdf2_sha256, pbkdf2_sha1, argon2 (argon2id and argon2i, version 19), bcrypt_sha256 or
// bcrypt. As in Django, plain bcrypt hashes only the first 72 bytes of a password.
//
// The comparison takes constant time. An empty password, or one with a NUL, never matches,
// because Meet refuses both.
//
// Errors: [ErrNotHash], [ErrUnsupported], [ErrMalformed] and [ErrTooCostly]. The bounds are
// 10,000,000 iterations for PBKDF2, a cost of 16 for bcrypt, and for argon2 256 MiB, 16 lanes
// and 4 GiB written in all passes. That is a few seconds of CPU; argon2 spreads them over its
// lanes.
func Verify(encoded, password string) (bool, error) {
	_, h, err := parse(encoded)
	if err != nil {
		return false, err
	}
	if password == "" || strings.ContainsRune(password, 0) {
		return false, nil
	}
	return h.verify(password)
}

// Identify returns the name of the algorithm of a hash, and the error that [Verify] would
// return. The name is also returned with an error, if it is known.
func Identify(encoded string) (algorithm string, err error) {
	algorithm, _, err = parse(encoded)
	return algorithm, err
}

func parse(encoded string) (string, hash, error) {
	algorithm, rest, found := strings.Cut(encoded, "$")
	parser := parsers[algorithm]
	switch {
	case !found && isUnsaltedMD5(encoded):
		return "unsalted_md5", nil, fmt.Errorf("%w: unsalted_md5", ErrUnsupported)
	case !found:
		return "", nil, ErrNotHash
	case unsupported[algorithm]:
		return algorithm, nil, fmt.Errorf("%w: %s", ErrUnsupported, algorithm)
	case parser == nil:
		return "", nil, ErrNotHash
	case len(encoded) > maxEncoded:
		return algorithm, nil, fmt.Errorf("%w: %s: longer than %d bytes", ErrMalformed, algorithm, maxEncoded)
	}
	h, err := parser(rest)
	if err != nil {
		return algorithm, nil, fmt.Errorf("%s: %w", algorithm, err)
	}
	return algorithm, h, nil
}

// isUnsaltedMD5 reports whether s looks like one of Django's oldest hashes.
func isUnsaltedMD5(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// decode decodes base64 in its canonical form. The decoder alone skips line ends.
func decode(e *base64.Encoding, s string, shortest, longest int) ([]byte, bool) {
	b, err := e.Strict().DecodeString(s)
	if err != nil || len(b) < shortest || len(b) > longest || len(s) != e.EncodedLen(len(b)) {
		return nil, false
	}
	return b, true
}

func malformed(reason string) error { return fmt.Errorf("%w: %s", ErrMalformed, reason) }

func tooCostly(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTooCostly, fmt.Sprintf(format, args...))
}

// number parses a positive decimal number without sign or leading zero. Of a longer number it
// returns the first nine digits, which exceed every bound too.
func number(s string) (n int, ok bool) {
	if s == "" || s[0] == '0' {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		if i < 9 {
			n = n*10 + int(s[i]-'0')
		}
	}
	return n, true
}
