// SPDX-License-Identifier: MIT

// Package failure holds the errors that every package below tokens returns, so
// that none of them has to import another to tell what went wrong.
package failure

import (
	"errors"
	"fmt"
)

// All are matched with [errors.Is]. What is wrapped around them never holds a
// credential or a mail address.
var (
	// ErrUnavailable means that Redis did not answer, or not in a way that
	// decides anything. It never means that a credential is wrong.
	ErrUnavailable = errors.New("store unavailable")
	// ErrNotFound means that Redis answered and that there is nothing there.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that the application was changed by somebody else
	// since the version the caller has seen.
	ErrConflict = errors.New("changed by somebody else")
	// ErrBusy means that a bounded resource (the pool that checks imported
	// password hashes) is used up. Trying again later helps.
	ErrBusy = errors.New("too busy")

	// ErrInvalidApplication means that an application's fields do not hold
	// together; the message names the field.
	ErrInvalidApplication = errors.New("invalid application")
	// ErrInvalidClient means that no application has this id and this secret
	// (RFC 6749 §5.2 invalid_client). Which of the two is wrong is not told.
	ErrInvalidClient = errors.New("invalid client")
	// ErrInactiveApplication means that the application exists, that its
	// credential is right, and that it was disabled.
	ErrInactiveApplication = errors.New("application is inactive")
	// ErrInvalidMail means that an address is outside the one grammar of
	// tokens.ParseMail.
	ErrInvalidMail = errors.New("invalid mail address")
	// ErrDomainNotAllowed means that the application may not act for this address.
	ErrDomainNotAllowed = errors.New("application is not authorized for this mail domain")
	// ErrInvalidInstant means that an instant makes no sense for what was asked.
	ErrInvalidInstant = errors.New("invalid instant")
	// ErrInvalidScope means that a scope is outside the grammar of RFC 6749 §3.3.
	ErrInvalidScope = errors.New("invalid scope")

	// ErrTokenMalformed means that the text is not a token of any form we know.
	ErrTokenMalformed = errors.New("malformed token")
	// ErrTokenForeign means that the text is a well-formed JWT that this
	// installation did not issue.
	ErrTokenForeign = errors.New("token was not issued here")
	// ErrTokenExpired means that the token was ours and its time is over.
	ErrTokenExpired = errors.New("token expired")
	// ErrTokenInvalid means that the token is not valid for any other reason:
	// unknown, revoked, overruled. [Reason] tells which, for logs only.
	ErrTokenInvalid = errors.New("token is not valid")

	// ErrScopeNotGranted means that a refresh token was not granted a scope that is
	// asked for (RFC 6749 §6, §5.2 invalid_scope).
	ErrScopeNotGranted = errors.New("scope was not granted")
	// ErrNotOwner means that a token belongs to another application.
	ErrNotOwner = errors.New("token belongs to another application")
	// ErrInvalidGrant means that a refresh token cannot be used (RFC 6749 §5.2
	// invalid_grant): unknown, expired, revoked, used twice, or another
	// application's.
	ErrInvalidGrant = errors.New("invalid grant")
)

// Denial is an error with a reason code for logs and metrics.
type Denial struct { //nolint:errname // the word of the domain
	Kind   error
	Reason string
}

// Error names the kind and the reason code.
func (d *Denial) Error() string { return fmt.Sprintf("%v: %s", d.Kind, d.Reason) }

// Unwrap returns the kind.
func (d *Denial) Unwrap() error { return d.Kind }

// Deny returns an error of the kind with a reason code.
func Deny(kind error, reason string) error { return &Denial{Kind: kind, Reason: reason} }

// Reason returns the reason code of an error of this package, from a small
// closed set fit for a log field or a metric label ("revoked", "unknown_token",
// "bad_signature", …), or "" when it has none.
func Reason(err error) string {
	if d, ok := errors.AsType[*Denial](err); ok {
		return d.Reason
	}
	return ""
}

// Unavailable wraps a failure of Redis as ErrUnavailable; doing says what failed.
func Unavailable(doing string, err error) error {
	return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
}
