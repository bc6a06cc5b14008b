// SPDX-License-Identifier: MIT

package family

import (
	"strings"
	"testing"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

func FuzzIDOf(f *testing.F) {
	f.Add(NewToken(strings.Repeat("a", IDLength)))
	for _, s := range []string{"", Prefix, Prefix + strings.Repeat("0", 71), "mgs_" + strings.Repeat("0", 71), Prefix + strings.Repeat(" ", 71)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := IDOf(s)
		if ok != vault.IsID(id, IDLength) || ok && !strings.HasPrefix(s, Prefix+id) {
			t.Fatalf("%q: %q, %v", s, id, ok)
		}
	})
}
