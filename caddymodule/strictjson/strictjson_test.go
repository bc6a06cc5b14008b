// SPDX-License-Identifier: MIT

package strictjson

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Meet answers such bodies with a server error, which would look like an outage.
func TestObject_RefusesBodiesThatBreakMeet(t *testing.T) {
	nested := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}` }
	for name, tc := range map[string]struct {
		body string
		ok   bool
	}{
		"flat":                   {`{"a":1}`, true},
		"as deep as allowed":     {nested(maxDepth), true},
		"deeper":                 {nested(maxDepth + 1), false},
		"brackets in a text":     {`{"a":"` + strings.Repeat("[", 100) + `\""}`, true},
		"pair of surrogates":     {`{"a":"\ud83d\ude00"}`, true},
		"lone high surrogate":    {`{"a":"\ud83d"}`, false},
		"lone low surrogate":     {`{"a":"\ude00"}`, false},
		"two high surrogates":    {`{"a":"\ud83d\ud83d"}`, false},
		"high surrogate, letter": {`{"a":"\ud83d\u0041"}`, false},
		"escaped backslash":      {`{"a":"\\ud83d"}`, true},
		"in a key":               {`{"\udc00":1}`, false},
		"a key twice":            {`{"a":1,"a":2}`, false},
		"a key twice, deep":      {`{"a":[{"b":{"c":1,"c":2}}]}`, false},
		"key and value alike":    {`{"a":{"b":"b","c":["b","b"],"d":{"b":1}},"b":2}`, true},
		"siblings alike":         {`{"a":[{"b":1},{"b":2}],"c":{"b":3}}`, true},
		"a large number":         {`{"a":{"b":1e308}}`, true},
		"a number too large":     {`{"a":{"b":1e400}}`, false},
		"white space":            {" \t\r\n{ \"a\" : 1 } \n", true},
		"space that JSON lacks":  {"\u00a0{\"a\":1}", false},
		"vertical tab":           {"{\"a\":1}\v", false},
		"many digits":            {`{"a":` + strings.Repeat("9", 5000) + `}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Object([]byte(tc.body))
			require.Equal(t, tc.ok, err == nil, "%v", err)
		})
	}
}

// Values are as they were sent, without the space around them.
func TestObject_Values(t *testing.T) {
	got, err := Object([]byte(" { \"a\" :\t[1, {\"b\": 2}] , \"\\u0062\":\n{\"a\":\":\"},\"c\":null,\"d\" : \" : \" ,\"e\":-1.50e1,\"f\":true}"))
	require.NoError(t, err)
	require.Equal(t, map[string]json.RawMessage{
		"a": json.RawMessage(`[1, {"b": 2}]`), "b": json.RawMessage(`{"a":":"}`), "c": json.RawMessage("null"),
		"d": json.RawMessage(`" : "`), "e": json.RawMessage("-1.50e1"), "f": json.RawMessage("true"),
	}, got)
}

func TestHoldsNUL(t *testing.T) {
	for body, want := range map[string]bool{
		`{"a":"\u0000"}`: true, `{"a":"x\n\u0000"}`: true, `{"a":"\\u0000"}`: false, `{"a":"\u0001"}`: false, `{"a":"u0000"}`: false, `\`: false,
	} {
		require.Equal(t, want, HoldsNUL([]byte(body)), body)
	}
}
