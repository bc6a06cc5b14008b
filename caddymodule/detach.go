// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// net/http cancels a request's context when the client closes its connection or only
// its sending half. A check of credentials that is cut off is not counted, and a write
// of several steps stops halfway. So endpoints that check credentials or write call
// detach once the body has been read, and continue on c.ctx, which the client cannot
// cancel.

// storeTimeout is the time that one request may spend in Redis. Commands have shorter
// timeouts of their own.
const storeTimeout = 30 * time.Second

// detach replaces c.ctx by a context that lasts long enough for an exchange and the
// steps around it. ServeHTTP releases it.
func (c *call) detach() { c.detachFor(c.h.client.TokenBound() + storeTimeout) }

func (c *call) detachFor(bound time.Duration) {
	c.release()
	c.ctx, c.cancel = context.WithTimeout(context.WithoutCancel(c.r.Context()), bound)
}

// release cancels the context of detach.
func (c *call) release() {
	if c.cancel != nil {
		c.cancel()
	}
}

// detachChange is detach for requests that change something at Meet, which carries them
// out whether or not the client waits.
func (c *call) detachChange() {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.detachFor(c.h.client.SendBound() + storeTimeout)
	}
}

// isCanceled reports whether the client has closed its connection or its sending half.
func (c *call) isCanceled() bool {
	return errors.Is(c.r.Context().Err(), context.Canceled)
}

// orCanceled replaces a failure by `canceled` if the client has disconnected, since it
// is then no outage of Redis or Meet. Other refusals, such as a wrong secret, stay.
func (c *call) orCanceled(r refusal) refusal {
	if !c.isCanceled() || !r.outage && r.status < http.StatusInternalServerError {
		return r
	}
	canceled := refusalOf(context.Canceled, c.endpoint)
	canceled.cause = r.cause
	return canceled
}
