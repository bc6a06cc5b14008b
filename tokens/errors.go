// SPDX-License-Identifier: MIT

package tokens

import (
	"errors"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// Errors of this package and of those below it. Match them with [errors.Is]. Errors that
// wrap them never hold a credential or a mail address.
var (
	// ErrUnavailable means that Redis did not answer, or not in a way that
	// decides anything. It never means that a credential is wrong.
	ErrUnavailable = failure.ErrUnavailable
	// ErrNotFound means that Redis answered and that there is nothing there.
	ErrNotFound = failure.ErrNotFound
	// ErrConflict means that the application was changed since the version that
	// the caller has seen.
	ErrConflict = failure.ErrConflict
	// ErrBusy means that a bounded resource (the pool that checks imported
	// password hashes) is used up. Trying again later helps.
	ErrBusy = failure.ErrBusy

	// ErrInvalidApplication means that an application's fields do not hold
	// together; the message names the field.
	ErrInvalidApplication = failure.ErrInvalidApplication
	// ErrInvalidClient means that no application has this id and this secret
	// (RFC 6749 §5.2 invalid_client). It does not tell which of the two is wrong.
	ErrInvalidClient = failure.ErrInvalidClient
	// ErrInactiveApplication means that the application exists, that its
	// credential is right, and that it was disabled.
	ErrInactiveApplication = failure.ErrInactiveApplication
	// ErrInvalidMail means that an address is outside the one grammar of
	// [ParseMail].
	ErrInvalidMail = failure.ErrInvalidMail
	// ErrDomainNotAllowed means that the application may not act for this address.
	ErrDomainNotAllowed = failure.ErrDomainNotAllowed
	// ErrInvalidInstant means that an instant makes no sense for what was asked.
	ErrInvalidInstant = failure.ErrInvalidInstant
	// ErrInvalidScope means that a scope is outside the grammar of RFC 6749 §3.3.
	ErrInvalidScope = failure.ErrInvalidScope

	// ErrTokenMalformed means that the text is not a token of any form we know.
	ErrTokenMalformed = failure.ErrTokenMalformed
	// ErrTokenForeign means that the text is a well-formed JWT that this
	// installation did not issue.
	ErrTokenForeign = failure.ErrTokenForeign
	// ErrTokenExpired means that the token was ours and its time is over.
	ErrTokenExpired = failure.ErrTokenExpired
	// ErrTokenInvalid means that the token is not valid for any other reason:
	// unknown, revoked, overruled. [Reason] tells which, for logs only.
	ErrTokenInvalid = failure.ErrTokenInvalid

	// ErrNotOwner means that a token belongs to another application.
	ErrNotOwner = failure.ErrNotOwner
	// ErrScopeNotGranted means that a refresh token was not granted a scope that is
	// asked for (RFC 6749 §6, §5.2 invalid_scope).
	ErrScopeNotGranted = failure.ErrScopeNotGranted
	// ErrInvalidGrant means that a refresh token cannot be used (RFC 6749 §5.2
	// invalid_grant): unknown, expired, revoked, used twice, or another
	// application's.
	ErrInvalidGrant = failure.ErrInvalidGrant
)

// Reason returns the reason code of an error of this package, from a small
// closed set fit for a log field or a metric label ("revoked", "unknown_token",
// "bad_signature", …), or "" when it has none.
func Reason(err error) string { return failure.Reason(err) }

func deny(kind error, reason string) error { return failure.Deny(kind, reason) }

func unavailable(doing string, err error) error { return failure.Unavailable(doing, err) }

// applicationDenial is a refusal of a credential whose application is known.
type applicationDenial struct { //nolint:errname // a refusal among others
	error
	application string
}

func (d *applicationDenial) Unwrap() error { return d.error }

// of attaches the credential's application to a refusal, but not to an outage.
func of(application string, err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) {
		return err
	}
	return &applicationDenial{err, application}
}

// ApplicationOf returns the id of the application whose credential was refused, "" if
// neither signature nor record has shown it.
func ApplicationOf(err error) string {
	if d, ok := errors.AsType[*applicationDenial](err); ok {
		return d.application
	}
	return ""
}
