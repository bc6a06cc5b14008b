// SPDX-License-Identifier: MIT

package limit

import (
	"strconv"
	"time"
)

// Decision is whether a request may go on. Of several limits that apply it is
// about the one that is nearest to being used up.
type Decision struct {
	// Allowed is false for a request that must be refused (429).
	Allowed bool
	// Policy is the limit that the rest is about.
	Policy Policy
	// Limit is its rate. It is off when no limit applies: the rest is then zero.
	Limit Rate
	// Remaining is how many more would be allowed now.
	Remaining int
	// Reset is in how much time Remaining is the whole limit again.
	Reset time.Duration
	// RetryAfter is when the next one is allowed, for a refused request.
	RetryAfter time.Duration
	// Alone reports that the gateway decided by its own share, because the
	// shared count did not answer.
	Alone bool
}

// Headers writes the values of the header fields RateLimit-Policy and RateLimit
// (draft-ietf-httpapi-ratelimit-headers): `"read_user";q=1200;w=60` and
// `"read_user";r=1180;t=1`. They are "" when no limit applies.
func (d Decision) Headers() (policy, standing string) {
	if d.Limit.IsOff() {
		return "", ""
	}
	b := make([]byte, 0, 96) // both in one, for one allocation
	b = append(append(append(b, '"'), d.Policy.String()...), `";q=`...)
	b = strconv.AppendInt(b, int64(d.Limit.Count), 10)
	b = append(b, ";w="...)
	b = strconv.AppendInt(b, seconds(d.Limit.Per), 10)
	n := len(b)
	b = append(append(append(b, '"'), d.Policy.String()...), `";r=`...)
	b = strconv.AppendInt(b, int64(d.Remaining), 10)
	b = append(b, ";t="...)
	b = strconv.AppendInt(b, seconds(d.Reset), 10)
	both := string(b)
	return both[:n], both[n:]
}

// RetryAfterSeconds is RetryAfter for the header field Retry-After (RFC 9110
// §10.2.3): whole seconds, at least 1.
func (d Decision) RetryAfterSeconds() int64 { return max(1, seconds(d.RetryAfter)) }

// seconds rounds up: who comes back as told must not come too early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
