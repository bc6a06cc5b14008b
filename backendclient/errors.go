// SPDX-License-Identifier: MIT

package backendclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"
)

// Kinds of errors, for errors.Is. Every error of this package is an [*Error] of one
// of these kinds, or of context.Canceled if the caller went away.
var (
	// ErrUserNotFound: no user has this mail address and Meet does not provision one,
	// or the user was deleted after the exchange.
	ErrUserNotFound = errors.New("meet knows no such user")

	// ErrInvalidMail: Meet does not accept the mail address.
	ErrInvalidMail = errors.New("meet refuses the mail address")

	// ErrDomainRefused: the application may not act for the mail's domain.
	ErrDomainRefused = errors.New("meet refuses the mail's domain")

	// ErrDuplicateUser: several users share the mail address until an operator merges
	// them. Meet answers with an HTML page.
	ErrDuplicateUser = errors.New("several users of meet share the mail")

	// ErrProvisioningConflict: Meet could neither create nor find the user, because of
	// a race or because the address is longer than its column of 254 characters.
	ErrProvisioningConflict = errors.New("meet could not provision the user")

	// ErrBackendCredentials: Meet refuses the application's Meet credentials. The
	// gateway holds them, so this is not the caller's fault.
	ErrBackendCredentials = errors.New("meet refuses the application's backend credentials")

	// ErrApplicationInactive: the application is inactive or deleted in Meet.
	ErrApplicationInactive = errors.New("the application is not active in meet")

	// ErrUserDisabled: the user's account is disabled in Meet.
	ErrUserDisabled = errors.New("the user is disabled in meet")

	// ErrTokenRefused: Meet refuses a token that the caller brought.
	ErrTokenRefused = errors.New("meet refuses the caller's own token")

	// ErrAPIDisabled: Meet's external API or its applications are disabled, or this
	// version of Meet has no such path.
	ErrAPIDisabled = errors.New("meet's external api is disabled or has no such path")

	// ErrMisconfigured: Meet, or a proxy in front of it, is not set up for this client.
	// [Error.Hint] says what to check.
	ErrMisconfigured = errors.New("meet is misconfigured for the gateway")

	// ErrUnavailable: Meet could not be reached, or answered 502 or 503.
	ErrUnavailable = errors.New("meet is unavailable")

	// ErrTimeout: Meet did not answer in time.
	ErrTimeout = errors.New("meet did not answer in time")

	// ErrBadAnswer: the answer cannot be Meet's (HTML, no JSON, too large, truncated),
	// or it is a server error.
	ErrBadAnswer = errors.New("meet gave an unusable answer")

	// ErrBusy: all exchange slots stayed taken for too long, or Meet or a proxy in front
	// of it answered 429.
	ErrBusy = errors.New("too many requests at meet")

	// ErrTooManyRooms: a search by slug reached its limit without a result.
	ErrTooManyRooms = errors.New("the user has more rooms than a search reads")

	// ErrInvalidRequest: this client does not send such a request; its path is not
	// canonical, or its query is too long for Meet's server.
	ErrInvalidRequest = errors.New("invalid request")
)

// reasons is the closed set of words for metrics and logs. The package comment lists under
// "Where a change goes" what else a new kind of error needs.
var reasons = []struct {
	kind error
	word string
}{
	{ErrUserNotFound, "user_not_found"},
	{ErrInvalidMail, "invalid_mail"},
	{ErrDomainRefused, "domain_refused"},
	{ErrDuplicateUser, "duplicate_user"},
	{ErrProvisioningConflict, "provisioning_conflict"},
	{ErrBackendCredentials, "backend_credentials"},
	{ErrApplicationInactive, "application_inactive"},
	{ErrUserDisabled, "user_disabled"},
	{ErrTokenRefused, "token_refused"},
	{ErrAPIDisabled, "api_disabled"},
	{ErrMisconfigured, "misconfigured"},
	{ErrUnavailable, "unavailable"},
	{ErrTimeout, "timeout"},
	{ErrBadAnswer, "bad_answer"},
	{ErrBusy, "busy"},
	{ErrTooManyRooms, "too_many_rooms"},
	{ErrInvalidRequest, "invalid_request"},
	{context.Canceled, "canceled"},
}

// Reason returns one word for an error: "ok" for nil, "other" for an error of another
// package, else one of [Reasons].
func Reason(err error) string {
	if err == nil {
		return "ok"
	}
	for _, r := range reasons {
		if errors.Is(err, r.kind) {
			return r.word
		}
	}
	return "other"
}

// Reasons lists all words that [Reason] returns and Options.OnExchange receives.
func Reasons() []string {
	words := []string{"ok"}
	for _, r := range reasons {
		words = append(words, r.word)
	}
	return append(words, "other")
}

// Error is the error type of this package. It may be shared between callers: do not
// modify it.
type Error struct {
	// Kind is one of the Err… values, or context.Canceled.
	Kind error

	// Op is the operation: "exchange", or the method and path.
	Op string

	// Status is the HTTP status of Meet or of a proxy in front of it; 0 if there was no
	// answer.
	Status int

	// Detail is Meet's own text, at most 256 bytes and from JSON only. It is empty if
	// the text repeats the caller's mail address or credentials.
	Detail string

	// Hint tells an operator what to check. It is not for callers.
	Hint string

	// Effect is true if the request may have had an effect at Meet, so that it must not
	// be repeated. It is false for an exchange, which can be repeated safely.
	Effect bool

	// RetryAfter is when another attempt makes sense; 0 if unknown.
	RetryAfter time.Duration

	// Err is the underlying error below HTTP, if any.
	Err error
}

// Error returns operation, kind, status, Meet's own text and the cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteString(": ")
	b.WriteString(e.Kind.Error())
	if e.Status != 0 {
		b.WriteString(" (status ")
		b.WriteString(strconv.Itoa(e.Status))
		b.WriteByte(')')
	}
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(strconv.Quote(e.Detail))
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// TransportError is the error of a transport that is itself a proxy, such as Caddy's
// reverse_proxy, if it got no answer from Meet.
type TransportError struct {
	// Status is what the proxy would have answered: 502 for no connection or a broken
	// one, 503 for no upstream, 504 for a timeout.
	Status int

	// NotSent is true if nothing can have reached Meet, as after a refused connection.
	NotSent bool

	// Err is the cause; it may be nil.
	Err error
}

// Error returns the status and the cause.
func (e *TransportError) Error() string {
	s := "proxy status " + strconv.Itoa(e.Status)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// failed turns an error of a transport into an Error. effect says whether the request
// has an effect once it arrives.
func failed(op string, effect bool, err error) *Error {
	e := &Error{Kind: ErrUnavailable, Op: op, Effect: effect && !notSent(err), Err: err}

	var te *TransportError
	if errors.As(err, &te) {
		e.Status = te.Status
	}
	switch {
	case errors.Is(err, context.Canceled):
		e.Kind = context.Canceled
	case notSent(err):
		e.Hint, e.RetryAfter = hintConnect, retryUnavailable
	case te != nil && te.Status == 504, timedOut(err):
		e.Kind = ErrTimeout
	default:
		e.RetryAfter = retryUnavailable
	}
	return e
}

func timedOut(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// notSent reports whether the request failed before any of it was written.
func notSent(err error) bool {
	var te *TransportError
	if errors.As(err, &te) && (te.NotSent || te.Status == 503) {
		return true
	}
	var oe *net.OpError
	if errors.As(err, &oe) && oe.Op == "dial" {
		return true
	}
	var (
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
		name x509.HostnameError
	)
	return errors.As(err, &dns) || errors.As(err, &cert) || errors.As(err, &name)
}
