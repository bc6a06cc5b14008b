package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// SigningKey is an asymmetric key that signs access tokens.
type SigningKey struct {
	id      string // RFC 7638 thumbprint
	method  jwt.SigningMethod
	private crypto.Signer
	jwk     map[string]string
}

// ID returns the key id: the RFC 7638 thumbprint of the public key.
func (k *SigningKey) ID() string { return k.id }

// ParseSigningKey reads a private key in PEM (PKCS #8, SEC 1 or PKCS #1). The
// algorithm is a property of the key: Ed25519 signs EdDSA, P-256 ES256, and RSA
// of at least 2048 bits RS256. Others are refused.
func ParseSigningKey(data []byte) (*SigningKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("signing key is not PEM; make one with: openssl genpkey -algorithm ed25519")
	}
	private, err := parsePrivateKey(block)
	if err != nil {
		return nil, err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	k := new(SigningKey)
	switch p := private.(type) {
	case ed25519.PrivateKey:
		k.method, k.private = jwt.SigningMethodEdDSA, p
		k.jwk = map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(p.Public().(ed25519.PublicKey))}
	case *ecdsa.PrivateKey:
		if p.Curve != elliptic.P256() {
			return nil, errors.New("signing key: the only supported curve is P-256 (ES256)")
		}
		point, err := p.PublicKey.Bytes() // 4 ‖ X ‖ Y
		if err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
		k.method, k.private = jwt.SigningMethodES256, p
		k.jwk = map[string]string{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
	case *rsa.PrivateKey:
		if p.N.BitLen() < 2048 {
			return nil, fmt.Errorf("signing key: RSA key has %d bits, at least 2048 are needed", p.N.BitLen())
		}
		k.method, k.private = jwt.SigningMethodRS256, p
		k.jwk = map[string]string{"kty": "RSA", "n": b64(p.N.Bytes()), "e": b64(big.NewInt(int64(p.E)).Bytes())}
	default:
		return nil, fmt.Errorf("signing key: %T is not supported; use Ed25519, P-256 or RSA", private)
	}
	canonical, err := json.Marshal(k.jwk) // the required members only, sorted: RFC 7638 §3
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	sum := sha256.Sum256(canonical)
	k.id = b64(sum[:])
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

// verificationKey is what a token with a certain "kid" is checked with.
type verificationKey struct {
	id  string
	alg string
	key any
}

// signingKeys signs with one key and verifies with all.
type signingKeys struct {
	method jwt.SigningMethod
	kid    string
	key    any
	verify map[string]verificationKey
	order  []string // key ids as configured
	jwks   []map[string]string

	mu   sync.Mutex
	last time.Time // until when something signed lives, as last written
}

// newSigningKeys lets the first key sign, or the first secret if there is none or
// secretSigns.
func newSigningKeys(kr *keyring, keys []*SigningKey, secretSigns bool) (*signingKeys, error) {
	s := &signingKeys{verify: map[string]verificationKey{}}
	secretSigns = secretSigns || len(keys) == 0
	for i, k := range keys {
		if _, twice := s.verify[k.id]; twice {
			return nil, fmt.Errorf("signing key %d is the same as an earlier one", i+1)
		}
		if i == 0 && !secretSigns {
			s.method, s.kid, s.key = k.method, k.id, k.private
		}
		s.verify[k.id] = verificationKey{k.id, k.method.Alg(), k.private.Public()}
		s.order = append(s.order, k.id)
		public := map[string]string{"use": "sig", "alg": k.method.Alg(), "kid": k.id}
		maps.Copy(public, k.jwk)
		s.jwks = append(s.jwks, public)
	}
	// Tokens signed with the secrets stay valid when signing keys are introduced.
	for i, k := range kr.keys {
		if i == 0 && secretSigns {
			s.method, s.kid, s.key = jwt.SigningMethodHS256, k.id, k.raw[forTokens]
		}
		s.verify[k.id] = verificationKey{k.id, jwt.SigningMethodHS256.Alg(), k.raw[forTokens]}
		s.order = append(s.order, k.id)
	}
	return s, nil
}

// JWKS returns the public signing keys as a JWK Set (RFC 7517 §5), without those
// that are known to be withdrawn: who verifies tokens with it hears of no
// revocation. It is empty while tokens are signed with HS256: a symmetric key is
// never published.
func (a *Authority) JWKS() map[string]any {
	keys := []map[string]string{}
	for _, k := range a.signing.jwks {
		if !a.overruling.withdraws(k["kid"]) {
			keys = append(keys, k)
		}
	}
	return map[string]any{"keys": keys}
}

// Algorithm returns the JWS algorithm that access tokens are signed with.
func (a *Authority) Algorithm() string { return a.signing.method.Alg() }
