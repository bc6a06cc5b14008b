package tokens

import (
	"fmt"
	"strings"
)

// Mail is a mail address that passed [ParseMail]: folded once, and from then on
// the same bytes that are checked, stored and sent to Meet.
type Mail string

// MaxMail is the longest address accepted, in bytes. Meet stores at most 254.
const MaxMail = 254

// ParseMail reads a mail address by one small grammar and folds it to lower case.
//
// The grammar is the dot-atom form of RFC 5321 §4.1.2 with a DNS name behind
// the "@": ASCII only, exactly one "@", at most 64 bytes before it. Quoted
// local parts, comments, display names, address literals, empty labels, leading
// or trailing dots and control bytes are refused. Space around the address is
// dropped, as Meet does. A parser that takes more is a parser that somebody
// downstream reads differently.
//
// The error is [ErrInvalidMail] and does not repeat the address.
func ParseMail(s string) (Mail, error) {
	s = strings.Trim(s, " \t\r\n")
	if s == "" || len(s) > MaxMail {
		return "", fmt.Errorf("%w: it is empty or longer than %d bytes", ErrInvalidMail, MaxMail)
	}
	local, domain, found := strings.Cut(s, "@")
	if !found || len(local) > 64 || !isDotAtom(local) {
		return "", fmt.Errorf("%w: the part before the @ is missing or has characters that are not accepted", ErrInvalidMail)
	}
	if !isDomain(domain) {
		return "", fmt.Errorf("%w: the part after the @ is not a domain name", ErrInvalidMail)
	}
	return Mail(asciiLower(s)), nil
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

// asciiLower folds A to Z only: Unicode folding maps other characters onto ASCII.
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
