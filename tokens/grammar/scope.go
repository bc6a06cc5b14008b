// SPDX-License-Identifier: MIT

package grammar

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// Scopes is a set of permissions in the order they were given, without repeats.
type Scopes []string

// ParseScopes reads a space-separated list of scopes (RFC 6749 §3.3). The error is
// [failure.ErrInvalidScope].
func ParseScopes(s string) (Scopes, error) { return NewScopes(strings.Fields(s)...) }

// AreScopes reports whether [ParseScopes] can read a text.
func AreScopes(text string) bool {
	for name := range strings.FieldsSeq(text) {
		if !isScope(name) {
			return false
		}
	}
	return true
}

// NewScopes makes a set of the given scopes. The error is [failure.ErrInvalidScope].
func NewScopes(names ...string) (Scopes, error) {
	var set Scopes
	for _, n := range names {
		if !isScope(n) {
			why := ""
			if isScope(lower(n)) {
				why = " has capital letters"
			}
			return nil, fmt.Errorf("%w: %q%s", failure.ErrInvalidScope, n, why)
		}
		if !set.Has(n) {
			set = append(set, n)
		}
	}
	return set, nil
}

// isScope reports whether s is a scope-token (%x21 / %x23-5B / %x5D-7E) of at most 64 bytes
// without capital letters: scopes are case-sensitive (RFC 6749 §3.3), and all of Meet's are
// in lower case.
func isScope(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// Has reports whether the set holds the scope.
func (s Scopes) Has(scope string) bool { return slices.Contains(s, scope) }

// Intersect returns the scopes that are in both sets, in the order of s. The result may be
// one of the two sets, since sets are never changed.
func (s Scopes) Intersect(other Scopes) Scopes {
	if slices.Equal(s, other) {
		return other
	}
	if !slices.ContainsFunc(s, func(n string) bool { return !other.Has(n) }) {
		return s
	}
	var both Scopes
	for _, n := range s {
		if other.Has(n) {
			both = append(both, n)
		}
	}
	return both
}

// String returns the scopes separated by one space.
func (s Scopes) String() string { return strings.Join(s, " ") }

// IsClientID reports whether s can be a client id: visible ASCII, as long as Meet
// allows.
func IsClientID(s string) bool {
	if s == "" || len(s) > 100 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
