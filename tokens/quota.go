// SPDX-License-Identifier: MIT

package tokens

import (
	"context"

	"github.com/meet-gateway/meet-gateway/tokens/quota"
)

// ErrQuotaExceeded means that an application has brought in as many new users
// today as it may (403).
var ErrQuotaExceeded = quota.ErrQuotaExceeded

// QuotaOptions are the quotas of new users of each application. An application's own
// limits "users" and "users_domain" come before them.
type QuotaOptions = quota.Options

// Quota is how far a quota is used up.
type Quota = quota.Quota

// Admission tells whether a user may be brought in.
type Admission = quota.Admission

// admissions decides whether an application may bring in a user.
type admissions struct {
	users  *users
	quotas *quota.Quotas
}

// Admit decides whether an application may bring in the user with this address, and
// counts the address if it is new. It is asked before Meet is. An address that this
// gateway has seen lately costs nothing, one that the installation knows costs one
// read.
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
	if _, ok := s.cache.mails.GetIfPresent(m); ok {
		return true, nil
	}
	id, err := s.index.Find(ctx, m)
	if err != nil || id == "" {
		return false, err
	}
	s.cache.mails.Set(m, id)
	return true, nil
}
