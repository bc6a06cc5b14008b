// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// authScheme is the scheme of an Authorization header.
type authScheme uint8

const (
	schemeNone  authScheme = iota // no header, or an empty one
	schemeOther                   // a scheme that is not spoken here
	schemeBearer
	schemeBasic
)

var (
	errAuthorizationRepeated = errors.New("more than one authorization header")
	errAuthorizationEncoding = errors.New("authorization header is not ASCII")
	errAuthorizationValue    = errors.New("malformed authorization value")
)

// authorization is what an Authorization header says (RFC 9110 section 11.6.2).
// It prints without the credential.
type authorization struct {
	scheme authScheme
	// token is the Bearer token (RFC 6750 section 2.1), not yet verified.
	token string
	// id and secret are the two halves of a Basic credential (RFC 7617).
	id, secret string
}

// String tells the scheme only.
func (a authorization) String() string {
	return [...]string{"none", "other", "bearer", "basic"}[a.scheme]
}

// GoString is String.
func (a authorization) GoString() string { return a.String() }

// parseAuthorization reads the one Authorization header of a request. On an
// error the scheme is set as far as it could be read.
func parseAuthorization(h http.Header) (authorization, error) {
	values := h["Authorization"]
	switch len(values) {
	case 0:
		return authorization{}, nil
	case 1:
	default:
		return authorization{scheme: schemeOther}, errAuthorizationRepeated
	}
	scheme, value := cutSpace(values[0])
	switch {
	case scheme == "":
		return authorization{}, nil
	case strings.EqualFold(scheme, "Bearer"):
		return parseBearer(value)
	case strings.EqualFold(scheme, "Basic"):
		return parseBasic(value)
	default:
		return authorization{scheme: schemeOther}, nil
	}
}

func parseBearer(value string) (authorization, error) {
	a := authorization{scheme: schemeBearer}
	if value == "" {
		return a, errAuthorizationValue
	}
	for i := range len(value) {
		if !tokenByte[value[i]] {
			if !isASCII(value) {
				return a, errAuthorizationEncoding
			}
			return a, errAuthorizationValue // several tokens, or none
		}
	}
	a.token = value
	return a, nil
}

// tokenByte holds the bytes that a token may have: more than RFC 6750 names, and
// none that could separate it from another.
var tokenByte = func() (allowed [256]bool) {
	for c := byte('!'); c <= '~'; c++ {
		allowed[c] = c != ','
	}
	return allowed
}()

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

func parseBasic(value string) (authorization, error) {
	a := authorization{scheme: schemeBasic}
	if !isASCII(value) {
		return a, errAuthorizationEncoding
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || !utf8.Valid(decoded) {
		return a, errAuthorizationValue
	}
	id, secret, found := strings.Cut(string(decoded), ":")
	if !found || id == "" || strings.ContainsFunc(id, isControl) || strings.ContainsFunc(secret, isControl) {
		return a, errAuthorizationValue
	}
	a.id, a.secret = id, secret
	return a, nil
}

// formDecoded undoes the form encoding that RFC 6749 section 2.3.1 wants inside
// a Basic credential at the token endpoint. A value that is not encoded stays
// as it is.
func formDecoded(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	decoded, err := url.QueryUnescape(s)
	if err != nil || strings.ContainsFunc(decoded, isControl) {
		return s
	}
	return decoded
}

// cutSpace splits at the first run of blanks and drops those at both ends.
func cutSpace(s string) (before, after string) {
	s = strings.Trim(s, " \t")
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}
