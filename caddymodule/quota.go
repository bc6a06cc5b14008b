// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/audit"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// eventQuota is the event for an application that has used 80 % of a quota of new
// users, emitted once a day per quota. Its data: `client_id`, `quota` (users or
// users_domain), `used`, `limit` and `dry_run`.
const eventQuota = "meet_gateway.quota_warning"

// admit charges the quota of new users before Meet creates the user.
func (c *call) admit(mail tokens.Mail) (*tokens.Admission, error) {
	ad, err := c.h.app.Authority().Admit(c.ctx, c.application, mail)
	if ad != nil {
		c.h.reportQuota(c, "users", ad.Application, ad.DryRun)
		c.h.reportQuota(c, "users_domain", ad.Domain, ad.DryRun)
		if ad.Exceeded {
			quotaExceededTotal.WithLabelValues(mode(ad.DryRun)).Inc()
			decision := audit.Refused
			if ad.DryRun {
				decision = audit.Allowed
			}
			c.entry.recordMore(c, audit.QuotaExceeded, decision, "quota_exceeded", func(e *audit.Event) { e.DryRun = ad.DryRun })
		}
		if ad.Exceeded && ad.DryRun {
			c.h.logger.Info("quota of new users exceeded; the user is not refused, because this is a dry run",
				zap.String("client_id", c.application.ID), zap.String("request_id", c.requestID))
		}
	}
	return ad, err
}

// refundQuota returns the quota charged for a user that Meet did not create.
func (c *call) refundQuota(ad *tokens.Admission) {
	if ad == nil || !ad.New {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), storeTimeout)
	defer cancel()
	if err := ad.Withdraw(ctx); err != nil {
		c.h.logger.Info("refunding the quota of new users failed", zap.String("client_id", c.application.ID), zap.Error(err))
	}
}

// isDefiniteRefusal reports whether Meet refused an exchange without creating a user.
func isDefiniteRefusal(err error) bool {
	for _, refused := range []error{
		backendclient.ErrUserNotFound, backendclient.ErrInvalidMail, backendclient.ErrDomainRefused, backendclient.ErrDuplicateUser,
		backendclient.ErrBackendCredentials, backendclient.ErrApplicationInactive, backendclient.ErrAPIDisabled, backendclient.ErrBusy,
	} {
		if errors.Is(err, refused) {
			return true
		}
	}
	return false
}

func (h *Handler) reportQuota(c *call, name string, q tokens.Quota, dryRun bool) {
	if !q.Warn {
		return
	}
	quotaWarningsTotal.WithLabelValues(name).Inc()
	c.entry.recordMore(c, audit.QuotaWarning, audit.Allowed, name, func(e *audit.Event) {
		e.DryRun, e.Details = dryRun, map[string]any{"used": q.Used, "limit": q.Limit}
	})
	h.logger.Warn("an application has used 80 % of its quota of new users today", zap.String("client_id", c.application.ID),
		zap.String("quota", name), zap.Int("used", q.Used), zap.Int("limit", q.Limit), zap.Bool("dry_run", dryRun))
	if h.events != nil {
		h.events.Emit(h.ctx, eventQuota, map[string]any{
			"client_id": c.application.ID, "quota": name, "used": q.Used, "limit": q.Limit, "dry_run": dryRun,
		})
	}
}

func mode(dryRun bool) string {
	if dryRun {
		return "dry_run"
	}
	return "enforced"
}
