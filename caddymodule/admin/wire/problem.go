// SPDX-License-Identifier: MIT

package wire

import "time"

// Problem is an error answer of the admin API (RFC 9457). It is about:blank:
// the status tells the kind.
type Problem struct { //nolint:errname // an answer first of all
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Field is the field of the request that is wrong, as a path such as
	// room_defaults.access_level or applications[3].domains.
	Field string `json:"field,omitempty"`
	// Done is what was changed before it went wrong, where one request changes much.
	Done any `json:"done,omitempty"`

	// RetryAfter is the header of this name.
	RetryAfter time.Duration `json:"-"`
}

// Error makes a Problem an error. It is not logged.
func (p *Problem) Error() string {
	if p.Field != "" {
		return p.Field + ": " + p.Detail
	}
	return p.Detail
}
