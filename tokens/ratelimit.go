// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// Debit makes the Authority the shared count of a [limit.Limiter]
// ([limit.Shared]). Redis' clock counts, and whoever is counted is hashed. The
// error is ErrUnavailable.
func (a *Authority) Debit(ctx context.Context, k limit.Key, r limit.Rate, n int) (time.Duration, error) {
	free, err := a.db.Debit(ctx, keyRate(a.keys.First(), k, r), r.Count, r.Per, limit.MaxDebt*r.Count, n)
	if err != nil {
		return 0, unavailable("counting for a limit", err)
	}
	return free, nil
}

// parseRates reads stored limits. What a later version may have written and this
// one does not know must not close the application: the installation's apply.
func parseRates(m map[string]string) *limit.Rates {
	if len(m) == 0 {
		return nil
	}
	r, err := limit.ParseOverrides(m)
	if err != nil {
		return nil
	}
	return r
}

// keyRate names the shared count of a limit. One that is changed begins anew.
func keyRate(k *vault.Key, of limit.Key, r limit.Rate) string {
	return redisdb.KeyName(k, "q", of.Policy.String(), of.Subject, of.Detail, r.String())
}
