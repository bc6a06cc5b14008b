// SPDX-License-Identifier: MIT

package django

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/bcrypt"
)

const (
	maxBCryptCost = 16 // Django 5.2 has 12; each step doubles the time
	bcryptLength  = 60 // $2b$ and two digits, $, 22 of salt, 31 of hash
)

// bcryptHash is $2b$cost$salthash, which follows the "$" of Django.
type bcryptHash struct {
	encoded   []byte // without the name of the algorithm
	prehashed bool   // bcrypt_sha256
}

func parseBCryptSHA256(rest string) (hash, error) { return parseBCryptHash(rest, true) }
func parseBCrypt(rest string) (hash, error)       { return parseBCryptHash(rest, false) }

func parseBCryptHash(rest string, prehashed bool) (hash, error) {
	if len(rest) != bcryptLength || rest[:2] != "$2" || rest[3] != '$' || rest[6] != '$' {
		return nil, malformed("want $2b$, a cost of two digits and 53 characters")
	}
	switch rest[2] {
	case 'a', 'b', 'y': // they differ only in bugs of other implementations
	default:
		return nil, fmt.Errorf("%w: bcrypt other than 2a, 2b and 2y", ErrUnsupported)
	}
	for i := 7; i < bcryptLength; i++ {
		if !isBCryptDigit(rest[i]) {
			return nil, malformed("salt or hash is not in the base64 of bcrypt")
		}
	}
	tens, ones := rest[4]-'0', rest[5]-'0'
	if tens > 9 || ones > 9 {
		return nil, malformed("cost is not two digits")
	}
	switch cost := int(tens)*10 + int(ones); {
	case cost < bcrypt.MinCost || cost > bcrypt.MaxCost:
		return nil, malformed(fmt.Sprintf("cost is not %d to %d", bcrypt.MinCost, bcrypt.MaxCost))
	case cost > maxBCryptCost:
		return nil, tooCostly("a cost of more than %d", maxBCryptCost)
	}
	return &bcryptHash{encoded: []byte(rest), prehashed: prehashed}, nil
}

// isBCryptDigit reports whether c is one of "./A-Za-z0-9".
func isBCryptDigit(c byte) bool {
	return c >= '.' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

func (h *bcryptHash) verify(password string) (bool, error) {
	key := []byte(password)
	if h.prehashed {
		// In hexadecimal, because bcrypt stops at a NUL.
		sum := sha256.Sum256(key)
		key = hex.AppendEncode(nil, sum[:])
	}
	// Compares in constant time, and reads 72 bytes of the key at most.
	err := bcrypt.CompareHashAndPassword(h.encoded, key)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword):
		return false, nil
	default:
		return false, malformed("bcrypt cannot read it") // the error of the library may quote the hash
	}
}
