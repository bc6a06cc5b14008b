// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"fmt"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
)

// CurrentApplication returns the application with the id or alias as Redis has
// it now, with the instants of last use, which caches do not follow. It is for
// people who look; requests use [Authority.Application]. Errors: ErrNotFound,
// ErrUnavailable.
func (a *applications) CurrentApplication(ctx context.Context, idOrAlias string) (*Application, error) {
	if !grammar.IsClientID(idOrAlias) {
		return nil, fmt.Errorf("application: %w", ErrNotFound)
	}
	found, err := a.find(ctx, idOrAlias)
	if err != nil {
		return nil, err
	}
	return a.codec.decode(found.id, found.hash)
}
