// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"slices"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/internal/trial"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Adopting moves a live installation behind the gateway: the gateway presents unknown
// credentials to Meet once and registers those that Meet accepts. From then on it checks
// them itself, at a ten-thousandth of the cost.

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
// name and scopes that Meet tells. If ask returns ErrInvalidClient, the refusal is
// remembered; other errors are not. Concurrent calls with the same credentials ask once.
//
// A client id whose application was deleted here, or that another application presents
// at Meet, is refused without asking (see [Authority.AllowAdoption]).
//
// Errors: ErrInvalidClient, ErrInactiveApplication, ErrBusy while other credentials are
// being tried, ErrUnavailable, and those of ask.
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
	// Another trial may have ended meanwhile.
	if app, settled, err := a.settled(ctx, clientID, secret); settled {
		return app, err
	}
	found, err := ask(ctx)
	if errors.Is(err, ErrInvalidClient) {
		_ = a.trials.NoteRefusal(ctx, clientID, secret) // best effort
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return a.AdoptApplication(ctx, found, clientID, secret)
}

// settled reports whether Meet need not be asked: the application is registered,
// or the credentials were refused lately.
func (a *adoption) settled(ctx context.Context, clientID, secret string) (*Application, bool, error) {
	switch _, err := a.applications.CurrentApplication(ctx, clientID); {
	case err == nil:
		app, _, err := a.logins.Authenticate(ctx, clientID, secret)
		return app, true, err
	case !errors.Is(err, ErrNotFound):
		return nil, true, err
	}
	if err := a.meetClients.adoptable(ctx, clientID); err != nil {
		return nil, true, err
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

// AdoptApplication registers an application with the client id and the secret that Meet
// has accepted, which also become its backend credentials. Without domains of its own it
// gets "*": Meet alone decides for whom it may act.
//
// Concurrent calls return the same application. Errors: those of
// [Authority.CreateApplication]; ErrInvalidClient if it is registered with another
// secret; ErrBusy.
func (a *adoption) AdoptApplication(ctx context.Context, app Application, clientID, secret string) (*Application, error) {
	app.Active = true
	if app.Name == "" {
		app.Name = "Adopted " + clientID
	}
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
	return a.register(ctx, app, clientID, secret)
}

// register is AdoptApplication under the lock of the client id.
func (a *adoption) register(ctx context.Context, app Application, clientID, secret string) (*Application, error) {
	switch _, err := a.applications.CurrentApplication(ctx, clientID); {
	case err == nil:
		found, _, err := a.logins.Authenticate(ctx, clientID, secret)
		return found, err
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	if err := a.meetClients.adoptable(ctx, clientID); err != nil {
		return nil, err // it was removed while Meet was asked
	}
	created, err := a.registry.create(ctx, app, func(n *Application) {
		n.storedSecrets = []secrets.Stored{secrets.New(a.keys, vault.RandomID(8), n.ID, secret, n.Created)}
	})
	if errors.Is(err, ErrConflict) { // somebody has registered the client id meanwhile
		found, _, err := a.logins.Authenticate(ctx, clientID, secret)
		return found, err
	}
	return created, err
}
