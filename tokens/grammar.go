// SPDX-License-Identifier: MIT

package tokens

import "github.com/meet-gateway/meet-gateway/tokens/grammar"

// Mail is a mail address that passed [ParseMail].
type Mail = grammar.Mail

// MaxMail is the longest address accepted, in bytes.
const MaxMail = grammar.MaxMail

// ParseMail reads a mail address and folds it. The error is [ErrInvalidMail].
func ParseMail(s string) (Mail, error) { return grammar.ParseMail(s) }

// Scopes is a set of permissions.
type Scopes = grammar.Scopes

// ParseScopes reads a space-separated list of scopes. The error is [ErrInvalidScope].
func ParseScopes(s string) (Scopes, error) { return grammar.ParseScopes(s) }

// NewScopes makes a set of the given scopes. The error is [ErrInvalidScope].
func NewScopes(names ...string) (Scopes, error) { return grammar.NewScopes(names...) }

// Scopes of Meet's external API. An application may hold others: they mean
// nothing until a route asks for them.
const (
	ScopeRoomsList     = "rooms:list"
	ScopeRoomsRetrieve = "rooms:retrieve"
	ScopeRoomsCreate   = "rooms:create"
	ScopeRoomsUpdate   = "rooms:update"
	ScopeRoomsDelete   = "rooms:delete"
)

// MeetScopes are all of them.
func MeetScopes() Scopes {
	return Scopes{ScopeRoomsList, ScopeRoomsRetrieve, ScopeRoomsCreate, ScopeRoomsUpdate, ScopeRoomsDelete}
}
