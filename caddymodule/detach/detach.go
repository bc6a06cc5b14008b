// SPDX-License-Identifier: MIT

// Package detach gives a decision or a write a context that the caller's
// connection does not end.
//
// net/http cancels the context of a request when its client closes the connection,
// or only its sending half. A judgement that ends there is not counted, and a write
// of several steps stops between two of them: the caller decides what becomes of it.
// So what judges a credential or changes something runs on a context of this
// package. What only reads may go on with the request's own.
package detach

import (
	"context"
	"time"
)

// Context returns a context that has the values of ctx, does not end when ctx
// does, and ends after bound. cancel must be called when the work is done.
func Context(ctx context.Context, bound time.Duration) (detached context.Context, cancel context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), bound)
}
