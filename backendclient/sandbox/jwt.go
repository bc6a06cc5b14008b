// SPDX-License-Identifier: MIT

package sandbox

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"math"
	"slices"
	"strings"
	"time"
)

// Why Meet refuses a token. After errForeignToken it asks the next authenticator.
var (
	errForeignToken = errors.New("not a token of this installation")
	errExpiredToken = errors.New("token expired")
	errInvalidToken = errors.New("token for or from someone else")
)

// hmacHash returns the hash of a JWT algorithm (RFC 7518 §3.2).
func hmacHash(algorithm string) func() hash.Hash {
	switch algorithm {
	case "HS256":
		return sha256.New
	case "HS384":
		return sha512.New384
	case "HS512":
		return sha512.New
	}
	return nil
}

// signToken creates a JWT (RFC 7519) with an HMAC. It fails without a key and for other
// algorithms.
func signToken(algorithm, key string, claims any) (string, error) {
	if key == "" || hmacHash(algorithm) == nil {
		return "", errors.New("no key or no such algorithm")
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	header := `{"alg":"` + algorithm + `","typ":"JWT"}`
	signed := encodePart([]byte(header)) + "." + encodePart(payload)
	return signed + "." + encodePart(tokenMAC(algorithm, key, signed)), nil
}

func encodePart(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func tokenMAC(algorithm, key, signed string) []byte {
	mac := hmac.New(hmacHash(algorithm), []byte(key))
	mac.Write([]byte(signed))
	return mac.Sum(nil)
}

// verifyToken reads a token as PyJWT does with Meet's settings: signature, then
// iat, nbf, exp, iss, aud, sub and jti, with no leeway.
func verifyToken(token string, s *Settings, now time.Time) (map[string]any, error) {
	claims, ok := openToken(token, s.JWTAlgorithm, s.JWTSecretKey)
	if !ok {
		return nil, errForeignToken
	}
	seconds := float64(now.UnixNano()) / float64(time.Second)
	past := func(t float64) bool { return t <= seconds }
	future := func(t float64) bool { return t > seconds }
	return claims, cmp.Or(
		checkTime(claims, "iat", past, errForeignToken),
		checkTime(claims, "nbf", past, errForeignToken),
		checkTime(claims, "exp", future, errExpiredToken),
		checkIssuer(claims, s.JWTIssuer),
		checkAudience(claims, s.JWTAudience),
		checkText(claims, "sub"),
		checkText(claims, "jti"),
	)
}

// openToken checks the signature and returns the claims.
func openToken(token, algorithm, key string) (map[string]any, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, false
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	var claims map[string]any
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !decodePart(parts[0], &header) || header.Algorithm != algorithm || hmacHash(algorithm) == nil {
		return nil, false
	}
	if !hmac.Equal(signature, tokenMAC(algorithm, key, parts[0]+"."+parts[1])) {
		return nil, false
	}
	return claims, decodePart(parts[1], &claims) && claims != nil
}

func decodePart(part string, into any) bool {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(into) == nil
}

// checkTime checks a claim that may be missing, in whole seconds.
func checkTime(claims map[string]any, name string, good func(float64) bool, otherwise error) error {
	v, ok := claims[name]
	if !ok {
		return nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return errForeignToken
	}
	t, err := n.Float64()
	if err != nil {
		return errForeignToken
	}
	if !good(math.Trunc(t)) {
		return otherwise
	}
	return nil
}

func checkIssuer(claims map[string]any, issuer string) error {
	v, ok := claims["iss"]
	if !ok {
		return errForeignToken
	}
	if v != issuer {
		return errInvalidToken
	}
	return nil
}

// checkAudience refuses a token without audience as foreign, but one with an
// audience where none is configured as invalid.
func checkAudience(claims map[string]any, audience *string) error {
	v := claims["aud"]
	missing := !truthy(v)
	if audience == nil {
		if missing {
			return nil
		}
		return errInvalidToken
	}
	if missing {
		return errForeignToken
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if !slices.Contains(list, any(*audience)) {
		return errInvalidToken
	}
	return nil
}

func checkText(claims map[string]any, name string) error {
	if v, ok := claims[name]; ok {
		if _, ok := v.(string); !ok {
			return errForeignToken
		}
	}
	return nil
}

// truthy reports whether a claim is true for Python.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case json.Number:
		f, err := v.Float64()
		return err != nil || f != 0
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}
