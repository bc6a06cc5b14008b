// SPDX-License-Identifier: MIT

// Package grammar parses mail addresses ([ParseMail]), scopes ([ParseScopes]) and client ids
// ([IsClientID]). Each has one small grammar and one folded form, which is checked, stored
// and sent.
package grammar

import (
	"fmt"
	"strings"

	"golang.org/x/net/idna"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// Mail is a mail address in the form that [ParseMail] returns: the bytes that are checked,
// stored and sent to Meet.
type Mail string

// MaxMail is the longest address accepted, in bytes. Meet stores at most 254.
const MaxMail = 254

// ParseMail reads a mail address by one small grammar and folds it to lower case.
//
// The grammar is the dot-atom form of RFC 5321 §4.1.2 with a DNS name behind
// the "@": exactly one "@", at most 64 bytes of ASCII before it. Quoted
// local parts, comments, display names, address literals, empty labels, leading
// or trailing dots and control bytes are refused: other parsers may read them
// differently. Space around the address is removed, as Meet does.
//
// An internationalised domain is folded to its A-labels ("xn--…", RFC 5891 §4.4,
// with the mapping of UTS #46 for lookups).
//
// The error is [failure.ErrInvalidMail] and does not repeat the address.
func ParseMail(s string) (Mail, error) {
	s = strings.Trim(s, " \t\r\n")
	if s == "" || len(s) > maxMailText {
		return "", fmt.Errorf("%w: it is empty or longer than %d bytes", failure.ErrInvalidMail, MaxMail)
	}
	local, domain, found := strings.Cut(s, "@")
	if !found || len(local) > 64 || !isDotAtom(local) {
		return "", fmt.Errorf("%w: the part before the @ is missing or has characters that are not accepted", failure.ErrInvalidMail)
	}
	domain, ok := FoldDomain(domain)
	if !ok {
		return "", fmt.Errorf("%w: the part after the @ is not a domain name", failure.ErrInvalidMail)
	}
	folded := lower(local) + "@" + domain
	if len(folded) > MaxMail {
		return "", fmt.Errorf("%w: it is empty or longer than %d bytes", failure.ErrInvalidMail, MaxMail)
	}
	return Mail(folded), nil
}

// maxMailText bounds the input. A name in another script may be longer than its A-labels.
const maxMailText = 4 * MaxMail

// FoldDomain returns the one form of a domain name, lower case and in A-labels, and
// whether it is one.
func FoldDomain(s string) (string, bool) {
	s = lower(s)
	if !isASCII(s) || strings.HasPrefix(s, "xn--") || strings.Contains(s, ".xn--") {
		// ToASCII refuses A-labels that are not valid or not in their canonical form.
		mapped, err := idna.Lookup.ToASCII(s)
		if err != nil || !sameLabels(s, mapped) {
			return "", false
		}
		s = mapped
	}
	return s, isDomain(s)
}

// sameLabels reports whether each label beyond ASCII became an A-label. Others only look like
// ASCII: full-width letters, the Kelvin sign, other full stops.
func sameLabels(name, mapped string) bool {
	from, to := strings.Split(name, "."), strings.Split(mapped, ".")
	if len(from) != len(to) {
		return false
	}
	for i := range from {
		if from[i] != to[i] && !strings.HasPrefix(to[i], "xn--") {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// Domain returns what follows the "@".
func (m Mail) Domain() string {
	_, domain, _ := strings.Cut(string(m), "@")
	return domain
}

// String hides the local part, so that an address printed by mistake is not a leak.
func (m Mail) String() string { return "…@" + m.Domain() }

// GoString is [Mail.String].
func (m Mail) GoString() string { return m.String() }

func isDotAtom(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !isAlnum(c) && c != '.' && !strings.ContainsRune("!#$%&'*+/=?^_`{|}~-", rune(c)) {
			return false
		}
	}
	return true
}

// isDomain reports whether s is a host name of letters, digits and inner
// hyphens (RFC 1123 §2.1) with at least two labels. Internationalised names
// come in their A-label form.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 || !strings.Contains(s, ".") {
		return false
	}
	numeric := true
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		numeric = true
		for i := range len(label) {
			if !isAlnum(label[i]) && label[i] != '-' {
				return false
			}
			if label[i] < '0' || label[i] > '9' {
				numeric = false
			}
		}
	}
	return !numeric // a name that ends in a number is an IP address, or nothing
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// lower folds A to Z only: Unicode folding maps other characters onto ASCII.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
