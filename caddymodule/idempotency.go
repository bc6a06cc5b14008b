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

// idempotencyKey is the key that a request carries, "" for none. The error is
// tokens.ErrInvalidIdempotencyKey.
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

// withIdempotency sends a request that may be repeated by an impatient client. With a
// key the first answer is given again and nothing is sent twice; without one the
// request is just sent. body is the request as the client made it: what the operator's
// policy makes of it may differ the next time.
func (c roomsCall) withIdempotency(key string, body []byte, send func() (*backendclient.Response, error)) (*backendclient.Response, error) {
	if key == "" {
		return send()
	}
	// Sites with different Meets share users and applications, and no rooms.
	owner := c.identity.User.ID + "@" + c.h.meetName()
	attempt, err := c.h.app.Authority().BeginIdempotent(c.ctx, c.application.ID, owner, key, sha256.Sum256(body))
	if err != nil {
		return nil, err
	}
	if a := attempt.Answer; a != nil {
		c.entry.repeated = true
		return answerOf(a), nil
	}
	answer, err := send()
	if err := c.settle(attempt, answer, err); err != nil {
		// The answer is given out all the same; a repeated request is not sent.
		c.h.logger.Error("answer could not be kept for its idempotency key", zap.String("request_id", c.requestID), zap.Error(err))
	}
	return answer, err
}

// settle keeps what became of the attempt. A refusal had no effect, so the key
// is free for a request that was corrected.
func (c roomsCall) settle(attempt *tokens.Replay, answer *backendclient.Response, err error) error {
	ctx := c.ctx
	be, ok := errors.AsType[*backendclient.Error](err)
	switch {
	case err == nil && answer.Status < http.StatusMultipleChoices:
		return attempt.Finish(ctx, keptAnswer(answer))
	case err == nil, ok && !be.Effect:
		return attempt.Abandon(ctx)
	default:
		return attempt.Doubt(ctx)
	}
}

// keptAnswer is what is kept of an answer: what relay looks at.
func keptAnswer(a *backendclient.Response) tokens.Answer {
	kept := tokens.Answer{Status: a.Status, Body: a.Body}
	if a.Location != "" {
		kept.Header = map[string]string{"Location": a.Location}
	}
	return kept
}

func answerOf(kept *tokens.Answer) *backendclient.Response {
	return &backendclient.Response{Status: kept.Status, Location: kept.Header["Location"], Body: kept.Body}
}
