// SPDX-License-Identifier: MIT

// Package wire is what the admin API and the command line say to each other: the
// resources as JSON, and the bounds that both keep. docs/admin-api.md describes it
// for everybody else.
package wire

import (
	"reflect"
	"strings"
)

// Base is where everything of the gateway is under Caddy's admin endpoint.
const Base = "/meet-gateway/"

// UserHeader is who the caller says to be. The command line puts the name of the
// operating system's user there. Nobody has checked it: what can be relied on is the
// address, or the certificate of remote administration.
const UserHeader = "Meet-Gateway-User"

// MaxApplyBody bounds what PUT applications/apply takes, in bytes.
const MaxApplyBody = 16 << 20

// MaxPage is the most applications that one page of the list holds.
const MaxPage = 1000

// Printable drops what does not print in ASCII and what is too much.
func Printable(s string, longest int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), longest)]
}

// IsEmpty reports whether a field's value is as good as none: null, zero, or a list
// or object of nothing.
func IsEmpty(v any) bool {
	r := reflect.ValueOf(v)
	if !r.IsValid() {
		return true
	}
	switch r.Kind() {
	case reflect.Slice, reflect.Map:
		return r.Len() == 0
	default:
		return r.IsZero()
	}
}
