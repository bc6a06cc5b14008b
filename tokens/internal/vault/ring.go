// SPDX-License-Identifier: MIT

// Package vault holds the keys derived from the configured secrets. It computes keyed
// hashes, encrypts stored values, and makes random ids and secrets.
package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"
)

// MinSecret is the shortest secret accepted, in bytes: an HMAC-SHA-256 key
// shorter than its hash is weaker than the hash (RFC 7518 §3.2).
const MinSecret = 32

// Purpose separates the keys derived from one secret: what is computed for one
// purpose is worthless for another.
type Purpose string

// What keys are for.
const (
	ForTokens  Purpose = "access token signature"
	ForSecrets Purpose = "application secret"
	ForMails   Purpose = "mail index"
	ForSealing Purpose = "sealed value"
	ForRefresh Purpose = "refresh token"
	ForMeet    Purpose = "backend token index"
	ForReplays Purpose = "idempotency key"
	ForNames   Purpose = "name of a key"
)

var purposes = []Purpose{ForTokens, ForSecrets, ForMails, ForSealing, ForRefresh, ForMeet, ForReplays, ForNames}

// Key is one configured secret and all that is derived from it.
type Key struct {
	// ID is 8 hexadecimal digits, derived from the secret: no need to configure one.
	ID   string
	raw  map[Purpose][]byte
	macs map[Purpose]*sync.Pool // of hash.Hash
	aead cipher.AEAD
}

// Ring holds the configured secrets. The first one signs, hashes and
// encrypts; all of them verify and decrypt.
type Ring struct{ Keys, sorted []*Key }

// NewRing derives the keys of each secret. Each needs at least [MinSecret] bytes.
func NewRing(secrets [][]byte) (*Ring, error) {
	if len(secrets) == 0 {
		return nil, errors.New("at least one secret is needed")
	}
	kr := new(Ring)
	for i, s := range secrets {
		if len(s) < MinSecret {
			return nil, fmt.Errorf("secret %d has %d bytes; at least %d random bytes are needed (openssl rand -base64 32)", i+1, len(s), MinSecret)
		}
		k, err := newKey(s)
		if err != nil {
			return nil, err
		}
		for _, other := range kr.Keys {
			if other.ID == k.ID {
				return nil, fmt.Errorf("secret %d is the same as an earlier one", i+1)
			}
		}
		kr.Keys = append(kr.Keys, k)
	}
	kr.sorted = slices.SortedFunc(slices.Values(kr.Keys), func(a, b *Key) int { return strings.Compare(a.ID, b.ID) })
	return kr, nil
}

func newKey(secret []byte) (*Key, error) {
	prk, err := hkdf.Extract(sha256.New, secret, []byte("meet-gateway"))
	if err != nil {
		return nil, fmt.Errorf("deriving keys: %w", err)
	}
	expand := func(info string, n int) ([]byte, error) {
		return hkdf.Expand(sha256.New, prk, "mg1 "+info, n)
	}
	id, err := expand("key id", 4)
	if err != nil {
		return nil, fmt.Errorf("deriving keys: %w", err)
	}
	k := &Key{ID: hex.EncodeToString(id), raw: map[Purpose][]byte{}, macs: map[Purpose]*sync.Pool{}}
	for _, p := range purposes {
		raw, err := expand(string(p), 32)
		if err != nil {
			return nil, fmt.Errorf("deriving keys: %w", err)
		}
		k.raw[p] = raw
		k.macs[p] = &sync.Pool{New: func() any { return hmac.New(sha256.New, raw) }}
	}
	block, err := aes.NewCipher(k.raw[ForSealing])
	if err != nil {
		return nil, fmt.Errorf("deriving keys: %w", err)
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("deriving keys: %w", err)
	}
	return k, nil
}

// First returns the key that signs.
func (kr *Ring) First() *Key { return kr.Keys[0] }

// Sorted returns the keys in the order of their ids, which all gateways share whatever
// order they are configured in.
func (kr *Ring) Sorted() []*Key { return kr.sorted }

// ByID returns the key with the id, or nil.
func (kr *Ring) ByID(id string) *Key {
	for _, k := range kr.Keys {
		if k.ID == id {
			return k
		}
	}
	return nil
}

// Sum returns the HMAC-SHA-256 of the parts, each preceded by its length, so
// that no two lists of parts look alike.
func (k *Key) Sum(p Purpose, parts ...string) [sha256.Size]byte {
	mac := k.macs[p].Get().(hash.Hash)
	defer k.macs[p].Put(mac)
	mac.Reset()
	var length [4]byte
	for _, part := range parts {
		binary.BigEndian.PutUint32(length[:], uint32(len(part)))
		_, _ = mac.Write(length[:])
		_, _ = mac.Write([]byte(part))
	}
	var out [sha256.Size]byte
	mac.Sum(out[:0])
	return out
}

const (
	sealVersion = 1
	sealHeader  = 1 + 4 // version, key id
)

// Seal encrypts plain with AES-256-GCM under the first key. boundTo names the place where
// the value is stored. Open needs the same name, so a value that was copied to another
// place does not open.
func (kr *Ring) Seal(plain []byte, boundTo string) []byte {
	k := kr.First()
	id, _ := hex.DecodeString(k.ID)
	out := make([]byte, 0, sealHeader+k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	out = append(append(out, sealVersion), id...)
	nonce := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails since Go 1.24
	out = append(out, nonce...)
	return k.aead.Seal(out, nonce, plain, []byte(boundTo))
}

// ErrUnsealable means that a sealed value was made with a secret that is no
// longer configured, was truncated, or was copied from another place.
var ErrUnsealable = errors.New("sealed value cannot be opened with the configured secrets")

// Open decrypts a sealed value. old reports that it was sealed with another key than the
// first, so that the caller can seal it again.
func (kr *Ring) Open(sealed []byte, boundTo string) (plain []byte, old bool, err error) {
	if len(sealed) < sealHeader || sealed[0] != sealVersion {
		return nil, false, ErrUnsealable
	}
	k := kr.ByID(hex.EncodeToString(sealed[1:sealHeader]))
	if k == nil || len(sealed) < sealHeader+k.aead.NonceSize() {
		return nil, false, ErrUnsealable
	}
	nonce, box := sealed[sealHeader:sealHeader+k.aead.NonceSize()], sealed[sealHeader+k.aead.NonceSize():]
	plain, err = k.aead.Open(nil, nonce, box, []byte(boundTo))
	if err != nil {
		return nil, false, ErrUnsealable
	}
	return plain, k != kr.First(), nil
}

// Raw returns the key bytes for a purpose, for libraries that sign by themselves.
func (k *Key) Raw(p Purpose) []byte { return k.raw[p] }

// SealedWith returns the id of the key that a value was sealed with; "" if it is
// not a sealed value.
func SealedWith(sealed []byte) string {
	if len(sealed) < sealHeader || sealed[0] != sealVersion {
		return ""
	}
	return hex.EncodeToString(sealed[1:sealHeader])
}
