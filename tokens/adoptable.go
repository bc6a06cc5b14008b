// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"slices"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// Two kinds of unknown client ids must not be adopted: those that an operator has removed,
// and those that an application already presents at Meet.

// Why a client id is not adopted, for logs. The caller only gets ErrInvalidClient.
var (
	errRemovedHere = deny(ErrInvalidClient, "removed_here")
	errBackendOf   = deny(ErrInvalidClient, "backend_of_another_application")
)

// meetClients keeps track of the client ids that applications present at Meet, and of
// those that must not be adopted.
type meetClients struct {
	*core
	applications *applications
}

// adoptable returns nil if an unknown client id may be adopted. Errors: ErrInvalidClient,
// ErrUnavailable.
func (m *meetClients) adoptable(ctx context.Context, clientID string) error {
	return m.feed.Refuse(ctx, "looking whether a client id may be adopted", func(ctx context.Context) error {
		return m.adoptableHere(ctx, clientID)
	})
}

func (m *meetClients) adoptableHere(ctx context.Context, clientID string) error {
	var removed bool
	var ids []string
	err := m.feed.Read(ctx, "looking for a removed client id", func(ctx context.Context, r feed.Reader) (bool, error) {
		n, err := r.Exists(ctx, redisdb.KeyRemoved(clientID)).Result()
		if removed = n > 0; err != nil || removed {
			return removed, err //nolint:wrapcheck // wrapped by Read
		}
		ids, err = r.SMembers(ctx, redisdb.KeyBackend(clientID)).Result()
		return len(ids) > 0, err //nolint:wrapcheck // wrapped by Read
	})
	if err != nil {
		return err
	}
	if removed {
		return errRemovedHere
	}
	for _, id := range ids {
		app, err := m.applications.read(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue // its creation or removal was cut short
		}
		if err != nil {
			return err
		}
		if slices.Contains(app.Aliases, clientID) {
			continue // it was adopted just now
		}
		if app.BackendUnreadable() || app.Backend != nil && app.Backend.ClientID == clientID {
			return errBackendOf
		}
	}
	return nil
}

// markRemoved records that an operator has removed client ids.
func (m *meetClients) markRemoved(ctx context.Context, clientIDs ...string) error {
	for _, id := range clientIDs {
		if err := m.db.Set(ctx, redisdb.KeyRemoved(id), "1", 0); err != nil {
			return unavailable("noting a removed client id", err)
		}
	}
	return nil
}

// AllowAdoption lets a client id be adopted again that an operator had removed. The error
// is ErrNotFound if none had, or ErrUnavailable.
func (m *meetClients) AllowAdoption(ctx context.Context, clientID string) error {
	if !grammar.IsClientID(clientID) {
		return ErrNotFound
	}
	const doing = "forgetting a removed client id"
	return m.feed.Refuse(ctx, doing, func(ctx context.Context) error {
		removed, err := m.db.Delete(ctx, redisdb.KeyRemoved(clientID))
		if err != nil {
			return unavailable(doing, err)
		}
		if !removed {
			return ErrNotFound
		}
		return nil
	})
}

// clientIDsAtMeet are the client ids that the application may have at Meet.
func (app *Application) clientIDsAtMeet() []string {
	ids := app.Aliases
	if app.Backend != nil && grammar.IsClientID(app.Backend.ClientID) {
		ids = append(slices.Clip(ids), app.Backend.ClientID)
	}
	return uniq(ids)
}

// note records which application presents a client id at Meet. It is called before the
// application is written; a left-over note does no harm.
func (m *meetClients) note(ctx context.Context, app *Application) error {
	if app.Backend == nil {
		return nil
	}
	if err := m.db.AddMember(ctx, redisdb.KeyBackend(app.Backend.ClientID), app.ID); err != nil {
		return unavailable("noting backend credentials", err)
	}
	return nil
}

// forget undoes note for an application that was deleted.
func (m *meetClients) forget(ctx context.Context, app *Application) error {
	if app.Backend == nil {
		return nil
	}
	if err := m.db.RemoveMember(ctx, redisdb.KeyBackend(app.Backend.ClientID), app.ID); err != nil {
		return unavailable("forgetting backend credentials", err)
	}
	return nil
}
