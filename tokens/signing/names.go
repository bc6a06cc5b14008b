// SPDX-License-Identifier: MIT

package signing

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// claimNames are the claims that are read.
var claimNames = []string{"iss", "aud", "iat", "exp", "jti", "sub", "client_id", "scope", "user_id", "delegated"}

// checkNames refuses a header or claims with a duplicate name (RFC 7519 §4), and a claim
// whose name differs from one that is read in letter case only (§10.1.1). encoding/json
// accepts both: it takes the last of two, and "EXP" for "exp". The signature was checked
// before, so strangers cannot cause the work. A header and claims in the form that Sign
// writes are not parsed again.
func checkNames(raw string, c *Claims, ownHeader string) error {
	header, rest, _ := strings.Cut(raw, ".")
	payload, _, _ := strings.Cut(rest, ".")
	if header != ownHeader && uniqueObject(header) == nil {
		return failure.Deny(failure.ErrTokenInvalid, "unexpected_header")
	}
	var usual [1024]byte
	if own, err := json.Marshal(c); err == nil && string(base64.RawURLEncoding.AppendEncode(usual[:0], own)) == payload {
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(uniqueObject(payload), &object) != nil {
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

// uniqueObject decodes a part of a JWT. It returns nil unless the part is a JSON object
// without duplicate names, which jsontext does not accept.
func uniqueObject(part string) []byte {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if v := jsontext.Value(data); err != nil || v.Kind() != jsontext.KindBeginObject || !v.IsValid() {
		return nil
	}
	return data
}
