// SPDX-License-Identifier: MIT

// Package quota limits how many new users an application may cause Meet to create in a
// day. Meet creates one for every address that it has not seen.
package quota

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// Only addresses count that the installation has never issued a token for, each once a day.
// They are counted before Meet is asked, in one hash per application and day (UTC).
//
// If Meet refuses, the count is taken back ([Admission.Withdraw]). If Meet does not answer
// it is not, since the user may have been created. Repeating the attempt on the same day
// does not count again.

// ErrQuotaExceeded means that an application has brought in as many new users
// today as it may (403).
var ErrQuotaExceeded = errors.New("quota of new users exceeded")

// Options are the quotas of new users of each application. An application's
// own limits "users" and "users_domain" come before them.
type Options struct {
	// Users is how many in a day. Default: 0, no quota.
	Users int
	// UsersDomain is how many of one mail domain in a day. Default: 0, no quota.
	UsersDomain int
	// DryRun counts and reports without refusing.
	DryRun bool
}

// Quota is how far a quota is used up.
type Quota struct {
	// Used is how many of today's new users count.
	Used int
	// Limit is how many there may be; 0 if there is no quota.
	Limit int
	// Warn is set for the one admission a day that reaches 80 % of Limit, so that operators
	// are warned once.
	Warn bool
}

func (q *Quota) exceeded() bool { return q.Limit > 0 && q.Used >= q.Limit }

// warnAt is the number that sets Warn: 80 %, rounded up.
func (q *Quota) warnAt() int { return (4*q.Limit + 4) / 5 }

// Admission is the decision about a new user.
type Admission struct {
	// New reports that the address was counted just now. If false, and there is
	// no error, it was known or counted before.
	New bool
	// Exceeded reports that a quota is used up. The application is refused unless DryRun is
	// set.
	Exceeded bool
	// DryRun is the option.
	DryRun bool
	// Application and Domain are the two quotas. They are zero for an address
	// that is known.
	Application, Domain Quota

	quotas *Quotas
	key    string
	fields [2]string // of the mail and of the domain
}

const (
	// lifetime covers a day in every gateway's clock.
	lifetime = 48 * time.Hour
	// maxMails bounds the addresses remembered for a day. Beyond it each attempt counts.
	maxMails = 100_000
)

// AdmitScript counts an address unless it was counted before or a quota is used up. It is
// exported for tests.
// KEYS: hash. ARGV: field of the mail, of the domain, quota of the application,
// of the domain (0: none), dry run, most mails, lifetime (s).
// Answers: counted now, exceeded, used of the application, of the domain.
var AdmitScript = redisdb.NewScript(`
local n = tonumber(redis.call('HGET', KEYS[1], 'n') or '0')
local d = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or '0')
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return {0, 0, n, d} end
local function full(used, quota) return quota > 0 and used >= quota end
local exceeded = (full(n, tonumber(ARGV[3])) or full(d, tonumber(ARGV[4]))) and 1 or 0
if exceeded == 1 and ARGV[5] == '0' then return {0, 1, n, d} end
if n < tonumber(ARGV[6]) then redis.call('HSET', KEYS[1], ARGV[1], 1) end
n = redis.call('HINCRBY', KEYS[1], 'n', 1)
d = redis.call('HINCRBY', KEYS[1], ARGV[2], 1)
redis.call('EXPIRE', KEYS[1], ARGV[7])
return {1, exceeded, n, d}`)

// WithdrawScript undoes AdmitScript. ARGV: the same.
var WithdrawScript = redisdb.NewScript(`
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'n', -1)
redis.call('HINCRBY', KEYS[1], ARGV[2], -1)
return 1`)

// Quotas count new users.
type Quotas struct {
	Options
	db   *redisdb.DB
	ring *vault.Ring
	now  func() time.Time
}

// New makes quotas.
func New(o Options, db *redisdb.DB, ring *vault.Ring, now func() time.Time) *Quotas {
	return &Quotas{Options: o, db: db, ring: ring, now: now}
}

// Of returns what bounds an application whose own limits are given. Nothing needs to
// be counted if there is no limit.
func (q *Quotas) Of(own *limit.Rates) *Admission {
	or := func(p limit.Policy, installation int) int {
		if r, ok := own.Get(p); ok {
			return r.Count
		}
		return installation
	}
	return &Admission{
		DryRun: q.DryRun, quotas: q,
		Application: Quota{Limit: or(limit.Users, q.Users)},
		Domain:      Quota{Limit: or(limit.UsersDomain, q.UsersDomain)},
	}
}

// Limited reports whether there is a quota at all.
func (ad *Admission) Limited() bool { return ad.Application.Limit != 0 || ad.Domain.Limit != 0 }

// Count decides whether an application may bring in the user with an address that the
// installation does not know, and counts it if it is new today. Errors:
// ErrQuotaExceeded, ErrUnavailable.
func (ad *Admission) Count(ctx context.Context, applicationID, mail, domain string) error {
	k := ad.quotas.ring.First()
	ad.key = redisdb.KeyQuota(applicationID, ad.quotas.now())
	ad.fields = [2]string{"m:" + keyedHash(k, "mail", mail), "d:" + keyedHash(k, "domain", domain)}
	dry := 0
	if ad.DryRun {
		dry = 1
	}
	answer, err := ad.quotas.db.Eval(ctx, AdmitScript, ad.key, ad.fields[0], ad.fields[1],
		ad.Application.Limit, ad.Domain.Limit, dry, maxMails, int64(lifetime/time.Second)).Int64Slice()
	if err != nil || len(answer) != 4 {
		return failure.Unavailable("counting a new user", err)
	}
	ad.New, ad.Exceeded = answer[0] == 1, answer[1] == 1
	ad.Application.Used, ad.Domain.Used = int(answer[2]), int(answer[3])
	for _, q := range []*Quota{&ad.Application, &ad.Domain} {
		q.Warn = ad.New && q.Limit > 0 && q.Used == q.warnAt()
	}
	switch {
	case !ad.Exceeded || ad.DryRun:
		return nil
	case ad.Application.exceeded():
		return fmt.Errorf("%w: %d today", failure.Deny(ErrQuotaExceeded, "user_quota_exceeded"), ad.Application.Limit)
	default:
		return fmt.Errorf("%w: %d of one domain today", failure.Deny(ErrQuotaExceeded, "user_domain_quota_exceeded"), ad.Domain.Limit)
	}
}

// Withdraw undoes the count, because Meet refused and created no user. It does nothing if
// nothing was counted. The error is ErrUnavailable.
func (ad *Admission) Withdraw(ctx context.Context) error {
	if !ad.New {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*ad.quotas.db.Timeout())
	defer cancel()
	if err := ad.quotas.db.Eval(ctx, WithdrawScript, ad.key, ad.fields[0], ad.fields[1]).Err(); err != nil {
		return failure.Unavailable("giving back a new user", err)
	}
	return nil
}

func keyedHash(k *vault.Key, what, value string) string {
	sum := k.Sum(vault.ForNames, "fence", what, value)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}
