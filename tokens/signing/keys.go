// SPDX-License-Identifier: MIT

// Package signing signs access tokens and checks their signatures. [Parse] reads a key,
// [NewSet] joins keys, [Set.Sign] signs claims and [Set.Parse] checks a token. Without keys
// of its own a set signs with keys derived from the secrets.
package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Key is an asymmetric key that signs access tokens.
type Key struct {
	method  jwt.SigningMethod
	private crypto.Signer
	jwk     jose.JSONWebKey // public; its id is the RFC 7638 thumbprint
}

// ID returns the key id: the RFC 7638 thumbprint of the public key.
func (k *Key) ID() string { return k.jwk.KeyID }

// Parse reads a private key in PEM (PKCS #8, SEC 1 or PKCS #1). The
// algorithm follows from the key: EdDSA for Ed25519, ES256 for P-256, and RS256 for RSA of
// at least 2048 bits. Other keys are refused.
func Parse(data []byte) (*Key, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("signing key is not PEM; make one with: openssl genpkey -algorithm ed25519")
	}
	private, err := parsePrivateKey(block)
	if err != nil {
		return nil, err
	}
	k := new(Key)
	switch p := private.(type) {
	case ed25519.PrivateKey:
		k.method, k.private = jwt.SigningMethodEdDSA, p
	case *ecdsa.PrivateKey:
		if p.Curve != elliptic.P256() {
			return nil, errors.New("signing key: the only supported curve is P-256 (ES256)")
		}
		k.method, k.private = jwt.SigningMethodES256, p
	case *rsa.PrivateKey:
		if p.N.BitLen() < 2048 {
			return nil, fmt.Errorf("signing key: RSA key has %d bits, at least 2048 are needed", p.N.BitLen())
		}
		k.method, k.private = jwt.SigningMethodRS256, p
	default:
		return nil, fmt.Errorf("signing key: %T is not supported; use Ed25519, P-256 or RSA", private)
	}
	k.jwk = jose.JSONWebKey{Key: k.private.Public(), Algorithm: k.method.Alg(), Use: "sig"}
	sum, err := k.jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	k.jwk.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	return k, nil
}

func parsePrivateKey(block *pem.Block) (any, error) {
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	return nil, fmt.Errorf("signing key: a PEM block %q is not an unencrypted private key", block.Type)
}

// verificationKey checks the tokens with its "kid".
type verificationKey struct {
	id  string
	alg string
	key any
	// header is the encoded header of tokens that Sign makes with the key.
	header string
}

func newVerificationKey(id string, method jwt.SigningMethod, key any) verificationKey {
	k := verificationKey{id: id, alg: method.Alg(), key: key}
	t := jwt.New(method)
	t.Header["kid"] = id
	if unsigned, err := t.SigningString(); err == nil {
		k.header, _, _ = strings.Cut(unsigned, ".")
	}
	return k
}

// Set signs with one key and verifies with all.
type Set struct {
	method jwt.SigningMethod
	kid    string
	key    any
	verify map[string]verificationKey
	order  []string // key ids as configured
	jwks   []jose.JSONWebKey
}

// NewSet makes a set. The first key signs, or the first secret if there are no keys or
// secretSigns is true.
func NewSet(kr *vault.Ring, keys []*Key, secretSigns bool) (*Set, error) {
	s := &Set{verify: map[string]verificationKey{}}
	secretSigns = secretSigns || len(keys) == 0
	for i, k := range keys {
		if _, twice := s.verify[k.ID()]; twice {
			return nil, fmt.Errorf("signing key %d is the same as an earlier one", i+1)
		}
		if i == 0 && !secretSigns {
			s.method, s.kid, s.key = k.method, k.ID(), k.private
		}
		s.verify[k.ID()] = newVerificationKey(k.ID(), k.method, k.private.Public())
		s.order = append(s.order, k.ID())
		s.jwks = append(s.jwks, k.jwk)
	}
	// Tokens signed with the secrets stay valid when signing keys are introduced.
	for i, k := range kr.Keys {
		if i == 0 && secretSigns {
			s.method, s.kid, s.key = jwt.SigningMethodHS256, k.ID, k.Raw(vault.ForTokens)
		}
		s.verify[k.ID] = newVerificationKey(k.ID, jwt.SigningMethodHS256, k.Raw(vault.ForTokens))
		s.order = append(s.order, k.ID)
	}
	return s, nil
}

// KeyID is the id of the key that signs.
func (s *Set) KeyID() string { return s.kid }

// Algorithm is the JWS algorithm of the key that signs.
func (s *Set) Algorithm() string { return s.method.Alg() }

// AlgorithmOf is the JWS algorithm of a key, and false if it is not in the set.
func (s *Set) AlgorithmOf(kid string) (string, bool) {
	k, ok := s.verify[kid]
	return k.alg, ok
}

// IDs are the ids of all keys, as configured.
func (s *Set) IDs() []string { return s.order }

// JWKS is a JWK Set.
type JWKS = jose.JSONWebKeySet

// JWKS returns the public keys that are not withdrawn as a JWK Set (RFC 7517 §5). Secrets
// are symmetric keys and never published.
func (s *Set) JWKS(withdrawn func(kid string) bool) JWKS {
	keys := []jose.JSONWebKey{}
	for _, k := range s.jwks {
		if !withdrawn(k.KeyID) {
			keys = append(keys, k)
		}
	}
	return JWKS{Keys: keys}
}

// Sign returns the claims as a JWT.
func (s *Set) Sign(c *Claims) (string, error) {
	unsigned := jwt.NewWithClaims(s.method, c)
	unsigned.Header["kid"] = s.kid
	value, err := unsigned.SignedString(s.key)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return value, nil
}
