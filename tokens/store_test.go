// SPDX-License-Identifier: MIT

package tokens_test

import (
	"cmp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// opener opens a store with a timeout for slow machines, unless the test sets one.
func opener(o tokens.RedisOptions) storetest.Opener {
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	return func(t *testing.T) *tokens.Store {
		s, err := tokens.OpenRedis(o)
		require.NoError(t, err)
		return s
	}
}
