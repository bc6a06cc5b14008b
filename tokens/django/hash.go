// SPDX-License-Identifier: MIT

package django

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Errors about encoded hashes. They are matched with [errors.Is]; what is
// wrapped around them never holds a part of the hash.
var (
	// ErrNotHash means that the text is nothing Django would take for a
	// password hash: a secret in clear, an unusable password ("!…"), nothing.
	ErrNotHash = errors.New("not a Django password hash")
	// ErrUnsupported means that Django may know the algorithm and we do not.
	ErrUnsupported = errors.New("unsupported password hash")
	// ErrMalformed means that the algorithm is known and the rest is not in
	// its form.
	ErrMalformed = errors.New("malformed password hash")
	// ErrTooCostly means that checking the hash would cost more than this
	// package spends on one.
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

// maxEncoded is twice what Meet's column holds.
const maxEncoded = 512

// hash is a parsed hash whose cost is within bounds.
type hash interface {
	verify(password string) (bool, error)
}

// parsers read what follows "algorithm$".
var parsers = map[string]func(rest string) (hash, error){
	PBKDF2SHA256: parsePBKDF2SHA256,
	PBKDF2SHA1:   parsePBKDF2SHA1,
	Argon2:       parseArgon2,
	BCryptSHA256: parseBCryptSHA256,
	BCrypt:       parseBCrypt,
}

// unsupported are the other algorithms that Django has or had. Naming them
// tells a hash that cannot be used from a secret in clear.
var unsupported = map[string]bool{
	"scrypt": true, "md5": true, "sha1": true, "crypt": true,
	"unsalted_md5": true, "unsalted_sha1": true,
}

// Verify reports whether encoded was made from the password by one of Django's
// hashers: pbkdf2_sha256, pbkdf2_sha1, argon2 (argon2id and argon2i of version
// 19), bcrypt_sha256 or bcrypt. As with Django's, a plain bcrypt hash stands
// for the first 72 bytes of the password only.
//
// The comparison takes constant time. An empty password, or one with a NUL, is
// never right: Meet refuses both before it hashes.
//
// A hash that Verify cannot check is an error, one of [ErrNotHash],
// [ErrUnsupported], [ErrMalformed] and [ErrTooCostly]. The cost is bounded: at
// most 10,000,000 PBKDF2 iterations, a bcrypt cost of 16, and for argon2
// 256 MiB, 16 lanes and 4 GiB written over all passes. That is some seconds of
// CPU at most; argon2 spreads them over its lanes.
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

// Identify returns the name of the algorithm of a hash that [Verify] can
// check, without checking it. Its errors are those of Verify; the name is
// returned with the error when it is known.
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

// isUnsaltedMD5 reports whether s is 32 hexadecimal digits, which is how
// Django's oldest hashes look.
func isUnsaltedMD5(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// decode reads base64 in its one canonical form; the decoder alone would skip
// line ends and, where Django compares texts, accept several for one hash.
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

// number reads a positive decimal number without sign or leading zero. Of one
// with more than nine digits it returns the first nine: beyond every bound too.
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
