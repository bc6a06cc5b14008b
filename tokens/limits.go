// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
	"github.com/meet-gateway/meet-gateway/tokens/quota"
)

// Debit makes the Authority the shared count of a [limit.Limiter] ([limit.Shared]). The clock
// of Redis counts, and Redis has only a hash of what is counted. The error is ErrUnavailable.
func (a *Authority) Debit(ctx context.Context, k limit.Key, r limit.Rate, n int) (time.Duration, error) {
	// A limit that is changed has another name, and so starts from zero.
	name := redisdb.KeyName(a.keys.First(), redisdb.KindLimit, k.Policy.String(), k.Subject, k.Detail, r.String())
	free, err := a.db.Debit(ctx, name, r.Count, r.Per, limit.MaxDebt*r.Count, n)
	if err != nil {
		return 0, unavailable("counting for a limit", err)
	}
	return free, nil
}

// parseRates parses stored limits. It ignores limits that only a later version knows, since
// they must not make the application unusable.
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

// ErrQuotaExceeded means that an application has brought in as many new users
// today as it may (403).
var ErrQuotaExceeded = quota.ErrQuotaExceeded

// QuotaOptions are the quotas of new users of each application. An application's own
// limits "users" and "users_domain" come before them.
type QuotaOptions = quota.Options

// Quota is the state of one quota.
type Quota = quota.Quota

// Admission is the decision about a new user.
type Admission = quota.Admission

// admissions decides whether an application may bring in a user.
type admissions struct {
	users  *users
	quotas *quota.Quotas
}

// Admit decides whether an application may bring in the user with this address, and counts
// the address if it is new. Call it before Meet is asked. An address that this gateway has
// seen lately costs nothing, one that the installation knows costs one read.
//
// Errors: ErrQuotaExceeded, with the Admission that tells how much was used;
// ErrUnavailable.
func (a *admissions) Admit(ctx context.Context, app *Application, m Mail) (*Admission, error) {
	ad := a.quotas.Of(app.Rates())
	if !ad.Limited() {
		return &Admission{DryRun: ad.DryRun}, nil
	}
	if known, err := a.users.knowsMail(ctx, m); err != nil || known {
		return &Admission{DryRun: ad.DryRun}, err
	}
	return ad, ad.Count(ctx, app.ID, string(m), m.Domain())
}

// knowsMail reports whether a token was ever issued for the address.
func (s *users) knowsMail(ctx context.Context, m Mail) (bool, error) {
	if _, ok := s.cache.mails.Load(m); ok {
		return true, nil
	}
	id, err := s.index.Find(ctx, m)
	if err != nil || id == "" {
		return false, err
	}
	s.cache.mails.Store(m, id)
	return true, nil
}
