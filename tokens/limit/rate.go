// SPDX-License-Identifier: MIT

package limit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rate is a number of requests in a period. The zero Rate is no limit.
type Rate struct {
	// Count is the number of requests, at once or spread over the period.
	Count int
	// Per is the period in which all of them come back.
	Per time.Duration
}

// Bounds of a rate.
const (
	maxCount = 1_000_000
	minPer   = time.Second
	maxPer   = 24 * time.Hour
)

// off is a rate without a limit, as it is written.
const off = "off"

// units are the periods that need no number, shortest first.
var units = []struct {
	name string
	per  time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// IsOff reports whether there is no limit.
func (r Rate) IsOff() bool { return r.Count == 0 }

// String writes the rate as [Parse] reads it.
func (r Rate) String() string {
	if r.IsOff() {
		return off
	}
	per := r.Per.String()
	for _, u := range units {
		if r.Per%u.per == 0 {
			per = strconv.FormatInt(int64(r.Per/u.per), 10) + u.name
		}
	}
	return strconv.Itoa(r.Count) + "/" + per
}

// interval is the time in which one comes back.
func (r Rate) interval() int64 { return int64(r.Per) / int64(r.Count) }

// Parse reads a rate: "60/1m", "10/s", "500/1d", or "off" for no limit. The
// count is 1 to 1000000; the period is whole seconds from 1s to 1d, a number
// with s, m, h or d, or the unit alone for one of it.
func Parse(s string) (Rate, error) {
	if s == off {
		return Rate{}, nil
	}
	count, period, ok := strings.Cut(s, "/")
	if !ok {
		return Rate{}, fmt.Errorf(`rate %q should look like "60/1m", or "off"`, s)
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || n > maxCount || count[0] == '+' {
		return Rate{}, fmt.Errorf("rate %q: %q is not a number from 1 to %d", s, count, maxCount)
	}
	per, err := parsePeriod(period)
	if err != nil {
		return Rate{}, fmt.Errorf("rate %q: %w", s, err)
	}
	return Rate{Count: n, Per: per}, nil
}

var errPeriod = errors.New("the period should be whole seconds from 1s to 1d: a number and s, m, h or d, or the unit alone")

func parsePeriod(s string) (time.Duration, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		if number == "" {
			return u.per, nil
		}
		if n, err := strconv.ParseUint(number, 10, 32); err == nil && number[0] != '+' {
			per := time.Duration(n) * u.per
			if per < minPer || per > maxPer {
				return 0, errPeriod
			}
			return per, nil
		}
	}
	per, err := time.ParseDuration(s) // 1m30s
	if err != nil || s[0] == '+' || per < minPer || per > maxPer || per%time.Second != 0 {
		return 0, errPeriod
	}
	return per, nil
}

// Policy is what is limited.
type Policy uint8

// The policies. Their names are what configuration calls them.
const (
	// Token is token requests of an application: "token".
	Token Policy = iota
	// TokenUser is token requests of an application for one user: "token_user".
	TokenUser
	// Read is requests of an application that read rooms: "read".
	Read
	// ReadUser is those for one user: "read_user".
	ReadUser
	// Create is requests of an application that create or change rooms: "create".
	Create
	// CreateUser is those for one user: "create_user".
	CreateUser
	// Failed is failed authentications of one client id from one network: "failed".
	Failed
	// FailedSource is failed authentications from one network, whatever the
	// client id: "failed_source". No application can have its own.
	FailedSource
	// Adopt is unknown credentials that one network has tried at Meet: "adopt". No
	// application can have its own.
	Adopt
	// Users is the users that an application brings in a day for the first time:
	// "users". The package quota counts them.
	Users
	// UsersDomain is the same for one mail domain: "users_domain".
	UsersDomain

	policies
)

var names = [policies]string{
	"token", "token_user", "read", "read_user", "create", "create_user", "failed", "failed_source", "adopt", "users", "users_domain",
}

// String returns the policy's name.
func (p Policy) String() string {
	if p >= policies {
		return "unknown"
	}
	return names[p]
}

// daily reports whether the policy is a quota per day instead of a rate.
func (p Policy) daily() bool { return p == Users || p == UsersDomain }

// Rates are rates by policy. The zero value has none set, and so has nil.
type Rates struct {
	rate [policies]Rate
	set  [policies]bool
}

// Get returns the rate of a policy, and whether it is set.
func (r *Rates) Get(p Policy) (Rate, bool) {
	if r == nil {
		return Rate{}, false
	}
	return r.rate[p], r.set[p]
}

// Set sets the rate of a policy.
func (r *Rates) Set(p Policy, rate Rate) { r.rate[p], r.set[p] = rate, true }

// Defaults are the rates of an installation that sets none. They stop an endless loop
// before it keeps all of Meet's processes busy. Their period is an hour, so that a burst
// of some minutes passes. Quotas of new users are off, because a platform that moves
// behind the gateway brings all of its users on one day.
func Defaults() *Rates {
	r := new(Rates)
	for p, rate := range [policies]Rate{
		Token:        {Count: 360_000, Per: time.Hour},
		TokenUser:    {Count: 36_000, Per: time.Hour},
		Read:         {Count: 1_000_000, Per: time.Hour},
		ReadUser:     {Count: 1_000_000, Per: time.Hour},
		Create:       {Count: 36_000, Per: time.Hour},
		CreateUser:   {Count: 3_600, Per: time.Hour},
		Failed:       {Count: 1_200, Per: time.Hour},
		FailedSource: {Count: 12_000, Per: time.Hour},
		Adopt:        {Count: 10, Per: time.Minute},
	} {
		r.Set(Policy(p), rate)
	}
	return r
}

// ParseRates reads the rates of an installation by name, as in
// {"token": "60/1m", "read": "off"}. Quotas of users are per day: "500/1d".
func ParseRates(m map[string]string) (*Rates, error) {
	r := new(Rates)
	for _, name := range slices.Sorted(maps.Keys(m)) { // so that the first mistake is always the same
		i := slices.Index(names[:], name)
		if i < 0 {
			return nil, fmt.Errorf("there is no limit %q: there are %s", name, strings.Join(names[:], ", "))
		}
		p := Policy(i)
		rate, err := Parse(m[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if p.daily() && !rate.IsOff() && rate.Per != 24*time.Hour {
			return nil, fmt.Errorf(`%s: it is counted by the day, so %q should look like "500/1d"`, name, m[name])
		}
		r.Set(p, rate)
	}
	return r, nil
}

// ParseOverrides is ParseRates for one application's own rates.
func ParseOverrides(m map[string]string) (*Rates, error) {
	for _, p := range []Policy{FailedSource, Adopt} {
		if _, ok := m[p.String()]; ok {
			return nil, fmt.Errorf("%s is about sources, whatever the application: it can only be set for the installation", p)
		}
	}
	return ParseRates(m)
}
