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

// What can go wrong, for errors.Is. Every error of this package is an [*Error]
// of one of these kinds, or of context.Canceled when the caller went away.
var (
	// ErrUserNotFound: no user has this mail, and Meet does not provision (or,
	// after an exchange, the user is gone again).
	ErrUserNotFound = errors.New("meet knows no such user")

	// ErrInvalidMail: Meet does not take the mail as an address.
	ErrInvalidMail = errors.New("meet refuses the mail address")

	// ErrDomainRefused: the application may not act for the mail's domain.
	ErrDomainRefused = errors.New("meet refuses the mail's domain")

	// ErrDuplicateUser: several users share the mail, until an operator merges
	// them. Meet says so with an HTML page.
	ErrDuplicateUser = errors.New("several users of meet share the mail")

	// ErrProvisioningConflict: Meet could neither create nor find the user: a lost
	// race, or an address longer than its column of 254 characters.
	ErrProvisioningConflict = errors.New("meet could not provision the user")

	// ErrBackendCredentials: Meet does not take the application's Meet
	// credentials. They are the gateway's, not its caller's: no fault of the latter.
	ErrBackendCredentials = errors.New("meet refuses the application's backend credentials")

	// ErrApplicationInactive: the application is switched off or deleted in Meet.
	ErrApplicationInactive = errors.New("the application is not active in meet")

	// ErrUserDisabled: the user's account is switched off in Meet.
	ErrUserDisabled = errors.New("the user is disabled in meet")

	// ErrTokenRefused: Meet does not take a token that the caller brought.
	ErrTokenRefused = errors.New("meet refuses the caller's own token")

	// ErrAPIDisabled: Meet's external API, or its applications, are switched off,
	// or this Meet has no such path.
	ErrAPIDisabled = errors.New("meet's external api is disabled or has no such path")

	// ErrMisconfigured: Meet, or what stands between, is not set up for this
	// client. [Error.Hint] says what to look at.
	ErrMisconfigured = errors.New("meet is misconfigured for the gateway")

	// ErrUnavailable: Meet could not be reached, or says 502 or 503.
	ErrUnavailable = errors.New("meet is unavailable")

	// ErrTimeout: Meet did not answer in time.
	ErrTimeout = errors.New("meet did not answer in time")

	// ErrBadAnswer: an answer that cannot be Meet's: HTML, no JSON, too large,
	// broken off, or a server error.
	ErrBadAnswer = errors.New("meet gave an unusable answer")

	// ErrBusy: as many exchanges as allowed are under way and none ended in time,
	// or Meet (or a proxy before it) answered 429.
	ErrBusy = errors.New("too many requests at meet")

	// ErrTooManyRooms: a search by slug ended at its bound without a result.
	ErrTooManyRooms = errors.New("the user has more rooms than a search reads")

	// ErrInvalidRequest: a request that this client does not send: a path that was
	// not rebuilt, a query too long for Meet's server.
	ErrInvalidRequest = errors.New("invalid request")
)

// reasons is the closed set of words for metrics and logs.
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

// Reason is one word for an error of this package: "ok" for nil, "other" for a
// foreign error, else a word of the closed set that [Reasons] lists.
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

// Reasons lists every word that [Reason] and Options.OnExchange can give.
func Reasons() []string {
	words := []string{"ok"}
	for _, r := range reasons {
		words = append(words, r.word)
	}
	return append(words, "other")
}

// Error is why there is no answer. It may be shared between callers: do not
// change it.
type Error struct {
	// Kind is one of the Err… values, or context.Canceled.
	Kind error

	// Op is what was tried: "exchange", or method and path under the base path.
	Op string

	// Status is the HTTP status that Meet (or a proxy before it) gave, 0 when
	// there was none.
	Status int

	// Detail is Meet's own text, from JSON only, cut to 256 bytes, and empty if it
	// repeats the caller's mail or credentials.
	Detail string

	// Hint tells an operator what to look at; never for callers.
	Hint string

	// Effect says that the request may have had an effect at Meet: it must not be
	// repeated without asking. An exchange has none that repeating could double.
	Effect bool

	// RetryAfter is when another attempt makes sense, 0 where nothing is known.
	RetryAfter time.Duration

	// Err is the cause below HTTP, if any.
	Err error
}

// Error tells operation, kind, status, Meet's own words and the cause.
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

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// TransportError is how a transport that is itself a proxy (Caddy's
// reverse_proxy) reports that it got no answer from Meet.
type TransportError struct {
	// Status is what the proxy would have answered: 502 no connection or a broken
	// one, 503 no upstream to choose from, 504 too late.
	Status int

	// NotSent is set when the transport knows that nothing reached Meet, as after a
	// refused connection. When in doubt it stays false.
	NotSent bool

	// Err is the cause, and may be nil.
	Err error
}

// Error names the status and the cause.
func (e *TransportError) Error() string {
	s := "proxy status " + strconv.Itoa(e.Status)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// failed makes an error of what a transport returned. effect says whether the
// request has one once it arrives.
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

// notSent knows the failures that happen before a byte of the request is written.
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
