// SPDX-License-Identifier: MIT

package secrets

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// pool checks imported password hashes. Django's take a second of CPU on purpose, so one
// is checked at a time and few may wait: an attacker who knows the client id of an
// imported application cannot take more than one core.
//
// An argon2 hash with several lanes runs in as many goroutines. The pool then pauses so
// that the average stays at one core.
type pool struct {
	running chan struct{}
	waiting chan struct{}
	check   func(encoded, secret string) (bool, error)
}

const maxWaitingHashes = 8

func newPool(check func(encoded, secret string) (bool, error)) pool {
	return pool{running: make(chan struct{}, 1), waiting: make(chan struct{}, maxWaitingHashes), check: check}
}

// verify reports whether the secret has the hash. The error is ErrBusy, the context's, or
// that the hash cannot be checked.
func (p *pool) verify(ctx context.Context, encoded, secret string) (bool, error) {
	select {
	case p.waiting <- struct{}{}:
		defer func() { <-p.waiting }()
	default:
		return false, failure.Deny(failure.ErrBusy, "hash_pool_full")
	}
	select {
	case p.running <- struct{}{}:
	case <-ctx.Done():
		return false, errors.Join(failure.Deny(failure.ErrBusy, "hash_pool_timeout"), ctx.Err())
	}
	began := time.Now()
	defer func() {
		rest := time.Since(began) * time.Duration(min(lanes(encoded), runtime.GOMAXPROCS(0))-1)
		time.AfterFunc(rest, func() { <-p.running })
	}()
	return p.check(encoded, secret)
}

// lanes returns how many goroutines compute a hash: argon2's "p" parameter, or 1.
func lanes(encoded string) int {
	if !strings.HasPrefix(encoded, "argon2$") {
		return 1
	}
	for field := range strings.FieldsFuncSeq(encoded, func(r rune) bool { return r == '$' || r == ',' }) {
		if text, ok := strings.CutPrefix(field, "p="); ok {
			if n, err := strconv.Atoi(text); err == nil && n > 0 {
				return n
			}
		}
	}
	return 1
}
