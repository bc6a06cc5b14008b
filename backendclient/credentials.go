// SPDX-License-Identifier: MIT

package backendclient

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Credentials are what an application presents at Meet's token endpoint. They
// print, log and marshal without the secret, whatever the verb.
type Credentials struct {
	ClientID     string
	ClientSecret string
}

// String names the application and hides its secret.
func (c Credentials) String() string { return c.ClientID + ":" + redacted }

// GoString is String: %#v shows no more.
func (c Credentials) GoString() string { return c.String() }

// Format writes String for every verb; without it %d would walk the fields.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue is what log/slog shows.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText keeps the secret out of encodings that work by reflection.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Caller is on whose behalf a request is made: an application, and the user it
// acts for.
type Caller struct {
	Credentials Credentials

	// Mail is the user's address, already checked and folded: the bytes are sent
	// as they are, and two spellings are two callers.
	Mail string

	// Generations are compared only: what was kept under others is not used any more.
	// They are part of the caller's identity.
	Generations [6]uint64

	// Application is who waits where exchanges have to: applications have their
	// turns one after the other. Default: the client id. It takes no part in the
	// caller's identity.
	Application string

	// Scopes are those that the caller needs of Meet's token. A kept one that lacks any
	// is fetched anew, at most once a minute: they may have been granted in Meet since.
	// They take no part in the caller's identity.
	Scopes []string

	// Source is the address that the caller came from. An exchange tells Meet where
	// exactly one caller waits for it; see [Source]. It takes no part in the caller's
	// identity.
	Source string

	// Session names what the caller came with, such as the id of its token. That Meet
	// has disabled the user is remembered for it, and for no other. It takes no part in
	// the caller's identity.
	Session string

	// RequestID goes to Meet as X-Request-ID when it is not empty. It takes no
	// part in the caller's identity.
	RequestID string
}

// String names the application and hides the user.
func (c Caller) String() string { return c.Credentials.ClientID + " for " + redacted }

// GoString is String: %#v shows no more.
func (c Caller) GoString() string { return c.String() }

// Format writes String for every verb.
func (c Caller) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue is what log/slog shows.
func (c Caller) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText keeps mail and secret out of encodings that work by reflection.
func (c Caller) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// identity is what makes two callers the same: the key of everything kept in
// this process. Comparing strings costs less than hashing them, and with a changed
// secret, or after a revocation, it is another caller.
type identity struct {
	credentials Credentials
	mail        string
	generations [6]uint64
}

func (c Caller) identity() identity {
	return identity{credentials: c.Credentials, mail: c.Mail, generations: c.Generations}
}

// caller is the caller of an exchange that no request waits for.
func (id identity) caller(application string) Caller {
	return Caller{Credentials: id.credentials, Mail: id.mail, Generations: id.generations, Application: application}
}

// check refuses what Meet would refuse after a second of work, or at once.
func (c Caller) check() *Error {
	switch {
	case c.Credentials.ClientID == "" || c.Credentials.ClientSecret == "":
		return &Error{Kind: ErrBackendCredentials, Op: opExchange, Hint: hintNoCredentials}
	case c.Mail == "":
		return &Error{Kind: ErrInvalidMail, Op: opExchange}
	}
	return nil
}
