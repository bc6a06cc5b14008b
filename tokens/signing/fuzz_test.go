// SPDX-License-Identifier: MIT

package signing_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

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
	type plain signing.Claims // without UnmarshalJSON
	f.Fuzz(func(t *testing.T, data []byte) {
		var got signing.Claims
		if got.UnmarshalJSON(data) != nil {
			return
		}
		var want plain
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("accepted what encoding/json does not: %v", err)
		}
		if got != signing.Claims(want) {
			t.Fatalf("read %+v, encoding/json %+v", got, want)
		}
	})
}
