// SPDX-License-Identifier: MIT

package wire

import "time"

// Problem is an error answer of the admin API (RFC 9457) of type about:blank.
type Problem struct { //nolint:errname // primarily an answer
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Field is the path of the invalid field of the request, such as
	// room_defaults.access_level or applications[3].domains.
	Field string `json:"field,omitempty"`
	// Done is what a request with several changes did before it failed.
	Done any `json:"done,omitempty"`

	// RetryAfter is the Retry-After header.
	RetryAfter time.Duration `json:"-"`
}

// Error returns field and detail.
func (p *Problem) Error() string {
	if p.Field != "" {
		return p.Field + ": " + p.Detail
	}
	return p.Detail
}
