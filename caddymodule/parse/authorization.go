// SPDX-License-Identifier: MIT

package parse

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Scheme is the scheme of an Authorization header.
type Scheme uint8

// The schemes of an Authorization header.
const (
	SchemeNone  Scheme = iota // no header or an empty one
	SchemeOther               // not supported
	SchemeBearer
	SchemeBasic
)

// Errors of Authorization.
var (
	ErrAuthorizationRepeated = errors.New("more than one authorization header")
	ErrAuthorizationEncoding = errors.New("authorization header is not ASCII")
	ErrAuthorizationValue    = errors.New("malformed authorization value")
)

// Credential is the value of an Authorization header (RFC 9110 §11.6.2). It prints only
// its scheme.
type Credential struct {
	Scheme Scheme
	// Token is the Bearer token (RFC 6750 §2.1), not yet verified.
	Token string
	// ID and Secret are a Basic credential (RFC 7617).
	ID, Secret string
}

// String returns the scheme.
func (c Credential) String() string {
	return [...]string{"none", "other", "bearer", "basic"}[c.Scheme]
}

// GoString implements fmt.GoStringer.
func (c Credential) GoString() string { return c.String() }

// Authorization parses a request's Authorization header. If it returns an error, the
// scheme is still set if it is known.
func Authorization(h http.Header) (Credential, error) {
	values := h["Authorization"]
	switch len(values) {
	case 0:
		return Credential{}, nil
	case 1:
	default:
		return Credential{Scheme: SchemeOther}, ErrAuthorizationRepeated
	}
	scheme, value := cutSpace(values[0])
	switch {
	case scheme == "":
		return Credential{}, nil
	case strings.EqualFold(scheme, "Bearer"):
		return parseBearer(value)
	case strings.EqualFold(scheme, "Basic"):
		return parseBasic(value)
	default:
		return Credential{Scheme: SchemeOther}, nil
	}
}

func parseBearer(value string) (Credential, error) {
	a := Credential{Scheme: SchemeBearer}
	if value == "" {
		return a, ErrAuthorizationValue
	}
	for i := range len(value) {
		if !tokenByte[value[i]] {
			if !isASCII(value) {
				return a, ErrAuthorizationEncoding
			}
			return a, ErrAuthorizationValue // such as several tokens
		}
	}
	a.Token = value
	return a, nil
}

// tokenByte are the bytes of a token: more than in RFC 6750, but none that separates
// tokens.
var tokenByte = func() (allowed [256]bool) {
	for c := byte('!'); c <= '~'; c++ {
		allowed[c] = c != ','
	}
	return allowed
}()

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

func parseBasic(value string) (Credential, error) {
	a := Credential{Scheme: SchemeBasic}
	if !isASCII(value) {
		return a, ErrAuthorizationEncoding
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || !utf8.Valid(decoded) {
		return a, ErrAuthorizationValue
	}
	id, secret, found := strings.Cut(string(decoded), ":")
	if !found || id == "" || strings.ContainsFunc(id, isControl) || strings.ContainsFunc(secret, isControl) {
		return a, ErrAuthorizationValue
	}
	a.ID, a.Secret = id, secret
	return a, nil
}

// FormDecoded undoes the form encoding of Basic credentials at the token endpoint (RFC
// 6749 §2.3.1). It returns unencoded values unchanged.
func FormDecoded(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	decoded, err := url.QueryUnescape(s)
	if err != nil || strings.ContainsFunc(decoded, isControl) {
		return s
	}
	return decoded
}

// cutSpace splits s at the first run of blanks and trims both ends.
func cutSpace(s string) (before, after string) {
	s = strings.Trim(s, " \t")
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}
