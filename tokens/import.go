// SPDX-License-Identifier: MIT

package tokens

import (
	"context"
	"fmt"
	"slices"

	"github.com/meet-gateway/meet-gateway/tokens/django"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
)

// ImportedSecret is a secret from Meet. It prints without the hash.
type ImportedSecret struct {
	// Hash is Django's password hash of the secret (see package django for the forms). If it
	// is empty, the application has no secret until one is rotated in.
	Hash string
	// ClientID is the client id of the secret at Meet. At the first use of the secret, both
	// may become the application's backend credentials, so that Meet sees the same client as
	// before; see [Authority.LearnBackend]. If it is empty, they never do.
	ClientID string
}

// String hides the hash.
func (s ImportedSecret) String() string { return s.ClientID + ":(hidden)" }

// GoString is String.
func (s ImportedSecret) GoString() string { return s.String() }

// ImportApplication registers an application whose secret is only known as a password hash.
// The secret stays valid; at its first use the hash is replaced by an HMAC. Aliases must
// have the client id that the integrator presents.
//
// Errors: those of [Authority.CreateApplication], and ErrInvalidApplication for an unknown
// form of hash, which the error does not repeat.
func (r *registry) ImportApplication(ctx context.Context, app Application, secret ImportedSecret) (*Application, error) {
	if err := checkImported(secret.Hash); err != nil {
		return nil, err
	}
	return r.create(ctx, app, func(n *Application) {
		n.storedSecrets = nil
		if secret.Hash != "" {
			n.storedSecrets = []secrets.Stored{secrets.NewImported(secret.Hash, secret.ClientID, n.Created)}
		}
	})
}

// UpdateImported is [Authority.UpdateApplication] for an application that is imported again.
// The hash replaces the application's secrets if [Application.TakesImported].
func (r *registry) UpdateImported(ctx context.Context, id string, version int64, secret ImportedSecret, change func(*Application) error) (*Application, error) {
	if err := checkImported(secret.Hash); err != nil {
		return nil, err
	}
	return r.UpdateApplication(ctx, id, version, func(n *Application) error {
		if secret.Hash != "" && n.TakesImported(secret.Hash) {
			if len(n.storedSecrets) > 0 && n.LearnsBackend() == "" {
				secret.ClientID = "" // LearnBackend has decided
			}
			n.storedSecrets = []secrets.Stored{secrets.NewImported(secret.Hash, secret.ClientID, r.now())}
		}
		return change(n)
	})
}

// TakesImported reports whether an imported hash replaces the application's secrets: the hash
// is new, and all secrets were imported and never used.
func (app *Application) TakesImported(djangoHash string) bool {
	if app.HasImported(djangoHash) {
		return false
	}
	return !slices.ContainsFunc(app.Secrets, func(s SecretInfo) bool { return s.Kind != SecretDjango })
}

// HasImported reports whether one of the application's secrets was imported with the hash,
// even if its hash has been replaced since.
func (app *Application) HasImported(djangoHash string) bool {
	id := secrets.IDOf(djangoHash)
	return slices.ContainsFunc(app.Secrets, func(s SecretInfo) bool { return s.ID == id })
}

func checkImported(hash string) error {
	if hash == "" {
		return nil
	}
	if _, err := django.Identify(hash); err != nil {
		return fmt.Errorf("%w: secret: %w", ErrInvalidApplication, err)
	}
	return nil
}
