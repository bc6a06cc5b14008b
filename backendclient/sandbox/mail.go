// SPDX-License-Identifier: MIT

package sandbox

import (
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxMail is the limit of Django's validator, maxStoredMail that of the database column.
const (
	maxMail       = 320
	maxStoredMail = 254
)

// The parts of Django's EmailValidator. u00a1-uffff stands for letters of any
// script in a domain. They take 180 kB, so they are compiled when they are first used.
var (
	mailLocalPart = lazily("^(?i:[-!#$%&'*+/=?^_`{}|~0-9A-Z]+(\\.[-!#$%&'*+/=?^_`{}|~0-9A-Z]+)*" +
		`|"([\x01-\x08\x0b\x0c\x0e-\x1f!#-\[\]-\x7f]|\\[\x01-\x09\x0b\x0c\x0e-\x7f])*")$`)
	domainLabel = lazily(`^(?i:[a-z\x{00a1}-\x{ffff}0-9-]{1,63})$`)
	topDomain   = lazily(`^(?i:[a-z\x{00a1}-\x{ffff}-]{2,63}|xn--[a-z0-9]{1,59})$`)
)

func lazily(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// validMail reports whether Meet accepts the text as a mail address.
func validMail(mail string) bool {
	at := strings.LastIndexByte(mail, '@')
	return at >= 0 && utf8.RuneCountInString(mail) <= maxMail &&
		mailLocalPart().MatchString(mail[:at]) && validMailDomain(mail[at+1:])
}

func validMailDomain(domain string) bool {
	if domain == "localhost" {
		return true
	}
	if ip, ok := strings.CutPrefix(domain, "["); ok {
		ip, ok = strings.CutSuffix(ip, "]")
		_, err := netip.ParseAddr(ip)
		return ok && err == nil
	}
	labels := strings.Split(domain, ".")
	for _, l := range labels {
		if !domainLabel().MatchString(l) || strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-") {
			return false
		}
	}
	return len(labels) > 1 && topDomain().MatchString(labels[len(labels)-1])
}

// mailDomain returns the text after the last @.
func mailDomain(mail string) string {
	return mail[strings.LastIndexByte(mail, '@')+1:]
}
