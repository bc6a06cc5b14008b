// SPDX-License-Identifier: MIT

package caddymodule

import (
	"crypto/sha256"
	"errors"
	"net/http"

	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const headerIdempotencyKey = "Idempotency-Key"

// idempotencyKey returns the request's key, or "". It returns
// tokens.ErrInvalidIdempotencyKey for malformed and repeated ones.
func (c roomsCall) idempotencyKey() (string, error) {
	switch values := c.r.Header[headerIdempotencyKey]; len(values) {
	case 0:
		return "", nil
	case 1:
		return tokens.ParseIdempotencyKey(values[0])
	default:
		return "", tokens.ErrInvalidIdempotencyKey
	}
}

// withIdempotency sends a request, or returns the stored answer if the key was used
// before. Without a key it just sends. body is the request as the client made it, since
// the operator's policy may change in between.
func (c roomsCall) withIdempotency(key string, body []byte, send func() (*backendclient.Response, error)) (*backendclient.Response, error) {
	if key == "" {
		return send()
	}
	// Sites with different Meets share users and applications, but not rooms.
	owner := c.identity.User.ID + "@" + c.h.meetName()
	attempt, err := c.h.app.Authority().BeginIdempotent(c.ctx, c.application.ID, owner, key, sha256.Sum256(body))
	if err != nil {
		return nil, err
	}
	if a := attempt.Answer; a != nil {
		c.entry.repeated = true
		return responseOf(a), nil
	}
	answer, err := send()
	if err := c.finishIdempotent(attempt, answer, err); err != nil {
		// The caller gets the answer nevertheless. A retry with the key is not sent
		// again.
		c.h.logger.Error("storing the answer for its idempotency key failed", zap.String("request_id", c.requestID), zap.Error(err))
	}
	return answer, err
}

// finishIdempotent stores the outcome. A refusal had no effect, so its key can be used
// for a corrected request.
func (c roomsCall) finishIdempotent(attempt *tokens.Replay, answer *backendclient.Response, err error) error {
	ctx := c.ctx
	be, ok := errors.AsType[*backendclient.Error](err)
	switch {
	case err == nil && answer.Status < http.StatusMultipleChoices:
		return attempt.Finish(ctx, storedAnswer(answer))
	case err == nil, ok && !be.Effect:
		return attempt.Abandon(ctx)
	default:
		return attempt.Doubt(ctx)
	}
}

// storedAnswer returns the parts of an answer that relay uses.
func storedAnswer(a *backendclient.Response) tokens.Answer {
	kept := tokens.Answer{Status: a.Status, Body: a.Body}
	if a.Location != "" {
		kept.Header = map[string]string{"Location": a.Location}
	}
	return kept
}

func responseOf(kept *tokens.Answer) *backendclient.Response {
	return &backendclient.Response{Status: kept.Status, Location: kept.Header["Location"], Body: kept.Body}
}
