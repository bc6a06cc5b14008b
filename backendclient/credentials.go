// SPDX-License-Identifier: MIT

package backendclient

import (
	"fmt"
	"io"
	"log/slog"
	"unique"
)

const redacted = "[redacted]"

// Credentials authenticate an application at Meet's token endpoint. Printing,
// logging and marshalling them never shows the secret.
type Credentials struct {
	ClientID     string
	ClientSecret string
}

// String names the application and hides its secret.
func (c Credentials) String() string { return c.ClientID + ":" + redacted }

// GoString is String: %#v shows no more.
func (c Credentials) GoString() string { return c.String() }

// Format writes String for every verb; otherwise %d would print the fields.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue is what log/slog shows.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText keeps the secret out of encodings that work by reflection.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Caller is the application that a request is made for, and the user that the
// application acts for.
type Caller struct {
	Credentials Credentials

	// Mail is the user's address, already validated and folded. It is sent as it is;
	// two spellings are two callers.
	Mail string

	// Generations are part of the caller's identity: a token that was fetched under
	// other generations is not used.
	Generations [6]uint64

	// Application names the queue in which the caller's exchanges wait; applications
	// take turns. Default: the client id. It is not part of the caller's identity.
	Application string

	// Scopes are the scopes that the caller needs. A kept token without one of them is
	// fetched again, at most once a minute, because an operator may have granted the
	// scope in Meet since. They are not part of the caller's identity.
	Scopes []string

	// Source is the caller's address. Meet is told of it if no other caller waits for
	// the same exchange; see [Source]. It is not part of the caller's identity.
	Source string

	// Session identifies the credential that the caller presented, such as the id of
	// its token. If Meet says that the user is disabled, this is remembered for the
	// session only. It is not part of the caller's identity.
	Session string

	// RequestID is sent to Meet as X-Request-ID unless it is empty. It is not part of
	// the caller's identity.
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

// identity is the key of everything that is kept for a caller. After a change of the
// secret, or a revocation, it is a different key. What most users of an application have in
// common is in memory once.
type identity struct {
	shared unique.Handle[sharedIdentity]
	mail   string
}

type sharedIdentity struct {
	credentials Credentials
	generations [6]uint64
}

func (c Caller) identity() identity {
	return identity{unique.Make(sharedIdentity{c.Credentials, c.Generations}), c.Mail}
}

func (id identity) credentials() Credentials { return id.shared.Value().credentials }

// caller returns the caller of an exchange that no request waits for.
func (id identity) caller(application string) Caller {
	shared := id.shared.Value()
	return Caller{Credentials: shared.credentials, Mail: id.mail, Generations: shared.generations, Application: application}
}

// check refuses callers that Meet would refuse, some of them after a second of CPU.
func (c Caller) check() *Error {
	switch {
	case c.Credentials.ClientID == "" || c.Credentials.ClientSecret == "":
		return &Error{Kind: ErrBackendCredentials, Op: opExchange, Hint: hintNoCredentials}
	case c.Mail == "":
		return &Error{Kind: ErrInvalidMail, Op: opExchange}
	}
	return nil
}
