// SPDX-License-Identifier: MIT

package limit

import (
	"strconv"
	"time"
)

// Decision is whether a request may go on. If several limits apply, it is about the
// one that is nearest to being used up.
type Decision struct {
	// Allowed is false for a request that must be refused (429).
	Allowed bool
	// Policy is the limit that decided.
	Policy Policy
	// Limit is its rate. It is off, and what follows zero, when no limit applies.
	Limit Rate
	// Remaining is how many more would be allowed now.
	Remaining int
	// Reset is the time until Remaining is the whole limit again.
	Reset time.Duration
	// RetryAfter is the time until a refused request would be allowed.
	RetryAfter time.Duration
	// Degraded reports that the gateway decided by its own share, because the
	// shared count did not answer.
	Degraded bool
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

// seconds rounds up, so that a caller that waits that long does not come too early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
