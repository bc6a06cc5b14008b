// SPDX-License-Identifier: MIT

package tokens

import (
	"errors"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// Errors of this package and of those below it. Match them with [errors.Is]. Errors that
// wrap them never hold a credential or a mail address.
var (
	// ErrUnavailable means that Redis did not answer, or could not be believed. It never
	// means that a credential is wrong.
	ErrUnavailable = failure.ErrUnavailable
	// ErrSettling comes with ErrUnavailable: something is missing or wrong, and Redis was
	// replaced or set back within the staleness bound, so it may still be restored.
	ErrSettling = failure.ErrSettling
	// ErrNotFound means that Redis answered and has no such record.
	ErrNotFound = failure.ErrNotFound
	// ErrConflict means that the application was changed since the version that
	// the caller has seen.
	ErrConflict = failure.ErrConflict
	// ErrBusy means that a bounded resource is used up, such as the pool that checks
	// imported password hashes. Trying again later helps.
	ErrBusy = failure.ErrBusy

	// ErrInvalidApplication means that a field of an application is not valid. The message
	// names the field.
	ErrInvalidApplication = failure.ErrInvalidApplication
	// ErrInvalidClient means that no application has this id and this secret
	// (RFC 6749 §5.2 invalid_client). It does not tell which of the two is wrong.
	ErrInvalidClient = failure.ErrInvalidClient
	// ErrInactiveApplication means that the credential is right and its application is
	// disabled.
	ErrInactiveApplication = failure.ErrInactiveApplication
	// ErrInvalidMail means that [ParseMail] does not accept an address.
	ErrInvalidMail = failure.ErrInvalidMail
	// ErrDomainNotAllowed means that the application may not act for this address.
	ErrDomainNotAllowed = failure.ErrDomainNotAllowed
	// ErrInvalidInstant means that a time is not valid for the operation.
	ErrInvalidInstant = failure.ErrInvalidInstant
	// ErrInvalidScope means that a scope is outside the grammar of RFC 6749 §3.3.
	ErrInvalidScope = failure.ErrInvalidScope

	// ErrTokenMalformed means that the text has the form of no known kind of token.
	ErrTokenMalformed = failure.ErrTokenMalformed
	// ErrTokenForeign means that the text is a well-formed JWT that this
	// installation did not issue.
	ErrTokenForeign = failure.ErrTokenForeign
	// ErrTokenExpired means that a token of this installation has expired.
	ErrTokenExpired = failure.ErrTokenExpired
	// ErrTokenInvalid means that a token is not valid for another reason, such as a
	// revocation. [Reason] tells which, for logs only.
	ErrTokenInvalid = failure.ErrTokenInvalid

	// ErrNotOwner means that a token belongs to another application.
	ErrNotOwner = failure.ErrNotOwner
	// ErrScopeNotGranted means that a requested scope is not among those of the refresh
	// token (RFC 6749 §6, §5.2 invalid_scope).
	ErrScopeNotGranted = failure.ErrScopeNotGranted
	// ErrInvalidGrant means that a refresh token cannot be used (RFC 6749 §5.2
	// invalid_grant): it is unknown, expired, revoked, reused or another application's.
	ErrInvalidGrant = failure.ErrInvalidGrant
)

// Reason returns the reason code of a refusal ("revoked", "unknown_token", "bad_signature",
// …), or "" if it has none. The set of codes is closed, so a code can be a log field or a
// metric label. docs/refusals.md explains them.
func Reason(err error) string { return failure.Reason(err) }

func deny(kind error, reason string) error { return failure.Deny(kind, reason) }

func unavailable(doing string, err error) error { return failure.Unavailable(doing, err) }

// applicationDenial adds the application to the refusal of its credential.
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

// ApplicationOf returns the id of the application whose credential was refused, "" if it is
// not known.
func ApplicationOf(err error) string {
	if d, ok := errors.AsType[*applicationDenial](err); ok {
		return d.application
	}
	return ""
}
