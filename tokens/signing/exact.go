// SPDX-License-Identifier: MIT

package signing

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// claimNames are the claims that are read.
var claimNames = []string{"iss", "aud", "iat", "exp", "jti", "sub", "client_id", "scope", "user_id", "delegated"}

// exact refuses a header or claims with a duplicate name (RFC 7519 §4),
// and a claim in another letter case than its own (§10.1.1: names are
// case-sensitive). encoding/json takes the last of two, and "EXP" for "exp". It is
// asked about tokens whose signature is good, so that nobody else can cause the work.
// A header and claims that are written as this gateway writes them need no second look.
func exact(raw string, c *Claims, ownHeader string) error {
	header, rest, _ := strings.Cut(raw, ".")
	payload, _, _ := strings.Cut(rest, ".")
	if header != ownHeader {
		if _, err := exactObject(header); err != nil {
			return failure.Deny(failure.ErrTokenInvalid, "unexpected_header")
		}
	}
	var usual [1024]byte
	if own, err := json.Marshal(c); err == nil && string(base64.RawURLEncoding.AppendEncode(usual[:0], own)) == payload {
		return nil
	}
	object, err := exactObject(payload)
	if err != nil {
		return failure.Deny(failure.ErrTokenMalformed, "not_a_jwt")
	}
	for name := range object {
		for _, known := range claimNames {
			if name != known && strings.EqualFold(name, known) {
				return failure.Deny(failure.ErrTokenInvalid, "bad_claims")
			}
		}
	}
	return nil
}

// exactObject reads a part of a JWT: an object without duplicate names.
func exactObject(part string) (map[string]json.RawMessage, error) {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return nil, fmt.Errorf("decoding a part: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New("no JSON object")
	}
	object := make(map[string]json.RawMessage)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("reading a name: %w", err)
		}
		name, _ := token.(string)
		if _, duplicate := object[name]; duplicate {
			return nil, errors.New("duplicate name")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("reading a value: %w", err)
		}
		object[name] = value
	}
	return object, nil
}
