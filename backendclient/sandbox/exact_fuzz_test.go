// SPDX-License-Identifier: MIT

package sandbox_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// FuzzJSON compares the parser with encoding/json, which must accept the same texts with the
// same values, except where Python differs on purpose.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"a": [1, -0, 1.5, 1e3, true, null, "\u00e9\n"]}`, `{"a":1,"a":2}`, `"\ud83d\ude00"`, `"\ud800"`, `[NaN]`,
		`{bad`, `[1,]`, "\ufeff{}", "\xff", `{"a":1}x`, ` [ ] `, `"\x"`, `-`, `01`, `1.`, `1e`, `1e400`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := exactJSON(body)
		if err != nil {
			_ = err.Error()
			if json.Valid(body) && utf8.Valid(body) && !errors.Is(err, sandbox.ErrTooDeep) && !bytes.ContainsAny(body, "0123456789") {
				t.Fatalf("refuses %q: %v", body, err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatalf("takes %q", body)
		}
		written, err := json.Marshal(got)
		if err != nil {
			return // infinite floats are only Python's
		}
		var want, again any
		if json.Unmarshal(body, &want) != nil {
			return
		}
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatalf("writes %q: %v", written, err)
		}
		if !bytes.Contains(body, []byte(`\u`)) { // encoding/json replaces half a pair at once, the parser later
			if d := cmp.Diff(want, again); d != "" {
				t.Fatal(d)
			}
		}
	})
}
