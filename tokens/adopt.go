// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/grammar"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/meettokens"
)

// Adopting is how a live installation moves behind the gateway: credentials that
// the gateway does not know are tried once at Meet, and what Meet accepts is
// registered. From then on the gateway checks them, at a ten-thousandth of what
// Meet's check costs.
//
// A trial costs Meet a second of CPU, so strangers must not cause many: a pair
// that Meet has refused is not tried again for a while, the same pair is tried
// once at a time by all gateways, each gateway tries one pair at a time, and the
// caller limits trials by source (limit.Limiter.Adopt).

const (
	// refusalLifetime is how long refused credentials are not tried again.
	refusalLifetime = time.Minute
	// trialTime is more than a trial and a registration take.
	trialTime = 30 * time.Second
	// maxWaitingTrials is how many may wait for a gateway's one trial.
	maxWaitingTrials = 16
	// adoptPatience is how long somebody waits for another's trial.
	adoptPatience = 5 * time.Second
	adoptPoll     = 25 * time.Millisecond
)

// trialPool lets one trial run at a time, and few wait.
type trialPool struct{ running, waiting chan struct{} }

func newTrialPool() trialPool {
	return trialPool{running: make(chan struct{}, 1), waiting: make(chan struct{}, maxWaitingTrials)}
}

// enter waits for a place; leave gives it back. The error is ErrBusy.
func (p *trialPool) enter(ctx context.Context) (leave func(), err error) {
	select {
	case p.waiting <- struct{}{}:
		defer func() { <-p.waiting }()
	default:
		return nil, deny(ErrBusy, "adoption_pool_full")
	}
	select {
	case p.running <- struct{}{}:
		return func() { <-p.running }, nil
	case <-ctx.Done():
		return nil, deny(ErrBusy, "adoption_pool_timeout")
	}
}

// adoption registers applications that Meet knows and the gateway does not.
type adoption struct {
	*core
	applications *applications
	registry     *registry
	meetClients  *meetClients
	logins       *logins
	locks        *meettokens.Store
	trials       trialPool
}

// Adopt authenticates an application that may not be registered yet. If it is
// not, ask presents the credentials to Meet and returns what to register: name
// and scopes as Meet says; or ErrInvalidClient if Meet refuses them, which is
// remembered; or any other error, which is not. ask is called once for many who
// present the same credentials at the same time.
//
// Call it when [Authority.Authenticate] has said ErrInvalidClient.
//
// A client id whose application was deleted here, or which another application
// presents at Meet, is not tried: ErrInvalidClient (see [Authority.AllowAdoption]).
//
// Errors: ErrInvalidClient, ErrInactiveApplication, ErrBusy (others are being
// tried: 503), ErrUnavailable, and those of ask.
func (a *adoption) Adopt(ctx context.Context, clientID, secret string, ask func(context.Context) (Application, error)) (*Application, error) {
	if !grammar.IsClientID(clientID) || secret == "" || len(secret) > secrets.MaxLength {
		return nil, deny(ErrInvalidClient, "unknown_client_or_wrong_secret")
	}
	for wait := newWait(); ; {
		if app, settled, err := a.settled(ctx, clientID, secret); settled {
			return app, err
		}
		app, tried, err := a.tryAlone(ctx, clientID, secret, ask)
		if tried || err != nil {
			return app, err
		}
		if err := wait.next(ctx); err != nil {
			return nil, err
		}
	}
}

// tryAlone is try if no other gateway is trying the same credentials. The place in
// the queue comes before the lock, so that the lock need not last for the waiting.
func (a *adoption) tryAlone(ctx context.Context, clientID, secret string, ask func(context.Context) (Application, error)) (app *Application, tried bool, err error) {
	leave, err := a.trials.enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	unlock, mine, err := a.locks.LockMeetToken(ctx, a.keyTrial(clientID, secret), trialTime)
	if err != nil || !mine {
		return nil, false, err
	}
	defer unlock()
	app, err = a.try(ctx, clientID, secret, ask)
	return app, true, err
}

// try is Adopt for the one who asks Meet.
func (a *adoption) try(ctx context.Context, clientID, secret string, ask func(context.Context) (Application, error)) (*Application, error) {
	// Meet goes on checking when the caller hangs up, so its answer is awaited:
	// or else hanging up would make room for the next trial, of the same pair.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), trialTime/2)
	defer cancel()
	// Another may have come to an end since we looked.
	if app, settled, err := a.settled(ctx, clientID, secret); settled {
		return app, err
	}
	found, err := ask(ctx)
	if errors.Is(err, ErrInvalidClient) {
		_ = a.RememberRefusal(ctx, clientID, secret) // refused they are, remembered or not
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
	refused, err := a.WasRefused(ctx, clientID, secret)
	if err != nil {
		return nil, true, err
	}
	if refused { // Meet has said so, and Redis only remembers it
		return nil, true, deny(ErrInvalidClient, "refused_recently")
	}
	return nil, false, nil
}

// AdoptApplication registers an application under the client id it has at Meet,
// with the secret that Meet has accepted. It goes on presenting both to Meet, and
// unless app says otherwise it may act for whomever Meet lets it ("*").
//
// Of several at once one registers it and all get the same application. Errors:
// those of [Authority.CreateApplication]; ErrInvalidClient if it is registered
// with another secret; ErrBusy.
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
	for wait := newWait(); ; {
		unlock, mine, err := a.locks.LockMeetToken(ctx, "adopt\x00"+clientID, trialTime)
		if err != nil {
			return nil, err
		}
		if mine {
			defer unlock()
			return a.register(ctx, app, clientID, secret)
		}
		if err := wait.next(ctx); err != nil {
			return nil, err
		}
	}
}

// register is AdoptApplication for the one who registers, or finds it done.
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

// RememberRefusal notes, for a minute, that Meet refused the credentials. The
// error is ErrUnavailable.
func (a *adoption) RememberRefusal(ctx context.Context, clientID, secret string) error {
	if err := a.db.Set(ctx, a.keyRefusal(clientID, secret), "1", refusalLifetime); err != nil {
		return unavailable("noting refused credentials", err)
	}
	return nil
}

// WasRefused reports whether Meet refused the credentials within the last minute.
// The error is ErrUnavailable.
func (a *adoption) WasRefused(ctx context.Context, clientID, secret string) (bool, error) {
	refused, err := a.db.Exists(ctx, a.keyRefusal(clientID, secret))
	if err != nil {
		return false, unavailable("looking for refused credentials", err)
	}
	return refused, nil
}

func (a *adoption) keyRefusal(clientID, secret string) string {
	return redisdb.KeyName(a.keys.First(), "n", clientID, secret)
}

func (a *adoption) keyTrial(clientID, secret string) string {
	return "trial\x00" + redisdb.KeyName(a.keys.First(), "n", clientID, secret)
}

// waiting is for what another gateway is doing.
type waiting struct{ until time.Time }

func newWait() waiting { return waiting{time.Now().Add(adoptPatience)} }

// next waits a moment. The error is ErrBusy when there were enough of them.
func (w waiting) next(ctx context.Context) error {
	timer := time.NewTimer(adoptPoll)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return deny(ErrBusy, "adoption_in_progress")
	}
	if time.Now().After(w.until) {
		return deny(ErrBusy, "adoption_in_progress")
	}
	return nil
}
