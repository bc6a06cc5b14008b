package tokens

import (
	"context"
	"errors"
)

// hashPool checks imported password hashes. Django's cost a second of CPU each
// on purpose, so one is checked at a time and few may wait: a stranger who
// knows the client id of an imported application cannot take more than one core.
type hashPool struct {
	running chan struct{}
	waiting chan struct{}
	check   func(encoded, secret string) (bool, error)
}

const maxWaitingHashes = 8

func newHashPool(check func(encoded, secret string) (bool, error)) hashPool {
	return hashPool{running: make(chan struct{}, 1), waiting: make(chan struct{}, maxWaitingHashes), check: check}
}

// verify reports whether the secret has the hash. The error is ErrBusy or the
// context's, or says that the hash cannot be checked at all.
func (p *hashPool) verify(ctx context.Context, encoded, secret string) (bool, error) {
	select {
	case p.waiting <- struct{}{}:
		defer func() { <-p.waiting }()
	default:
		return false, deny(ErrBusy, "hash_pool_full")
	}
	select {
	case p.running <- struct{}{}:
		defer func() { <-p.running }()
	case <-ctx.Done():
		return false, errors.Join(deny(ErrBusy, "hash_pool_timeout"), ctx.Err())
	}
	return p.check(encoded, secret)
}
