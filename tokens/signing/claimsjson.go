// SPDX-License-Identifier: MIT

package signing

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// claimNames are the claims that are read.
var claimNames = []string{"iss", "aud", "iat", "exp", "jti", "sub", "client_id", "scope", "user_id", "delegated"}

// UnmarshalJSON reads claims. It refuses a duplicate name (RFC 7519 §4), and a name that
// differs from one that is read in letter case only (§10.1.1). encoding/json accepts both: it
// takes the last of two, and "EXP" for "exp". Other names are ignored.
func (c *Claims) UnmarshalJSON(data []byte) error {
	type claims Claims // without this method
	read := struct {
		*claims
		Others map[string]jsontext.Value `json:",embed"`
	}{claims: (*claims)(c)}
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	for name := range read.Others {
		for _, known := range claimNames {
			if strings.EqualFold(name, known) {
				return failure.Deny(failure.ErrTokenInvalid, "bad_claims")
			}
		}
	}
	return nil
}
