// SPDX-License-Identifier: MIT

package django

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

const (
	maxArgon2Memory = 256 << 10 // KiB; Django 5.2 has 100 MiB
	maxArgon2Work   = 4 << 20   // KiB written in all passes
	maxArgon2Lanes  = 16        // Django 5.2 has 8

	minArgon2Salt, maxArgon2Salt = 8, 64  // RFC 9106 §3.1; Django's have 22 bytes
	minArgon2Hash, maxArgon2Hash = 16, 64 // Django's have 32 bytes, once 16
)

// argon2Hash is variety$v=19$m=KiB,t=passes,p=lanes$salt$hash, with the salt and the hash in
// base64 without padding, as the reference implementation writes it.
type argon2Hash struct {
	key                   func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte
	memory, passes, lanes int
	salt, want            []byte
}

func parseArgon2(rest string) (hash, error) {
	parts := strings.Split(rest, "$")
	var h argon2Hash
	switch parts[0] {
	case "argon2id":
		h.key = argon2.IDKey
	case "argon2i":
		h.key = argon2.Key
	case "argon2d":
		return nil, fmt.Errorf("%w: argon2d", ErrUnsupported)
	default:
		return nil, malformed("unknown variety")
	}
	if len(parts) > 1 && parts[1] != "v=19" { // without a version it is 16
		return nil, fmt.Errorf("%w: not version 19", ErrUnsupported)
	}
	if len(parts) != 5 {
		return nil, malformed("want variety, version, parameters, salt and hash")
	}
	if err := h.parseParameters(parts[2]); err != nil {
		return nil, err
	}
	var ok bool
	if h.salt, ok = decode(base64.RawStdEncoding, parts[3], minArgon2Salt, maxArgon2Salt); !ok {
		return nil, malformed(fmt.Sprintf("salt is not %d to %d bytes in base64", minArgon2Salt, maxArgon2Salt))
	}
	if h.want, ok = decode(base64.RawStdEncoding, parts[4], minArgon2Hash, maxArgon2Hash); !ok {
		return nil, malformed(fmt.Sprintf("hash is not %d to %d bytes in base64", minArgon2Hash, maxArgon2Hash))
	}
	return &h, nil
}

func (h *argon2Hash) parseParameters(s string) error {
	parts := strings.Split(s, ",")
	if len(parts) != 3 {
		return malformed("want the parameters m, t and p")
	}
	for i, p := range []struct {
		name string
		to   *int
	}{{"m=", &h.memory}, {"t=", &h.passes}, {"p=", &h.lanes}} {
		digits, named := strings.CutPrefix(parts[i], p.name)
		n, ok := number(digits)
		if !named || !ok {
			return malformed("want the parameters m, t and p as positive numbers")
		}
		*p.to = n
	}
	switch {
	case h.memory > maxArgon2Memory:
		return tooCostly("more than %d KiB of memory", maxArgon2Memory)
	case h.lanes > maxArgon2Lanes:
		return tooCostly("more than %d lanes", maxArgon2Lanes)
	case h.passes > maxArgon2Work/h.memory:
		return tooCostly("more than %d KiB over all passes", maxArgon2Work)
	case h.memory < 8*h.lanes: // RFC 9106 §3.1; the library would use more without an error
		return malformed("less than 8 KiB of memory for each lane")
	}
	return nil
}

func (h *argon2Hash) verify(password string) (bool, error) {
	// The conversions are within the bounds of parseParameters.
	got := h.key([]byte(password), h.salt, uint32(h.passes), uint32(h.memory), uint8(h.lanes), uint32(len(h.want)))
	return subtle.ConstantTimeCompare(got, h.want) == 1, nil
}
