// SPDX-License-Identifier: MIT

package tokens

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/knowntokens"
)

// The cache stays bounded when applications are created and deleted.
func TestCache_TokenClassesAreBounded(t *testing.T) {
	c := newCache(10)
	for i := range 1000 {
		token := &accessToken{knowntokens.Token{ID: [22]byte(fmt.Appendf(nil, "%022d", i)), Application: fmt.Sprint(i)}}
		sum := sha256.Sum256(token.ID[:])
		for !hasToken(c, sum) { // the eleventh class empties the cache
			c.fillToken(sum, token, token.key(), c.epochs.Now(token.key()))
		}
		require.LessOrEqual(t, c.tokens.Load().Len(), 10)
		c.forget(token.key())
		require.False(t, hasToken(c, sum))
	}
}

func hasToken(c *cache, sum [sha256.Size]byte) bool {
	_, ok := c.token(sum)
	return ok
}
