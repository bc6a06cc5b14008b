// SPDX-License-Identifier: MIT

// Package failure holds the errors of package tokens and of the packages below it. Package
// tokens exports and documents them.
//
// [Unavailable] wraps a failure of Redis. [Deny] makes a refusal with a reason code, which
// [Reason] returns.
package failure

import (
	"cmp"
	"errors"
	"fmt"
)

// The errors, documented in package tokens.
var (
	ErrUnavailable = errors.New("store unavailable")
	ErrSettling    = errors.New("what Redis lost in a failover a moment ago may still be written again")
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("changed by somebody else")
	ErrBusy        = errors.New("too busy")

	ErrInvalidApplication  = errors.New("invalid application")
	ErrInvalidClient       = errors.New("invalid client")
	ErrInactiveApplication = errors.New("application is inactive")
	ErrInvalidMail         = errors.New("invalid mail address")
	ErrDomainNotAllowed    = errors.New("application is not authorized for this mail domain")
	ErrInvalidInstant      = errors.New("invalid instant")
	ErrInvalidScope        = errors.New("invalid scope")

	ErrTokenMalformed = errors.New("malformed token")
	ErrTokenForeign   = errors.New("token was not issued here")
	ErrTokenExpired   = errors.New("token expired")
	ErrTokenInvalid   = errors.New("token is not valid")

	ErrScopeNotGranted = errors.New("scope was not granted")
	ErrNotOwner        = errors.New("token belongs to another application")
	ErrInvalidGrant    = errors.New("invalid grant")
)

// Denial is a refusal with a reason code for logs and metrics.
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

// Reason returns the reason code of an error, "" if it has none.
func Reason(err error) string {
	if d, ok := errors.AsType[*Denial](err); ok {
		return d.Reason
	}
	return ""
}

var errAnswer = errors.New("the answer does not have the expected form")

// Unavailable wraps a failure of Redis as ErrUnavailable; doing says what failed. Without an
// error, it is an answer of another form than expected.
func Unavailable(doing string, err error) error {
	err = cmp.Or(err, errAnswer)
	return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
}
