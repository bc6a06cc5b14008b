// SPDX-License-Identifier: MIT

package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// The caller's connection must not decide an outcome. Endpoints that judge a
// credential or write something call detach when the body has been read: from there
// on they run on c.ctx, which no longer ends with the request.

// storeTime bounds what one request does in Redis and what it waits for there. Each
// command has a shorter bound of its own.
const storeTime = 30 * time.Second

// detach makes c.ctx independent of the caller's connection, for as long as an
// exchange and the steps around it may take. ServeHTTP releases it.
func (c *call) detach() { c.detachFor(c.h.client.TokenBound() + storeTime) }

// detachFor is detach with another bound.
func (c *call) detachFor(bound time.Duration) {
	c.release()
	c.ctx, c.cancel = context.WithTimeout(context.WithoutCancel(c.r.Context()), bound)
}

// release ends what detach began.
func (c *call) release() {
	if c.cancel != nil {
		c.cancel()
	}
}

// detachChange is detach for a request to Meet that changes something: Meet carries
// it out whoever listens, so its answer is awaited. It is called when the body has
// been read.
func (c *call) detachChange() {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.detachFor(c.h.client.SendBound() + storeTime)
	}
}

// callerIsGone reports whether the client has closed its connection, or its sending
// half.
func (c *call) callerIsGone() bool {
	return errors.Is(c.r.Context().Err(), context.Canceled)
}

// orCanceled returns r, or `canceled` in its place if r is a failure and the caller
// has ended the request. A failure then is no outage of Redis or Meet. What was
// judged stays as it was judged: a wrong secret is one, whether or not the answer is
// read.
func (c *call) orCanceled(r refusal) refusal {
	if !c.callerIsGone() || !r.outage && r.status < http.StatusInternalServerError {
		return r
	}
	canceled := refusalOf(context.Canceled, c.endpoint)
	canceled.cause = r.cause
	return canceled
}
