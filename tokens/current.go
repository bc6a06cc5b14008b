package tokens

import (
	"context"
	"errors"
	"fmt"
)

// CurrentApplication returns the application with the id or alias as Redis has
// it now, with the instants of last use, which caches do not follow. It is for
// people who look; requests use [Authority.Application]. Errors: ErrNotFound,
// ErrUnavailable.
func (a *Authority) CurrentApplication(ctx context.Context, idOrAlias string) (*Application, error) {
	if !isClientID(idOrAlias) {
		return nil, fmt.Errorf("application: %w", ErrNotFound)
	}
	app, err := a.readApplication(ctx, idOrAlias)
	if !errors.Is(err, ErrNotFound) {
		return app, err
	}
	id, err := a.resolveAlias(ctx, idOrAlias)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, fmt.Errorf("application: %w", ErrNotFound)
	}
	return a.readApplication(ctx, id)
}
