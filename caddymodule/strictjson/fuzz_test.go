// SPDX-License-Identifier: MIT

package strictjson

import (
	"encoding/json"
	"testing"
)

// An accepted object has one meaning: encoding/json reads the same members.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "[]", "null", `{"a":1}`, `{"a":1,"a":2}`, `{"a":{"b":1,"b":2}}`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", `{"a":1} {}`,
		`{"a":1e999}`, `{"A":1,"a":2}`, `{"\u0061":1,"a":2}`, "\xef\xbb\xbf{}", `{"a":"\u0000"}`, `{"a":NaN}`, `{"a":[[[[[[]]]]]]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		object, err := Object(body)
		if err != nil || len(object) == 0 {
			return
		}
		var plain map[string]json.RawMessage
		if err := json.Unmarshal(body, &plain); err != nil {
			t.Fatalf("accepted invalid JSON: %v", err)
		}
		if len(plain) != len(object) {
			t.Fatalf("%d members, encoding/json reads %d", len(object), len(plain))
		}
		for name, value := range object {
			if string(plain[name]) != string(value) {
				t.Fatalf("member %q is %s, encoding/json reads %s", name, value, plain[name])
			}
		}
	})
}
