package tokens

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
	"sync"
)

// MinSecret is the shortest secret accepted, in bytes: an HMAC-SHA-256 key
// shorter than its hash is weaker than the hash (RFC 7518 §3.2).
const MinSecret = 32

// purpose separates the keys derived from one secret: what is computed for one
// purpose is worthless for another.
type purpose string

const (
	forTokens  purpose = "access token signature"
	forSecrets purpose = "application secret"
	forMails   purpose = "mail index"
	forSealing purpose = "sealed value"
	forRefresh purpose = "refresh token"
	forMeet    purpose = "backend token index"
	forReplays purpose = "idempotency key"
	forNames   purpose = "name of a key"
)

var purposes = []purpose{forTokens, forSecrets, forMails, forSealing, forRefresh, forMeet, forReplays, forNames}

// masterKey is one configured secret and all that is derived from it.
type masterKey struct {
	id   string // 8 hexadecimal digits, derived from the secret: no need to configure one
	raw  map[purpose][]byte
	macs map[purpose]*sync.Pool // of hash.Hash
	aead cipher.AEAD
}

// keyring holds the configured secrets. The first one signs, hashes and
// encrypts; all of them verify and decrypt.
type keyring struct{ keys []*masterKey }

func newKeyring(secrets [][]byte) (*keyring, error) {
	if len(secrets) == 0 {
		return nil, errors.New("at least one secret is needed")
	}
	kr := new(keyring)
	for i, s := range secrets {
		if len(s) < MinSecret {
			return nil, fmt.Errorf("secret %d has %d bytes; at least %d random bytes are needed (openssl rand -base64 32)", i+1, len(s), MinSecret)
		}
		k, err := newMasterKey(s)
		if err != nil {
			return nil, err
		}
		for _, other := range kr.keys {
			if other.id == k.id {
				return nil, fmt.Errorf("secret %d is the same as an earlier one", i+1)
			}
		}
		kr.keys = append(kr.keys, k)
	}
	return kr, nil
}

func newMasterKey(secret []byte) (*masterKey, error) {
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
	k := &masterKey{id: hex.EncodeToString(id), raw: map[purpose][]byte{}, macs: map[purpose]*sync.Pool{}}
	for _, p := range purposes {
		raw, err := expand(string(p), 32)
		if err != nil {
			return nil, fmt.Errorf("deriving keys: %w", err)
		}
		k.raw[p] = raw
		k.macs[p] = &sync.Pool{New: func() any { return hmac.New(sha256.New, raw) }}
	}
	block, err := aes.NewCipher(k.raw[forSealing])
	if err != nil {
		return nil, fmt.Errorf("deriving keys: %w", err)
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("deriving keys: %w", err)
	}
	return k, nil
}

// first returns the key that signs.
func (kr *keyring) first() *masterKey { return kr.keys[0] }

// byID returns the key with the id, or nil.
func (kr *keyring) byID(id string) *masterKey {
	for _, k := range kr.keys {
		if k.id == id {
			return k
		}
	}
	return nil
}

// sum returns the HMAC-SHA-256 of the parts, each preceded by its length, so
// that no two lists of parts look alike.
func (k *masterKey) sum(p purpose, parts ...string) [sha256.Size]byte {
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

// seal encrypts plain with AES-256-GCM under the first key. What it is bound to
// (the name of the place it is kept at) must be given again to open it, so that
// a value copied to another place in Redis does not open.
func (kr *keyring) seal(plain []byte, boundTo string) []byte {
	k := kr.first()
	id, _ := hex.DecodeString(k.id)
	out := make([]byte, 0, sealHeader+k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	out = append(append(out, sealVersion), id...)
	nonce := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails since Go 1.24
	out = append(out, nonce...)
	return k.aead.Seal(out, nonce, plain, []byte(boundTo))
}

// errUnsealable means that a sealed value was made with a secret that is no
// longer configured, was cut or was moved.
var errUnsealable = errors.New("sealed value cannot be opened with the configured secrets")

// open decrypts what seal made. old reports that another than the first key
// was used, so that the caller may seal it again.
func (kr *keyring) open(sealed []byte, boundTo string) (plain []byte, old bool, err error) {
	if len(sealed) < sealHeader || sealed[0] != sealVersion {
		return nil, false, errUnsealable
	}
	k := kr.byID(hex.EncodeToString(sealed[1:sealHeader]))
	if k == nil || len(sealed) < sealHeader+k.aead.NonceSize() {
		return nil, false, errUnsealable
	}
	nonce, box := sealed[sealHeader:sealHeader+k.aead.NonceSize()], sealed[sealHeader+k.aead.NonceSize():]
	plain, err = k.aead.Open(nil, nonce, box, []byte(boundTo))
	if err != nil {
		return nil, false, errUnsealable
	}
	return plain, k != kr.first(), nil
}
