// SPDX-License-Identifier: MIT

package signing

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// claimNames are the claims that are read.
var claimNames = []string{"iss", "aud", "iat", "exp", "jti", "sub", "client_id", "scope", "user_id", "delegated"}

// UnmarshalJSON reads claims. It refuses a duplicate name (RFC 7519 §4), and notes a name that
// differs from one that is read in letter case only (§10.1.1). encoding/json accepts both: it
// takes the last of two, and "EXP" for "exp". Other names are ignored.
func (c *Claims) UnmarshalJSON(data []byte) error {
	type claims Claims // without this method
	read := struct {
		*claims
		Others map[string]jsontext.Value `json:",embed"`
	}{claims: (*claims)(c)}
	if err := json.Unmarshal(data, &read); err != nil {
		return err //nolint:wrapcheck // by golang-jwt
	}
	for name := range read.Others {
		c.misspelled = c.misspelled || slices.ContainsFunc(claimNames, func(known string) bool { return strings.EqualFold(name, known) })
	}
	return nil
}
