// SPDX-License-Identifier: MIT

package tokens

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"

	"github.com/meet-gateway/meet-gateway/tokens/internal/knowntokens"
)

// The cache never returns another token, also while the table is replaced.
func TestCache_ConcurrentDropAll(t *testing.T) {
	c := newCache(5000)
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			for i := range 5000 {
				token := &accessToken{knowntokens.Token{ID: [22]byte(fmt.Appendf(nil, "%022d", (i*7+g)%6000)), Application: "calendar"}}
				sum := sha256.Sum256(token.ID[:])
				switch i % 5 {
				case 0:
					c.forget(token.key())
				case 1, 2:
					c.fillToken(sum, token, token.key(), c.epochs.Now(token.key()))
				default:
					if got, ok := c.token(sum); ok && got.ID != token.ID {
						t.Error("another token")
					}
				}
				if i%1000 == 999 && g == 0 {
					c.dropAll()
				}
			}
		})
	}
	wait.Wait()
}
