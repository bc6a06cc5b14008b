// SPDX-License-Identifier: MIT

package signing

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// sample are claims of the usual size.
var sample = Claims{
	Issuer: "https://meet.example.org/external-api/v1.0", Audience: "meet-gateway", IssuedAt: 1_800_000_000, ExpiresAt: 1_800_003_600,
	ID: vault.RandomID(vault.TokenID), Subject: vault.RandomID(vault.UserID), ClientID: vault.RandomID(vault.ApplicationID),
	Scope: "rooms:list rooms:retrieve rooms:create", UserID: "0199d1f0-0000-7000-8000-000000000000", Delegated: true,
}

// Accepted claims have one meaning: encoding/json, which ignores letter case, reads the same.
func FuzzClaims(f *testing.F) {
	own, err := json.Marshal(&sample)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(own), "null", "[]", "{}", `{"exp":1,"exp":2}`, `{"EXP":1}`, `{"e\u0078p":1,"x":{"a":[1]}}`, `{"exp":1.0}`, `{"exp":"1"}`,
		`{"iss":null,"delegated":false}`, `{"aud":["a"]}`, "{\"iss\":\"\xff\"}", `{"exp":1} {}`, `{"x":{"a":1,"a":2}}`,
		strings.Replace(string(own), "scope", "Scope", 1),
	} {
		f.Add([]byte(seed))
	}
	type plain Claims // without UnmarshalJSON
	f.Fuzz(func(t *testing.T, data []byte) {
		var got Claims
		if got.UnmarshalJSON(data) != nil || got.misspelled {
			return
		}
		var want plain
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("accepted what encoding/json does not: %v", err)
		}
		if got != Claims(want) {
			t.Fatalf("read %+v, encoding/json %+v", got, want)
		}
	})
}
