// SPDX-License-Identifier: MIT

package quota

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQuota_WarnAt(t *testing.T) {
	for of, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 10: 8, 11: 9, 100: 80, 1000: 800} {
		require.Equal(t, want, (&Quota{Limit: of}).warnAt(), of)
	}
}
