// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/internal/trial"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Adoption moves a live installation behind the gateway: the gateway presents unknown
// credentials to Meet once, and registers those that Meet accepts. From then on it checks
// them itself, at a ten-thousandth of the cost.
//
// Two kinds of unknown client ids are not adopted: those that an operator has removed, and
// those that an application already presents at Meet.

// adoption registers applications that Meet knows and the gateway does not.
type adoption struct {
	*core
	applications *applications
	registry     *registry
	meetClients  *meetClients
	logins       *logins
	trials       *trial.Trials
}

// Adopt authenticates an application that may not be registered yet. Call it when
// [Authority.Authenticate] has returned ErrInvalidClient.
//
// ask presents the credentials to Meet and returns the application to register, with the
// name and the scopes that Meet answered. Without domains the application gets "*": Meet
// alone decides for whom it may act. If ask returns ErrInvalidClient, the refusal is
// remembered; other errors are not. Concurrent calls with the same credentials ask once.
//
// A client id that must not be adopted is refused without asking (see
// [Authority.AllowAdoption]).
//
// Errors: ErrInvalidClient, ErrInactiveApplication, ErrBusy while other credentials are
// being tried, ErrUnavailable, those of [Authority.CreateApplication] and those of ask.
func (a *adoption) Adopt(ctx context.Context, clientID, secret string, ask func(context.Context) (Application, error)) (*Application, error) {
	if !grammar.IsClientID(clientID) || secret == "" || len(secret) > secrets.MaxLength {
		return nil, deny(ErrInvalidClient, "unknown_client_or_wrong_secret")
	}
	for wait := trial.NewWait(); ; {
		if app, settled, err := a.settled(ctx, clientID, secret); settled {
			return app, err
		}
		var app *Application
		var failed error
		tried, err := a.trials.Alone(ctx, clientID, secret, func(ctx context.Context) {
			app, failed = a.try(ctx, clientID, secret, ask)
		})
		if err == nil {
			err = failed
		}
		if tried || err != nil {
			return app, err
		}
		if err := wait.Next(ctx); err != nil {
			return nil, err
		}
	}
}

// try is the one call of Adopt that asks Meet.
func (a *adoption) try(ctx context.Context, clientID, secret string, ask func(context.Context) (Application, error)) (*Application, error) {
	if app, settled, err := a.settled(ctx, clientID, secret); settled {
		return app, err // by another trial, before this one began
	}
	found, err := ask(ctx)
	if errors.Is(err, ErrInvalidClient) {
		_ = a.trials.NoteRefusal(ctx, clientID, secret) // best effort
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return a.register(ctx, found, clientID, secret)
}

// settled reports whether Meet need not be asked: the application is registered, the client
// id must not be adopted, or Meet refused the credentials lately.
func (a *adoption) settled(ctx context.Context, clientID, secret string) (*Application, bool, error) {
	app, registered, err := a.registered(ctx, clientID, secret)
	if registered || err != nil {
		return app, true, err
	}
	refused, err := a.trials.Refused(ctx, clientID, secret)
	if err != nil {
		return nil, true, err
	}
	if refused {
		return nil, true, deny(ErrInvalidClient, "refused_recently")
	}
	return nil, false, nil
}

// registered authenticates the application that has a client id, if there is one. If not, it
// returns an error if the client id must not be adopted.
func (a *adoption) registered(ctx context.Context, clientID, secret string) (app *Application, registered bool, err error) {
	switch _, err := a.applications.CurrentApplication(ctx, clientID); {
	case err == nil:
		app, _, err := a.logins.Authenticate(ctx, clientID, secret)
		return app, true, err
	case !errors.Is(err, ErrNotFound):
		return nil, false, err
	}
	return nil, false, a.meetClients.adoptable(ctx, clientID)
}

// register registers an application with the credentials that Meet has accepted, which also
// become its backend credentials. Concurrent calls return the same application.
func (a *adoption) register(ctx context.Context, app Application, clientID, secret string) (*Application, error) {
	app.Active = true
	app.Name = cmp.Or(app.Name, "Adopted "+clientID)
	if len(app.Domains) == 0 {
		app.Domains = []string{"*"}
	}
	if app.Backend == nil {
		app.Backend = &BackendCredentials{ClientID: clientID, ClientSecret: secret}
	}
	if !slices.Contains(app.Aliases, clientID) {
		app.Aliases = append(slices.Clone(app.Aliases), clientID)
	}
	unlock, err := a.trials.Lock(ctx, clientID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// It may have been registered, or removed, while Meet was asked.
	if app, registered, err := a.registered(ctx, clientID, secret); registered || err != nil {
		return app, err
	}
	created, err := a.registry.create(ctx, app, func(n *Application) {
		n.storedSecrets = []secrets.Stored{secrets.New(a.keys, vault.RandomID(8), n.ID, secret, n.Created)}
	})
	if errors.Is(err, ErrConflict) { // another application has just taken the client id
		found, _, err := a.logins.Authenticate(ctx, clientID, secret)
		return found, err
	}
	return created, err
}

// Why a client id is not adopted. The reason is for logs; the client gets ErrInvalidClient.
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
		return m.checkAdoptable(ctx, clientID)
	})
}

func (m *meetClients) checkAdoptable(ctx context.Context, clientID string) error {
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
			continue // a left-over entry: creating or deleting it failed half-way
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

// AllowAdoption lets a client id be adopted again that an operator has removed. Errors:
// ErrNotFound if the client id was not removed, ErrUnavailable.
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

// record records which application presents a client id at Meet. It is called before the
// application is written; a left-over entry does no harm.
func (m *meetClients) record(ctx context.Context, app *Application) error {
	if app.Backend == nil {
		return nil
	}
	if err := m.db.AddMember(ctx, redisdb.KeyBackend(app.Backend.ClientID), app.ID); err != nil {
		return unavailable("noting backend credentials", err)
	}
	return nil
}

// forget undoes record for an application that was deleted.
func (m *meetClients) forget(ctx context.Context, app *Application) error {
	if app.Backend == nil {
		return nil
	}
	if err := m.db.RemoveMember(ctx, redisdb.KeyBackend(app.Backend.ClientID), app.ID); err != nil {
		return unavailable("forgetting backend credentials", err)
	}
	return nil
}
