// SPDX-License-Identifier: MIT

// Package wire has the JSON resources of the admin API and the limits that the server and
// the command line share. docs/admin-api.md describes them.
package wire

import (
	"reflect"
	"strings"
)

// Base is the path of the gateway's resources below Caddy's admin endpoint.
const Base = "/meet-gateway/"

// UserHeader is the user name that the caller claims. The command line sends the name of the
// operating system's user. It is not verified; only the address and the certificate of remote
// administration are reliable.
const UserHeader = "Meet-Gateway-User"

// MaxApplyBody bounds the body of PUT applications/apply, in bytes.
const MaxApplyBody = 16 << 20

// MaxPage is the maximum number of applications on a page of the list.
const MaxPage = 1000

// Printable removes all but printable ASCII and truncates the text.
func Printable(s string, longest int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), longest)]
}

// IsEmpty reports whether a value is null, zero, or an empty list or object.
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
