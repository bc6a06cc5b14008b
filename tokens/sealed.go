// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"errors"
	"slices"
)

// BackendUnreadable reports whether the application has backend credentials that
// were encrypted with a secret which is not configured here. It cannot be used
// until they are set again or forgotten.
func (app *Application) BackendUnreadable() bool {
	return app.Backend == nil && app.sealedBackend != ""
}

// ForgetBackend removes the backend credentials, also those that cannot be read
// and those that might be learned. Setting Backend to nil alone keeps the latter
// two. It is for [Authority.UpdateApplication].
func (app *Application) ForgetBackend() {
	app.Backend, app.sealedBackend = nil, ""
	app.verifiers = slices.Clone(app.verifiers) // copies of the application may share them
	for i := range app.verifiers {
		app.verifiers[i].Client = ""
	}
}

// LearnsBackend returns the client id at Meet of which the application's imported
// secret may become its backend credentials, once it is known; "" if none may.
func (app *Application) LearnsBackend() string {
	if app.Backend != nil || app.sealedBackend != "" {
		return ""
	}
	for _, v := range app.verifiers {
		if v.Client != "" {
			return v.Client
		}
	}
	return ""
}

// LearnBackend makes an imported secret that was just presented the application's
// backend credentials, or with accepted false gives that up: Meet does not take
// it. Call it when [Application.LearnsBackend] names the client id and Meet was
// asked. If somebody else has decided meanwhile, nothing is changed. Errors:
// ErrNotFound, ErrConflict, ErrUnavailable.
func (a *Authority) LearnBackend(ctx context.Context, applicationID string, c BackendCredentials, accepted bool) error {
	_, err := a.UpdateApplication(ctx, applicationID, 0, func(n *Application) error {
		switch {
		case n.LearnsBackend() != c.ClientID:
			return errDecided
		case accepted:
			n.Backend = &c
		default:
			n.ForgetBackend()
		}
		return nil
	})
	if errors.Is(err, errDecided) {
		return nil
	}
	return err
}

var errDecided = errors.New("decided by somebody else")
