// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// sealed is what of an application is encrypted at rest, as stored, as far as it is
// not opened yet or cannot be: it was made with a secret that is not configured here.
// What cannot be opened stays as it is until it is set again.
type sealed struct{ backend, denied, note string }

// Sealed values are bound to the application and to what they are, so that none opens
// in the place of another.
const (
	sealedBackend = ""
	sealedDenied  = " denied"
	sealedNote    = " note"
)

// seal writes into a record what is encrypted at rest.
func (c *applicationCodec) seal(app *Application, r *applicationRecord) error {
	r.Backend, r.DeniedMails, r.Remark = app.sealed.backend, app.sealed.denied, app.sealed.note
	put := func(into *string, what string, value any) error {
		plain, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("encoding an application: %w", err)
		}
		*into = base64.RawStdEncoding.EncodeToString(c.keys.Seal(plain, redisdb.KeyApplication(app.ID)+what))
		return nil
	}
	var problems [3]error
	if b := app.Backend; b != nil {
		problems[0] = put(&r.Backend, sealedBackend, [2]string{b.ClientID, b.ClientSecret})
	}
	if len(app.DeniedMails) > 0 {
		problems[1] = put(&r.DeniedMails, sealedDenied, app.DeniedMails)
	}
	if app.Note != "" {
		problems[2] = put(&r.Remark, sealedNote, app.Note)
	}
	return errors.Join(problems[:]...)
}

// inClear reports whether the record has in clear what is encrypted since.
func (r *applicationRecord) inClear() bool { return len(r.Denied) > 0 || r.Note != "" }

// unseal decrypts what is encrypted at rest, as far as that is possible.
func (c *applicationCodec) unseal(app *Application) {
	open := func(text *string, what string, into any) bool {
		box, err := base64.RawStdEncoding.DecodeString(*text)
		if err != nil || *text == "" {
			return false
		}
		plain, _, err := c.keys.Open(box, redisdb.KeyApplication(app.ID)+what)
		if err != nil || json.Unmarshal(plain, into) != nil {
			return false
		}
		*text = ""
		return true
	}
	var pair [2]string
	if open(&app.sealed.backend, sealedBackend, &pair) {
		app.Backend = &BackendCredentials{ClientID: pair[0], ClientSecret: pair[1]}
	}
	open(&app.sealed.denied, sealedDenied, &app.DeniedMails)
	open(&app.sealed.note, sealedNote, &app.Note)
}

// unusable reports whether the application must not be used: it would act under other
// credentials at Meet, or for somebody for whom it may not.
func (app *Application) unusable() bool { return app.sealed.backend != "" || app.sealed.denied != "" }

// DeniedUnreadable reports whether the application has denied mail addresses that were
// encrypted with a secret which is not configured here. It cannot be used until they
// are set again.
func (app *Application) DeniedUnreadable() bool { return app.sealed.denied != "" }

// DenyMails sets the addresses that the application may not act for, in the place of
// all there are, also of those that cannot be read. Setting DeniedMails to none keeps
// the latter. It is for [Authority.UpdateApplication].
func (app *Application) DenyMails(mails []Mail) { app.DeniedMails, app.sealed.denied = mails, "" }

// BackendUnreadable reports whether the application has backend credentials that
// were encrypted with a secret which is not configured here. It cannot be used
// until they are set again or forgotten.
func (app *Application) BackendUnreadable() bool {
	return app.Backend == nil && app.sealed.backend != ""
}

// ForgetBackend removes the backend credentials, also those that cannot be read
// and those that might be learned. Setting Backend to nil alone keeps the latter
// two. It is for [Authority.UpdateApplication].
func (app *Application) ForgetBackend() {
	app.Backend, app.sealed.backend = nil, ""
	app.storedSecrets = slices.Clone(app.storedSecrets) // copies of the application may share them
	for i := range app.storedSecrets {
		app.storedSecrets[i].Client = ""
	}
}

// LearnsBackend returns the client id at Meet of which the application's imported
// secret may become its backend credentials, once it is known; "" if none may.
func (app *Application) LearnsBackend() string {
	if app.Backend != nil || app.sealed.backend != "" {
		return ""
	}
	for _, v := range app.storedSecrets {
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
func (r *registry) LearnBackend(ctx context.Context, applicationID string, c BackendCredentials, accepted bool) error {
	_, err := r.change(ctx, applicationID, 0, func(n *Application) error {
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
