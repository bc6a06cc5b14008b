package caddymodule

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A body that makes Meet fail would look like an outage of Meet's.
func TestParseJSONObject_RefusesWhatMeetStumblesOver(t *testing.T) {
	nested := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}` }
	for name, tc := range map[string]struct {
		body string
		ok   bool
	}{
		"flat":                {`{"a":1}`, true},
		"as deep as allowed":  {nested(maxDepth), true},
		"deeper":              {nested(maxDepth + 1), false},
		"brackets in a text":  {`{"a":"` + strings.Repeat("[", 100) + `\""}`, true},
		"pair of surrogates":  {`{"a":"\ud83d\ude00"}`, true},
		"high one alone":      {`{"a":"\ud83d"}`, false},
		"low one alone":       {`{"a":"\ude00"}`, false},
		"two high ones":       {`{"a":"\ud83d\ud83d"}`, false},
		"high, then a letter": {`{"a":"\ud83d\u0041"}`, false},
		"escaped backslash":   {`{"a":"\\ud83d"}`, true},
		"in a key":            {`{"\udc00":1}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseJSONObject([]byte(tc.body))
			require.Equal(t, tc.ok, err == nil, "%v", err)
		})
	}
}
