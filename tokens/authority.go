// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/django"
	"github.com/meet-gateway/meet-gateway/tokens/gateways"
	"github.com/meet-gateway/meet-gateway/tokens/idempotency"
	"github.com/meet-gateway/meet-gateway/tokens/internal/background"
	"github.com/meet-gateway/meet-gateway/tokens/internal/clientids"
	"github.com/meet-gateway/meet-gateway/tokens/internal/family"
	"github.com/meet-gateway/meet-gateway/tokens/internal/feed"
	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/internal/trial"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/meettokens"
	"github.com/meet-gateway/meet-gateway/tokens/quota"
	"github.com/meet-gateway/meet-gateway/tokens/roomindex"
	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

const (
	// DefaultLifetime is how long an access token lives.
	DefaultLifetime = time.Hour
	// DefaultStaleness is how long a gateway trusts its memory without hearing from its feed.
	DefaultStaleness = 5 * time.Second
	// DefaultCacheEntries is how many verified tokens a gateway remembers.
	DefaultCacheEntries = 100_000

	minLifetime = 10 * time.Second
	maxLifetime = 24 * time.Hour
)

// Options make an [Authority]. Store and Secrets are required.
type Options struct {
	// Store is where state is kept.
	Store *Store
	// Secrets have at least [MinSecret] random bytes each. Everything that is
	// signed, hashed or encrypted uses keys derived from the first; the others
	// still verify and decrypt, so that a secret can be rotated.
	Secrets [][]byte
	// SigningKeys sign access tokens instead of the secrets: the first signs,
	// all verify. Default: HS256 with keys derived from Secrets.
	SigningKeys []*signing.Key
	// SecretSigns lets the first secret sign although there are SigningKeys, which are then
	// published and verify. So all gateways can get a new key before one signs with it.
	SecretSigns bool
	// Issuer is the "iss" claim. Default: "meet-gateway".
	Issuer string
	// Audience is the "aud" claim. Default: "meet-clients".
	Audience string
	// Lifetime of access tokens. Default: 1h; at least 10s, at most 24h.
	Lifetime time.Duration
	// Staleness bounds the age of a decision from memory. Default: 5s.
	Staleness time.Duration
	// CacheEntries bounds the cache of verified tokens. Default: 100000.
	CacheEntries int
	// Refresh sets the lifetimes of refresh tokens.
	Refresh RefreshOptions
	// Quota bounds how many new users an application brings in. Default: no bound.
	Quota QuotaOptions
	// Version is the version of the program, for [Authority.Gateways]. Default: none.
	Version string
	// Observer gets events for metrics and logs. Default: none.
	Observer Observer
	// Now is the clock, read from several goroutines. Default: time.Now.
	Now func() time.Time
}

// Observer gets events of an [Authority], for metrics and logs. Its methods are called from
// several goroutines and must not block.
type Observer interface {
	// FeedLag reports how long a heartbeat of this gateway took to come back.
	FeedLag(time.Duration)
	// FeedState reports that the feed became fresh or stale.
	FeedState(fresh bool)
	// KeysMissing reports a change of the keys that other gateways use and this one lacks, by
	// their ids, sorted.
	KeysMissing(ids []string)
	// PermissionsMissing reports a change of what the Redis user may not do, "" if nothing.
	// refusing is true if requests cannot be served without it.
	PermissionsMissing(what string, refusing bool)
	// Readiness reports, as often as heartbeats are sent, why the gateway is not ready; nil if
	// it is. See [Authority.Ready].
	Readiness(problem error)
	// StoreRolledBack reports that Redis lost changes, because it was restored from a snapshot
	// or failed over to a replica that lagged. reapplied is true if all were written again.
	StoreRolledBack(lost int64, reapplied bool)
}

// Authority issues credentials and checks them. It is safe for concurrent use. It embeds
// one part for each concept, so its methods are the methods of the parts.
type Authority struct {
	*core
	*applications // finds them
	*registry     // creates and changes them
	*meetClients
	*logins
	*adoption
	*users
	*admissions
	*grants
	*signer
	*issuer
	*verifier
	*refreshes
	*revocations
	*rekeying
	*reporter
	*idempotencyKeys
	*meetTokens
	*rooms

	installations *installation.Store
	keyUse        *installation.KeyUse
	gateways      *gateways.List
	closed        atomic.Bool
}

// core is shared by all parts: Redis, the feed, the caches and the keys.
type core struct {
	db         *redisdb.DB
	feed       *feed.Feed
	cache      *cache
	keys       *vault.Ring
	signing    *signing.Set
	background *background.Pool
	now        func() time.Time
}

// Check validates the options that need no store. Zero values are valid.
func (o Options) Check() error {
	switch {
	case o.Lifetime != 0 && (o.Lifetime < minLifetime || o.Lifetime > maxLifetime):
		return fmt.Errorf("token lifetime %v is not between %v and %v", o.Lifetime, minLifetime, maxLifetime)
	case o.Staleness != 0 && o.Staleness < 10*time.Millisecond:
		return fmt.Errorf("staleness %v is shorter than 10ms", o.Staleness)
	case o.CacheEntries < 0:
		return errors.New("cache entries must be positive")
	case o.Quota.Users < 0 || o.Quota.UsersDomain < 0:
		return errors.New("quotas of new users must not be negative")
	}
	return o.Refresh.WithDefaults().Check()
}

// New makes an Authority. It does no I/O: call [Authority.Start] to follow the
// feed, without which every decision asks Redis.
func New(o Options) (*Authority, error) {
	if o.Store == nil {
		return nil, errors.New("a store is needed")
	}
	kr, err := vault.NewRing(o.Secrets)
	if err != nil {
		return nil, err
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	o.Lifetime = cmp.Or(o.Lifetime, DefaultLifetime)
	o.Staleness = cmp.Or(o.Staleness, DefaultStaleness)
	o.CacheEntries = cmp.Or(o.CacheEntries, DefaultCacheEntries)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	c := &core{db: o.Store, cache: newCache(o.CacheEntries), keys: kr, background: background.New(), now: o.Now}
	if c.signing, err = signing.NewSet(kr, o.SigningKeys, o.SecretSigns); err != nil {
		return nil, err
	}
	a := new(Authority)
	c.feed = feed.New(c.db, feedDomain{a}, o.Observer, o.Staleness, c.now)
	a.join(c, o)
	return a, nil
}

// join makes the parts. Each depends on those before it.
func (a *Authority) join(c *core, o Options) {
	clock := func() time.Time { return c.now() }
	a.core = c
	a.idempotencyKeys = idempotency.New(c.db, c.feed, c.keys, c.background, clock)
	a.meetTokens = meettokens.New(c.db, c.keys)
	a.rooms = roomindex.New(c.db, c.feed, c.keys, c.background, clock, o.CacheEntries)

	a.installations = installation.New(c.db, c.feed, c.cache.epochs, clock)
	a.keyUse = installation.NewKeyUse(a.installations, c.keys, c.signing, o.Observer.KeysMissing)
	a.applications = &applications{core: c, codec: &applicationCodec{keys: c.keys, now: clock}}
	a.meetClients = &meetClients{core: c, applications: a.applications}
	a.registry = &registry{
		core: c, applications: a.applications, meetClients: a.meetClients,
		clientIDs: clientids.New(c.db, c.feed, a.applications.exists, a.applications.codec.listsClientID),
	}
	a.logins = &logins{core: c, applications: a.applications, registry: a.registry, keyUse: a.keyUse, secrets: secrets.NewChecker(c.keys, clock, django.Verify)}
	a.adoption = &adoption{
		core: c, applications: a.applications, registry: a.registry, meetClients: a.meetClients, logins: a.logins,
		trials: trial.New(c.db, c.keys, a.meetTokens),
	}
	a.users = newUsers(c)
	a.admissions = &admissions{users: a.users, quotas: quota.New(o.Quota, c.db, c.keys, clock)}
	a.grants = &grants{core: c, installations: a.installations, applications: a.applications, users: a.users}
	a.signer = &signer{
		core: c, issuer: cmp.Or(o.Issuer, "meet-gateway"), audience: cmp.Or(o.Audience, "meet-clients"), lifetime: o.Lifetime,
	}
	records := &records{core: c, users: a.users, keyUse: a.keyUse}
	families := family.New(c.db, c.feed, c.keys, clock, o.Refresh.WithDefaults(), a.keyUse.Misses)
	a.refreshes = &refreshes{
		core: c, families: families, grants: a.grants, signer: a.signer, records: records, users: a.users,
	}
	a.issuer = &issuer{core: c, grants: a.grants, signer: a.signer, records: records, families: families, users: a.users}
	a.verifier = &verifier{core: c, signer: a.signer, grants: a.grants, refreshes: a.refreshes, keyUse: a.keyUse}
	a.revocations = &revocations{
		core: c, installations: a.installations, applications: a.applications, users: a.users, signer: a.signer,
		records: records, refreshes: a.refreshes, keyUse: a.keyUse,
	}
	a.rekeying = &rekeying{
		core: c, installations: a.installations, applications: a.applications, registry: a.registry, users: a.users,
		grants: a.grants, keyUse: a.keyUse, families: families,
	}
	a.gateways = gateways.New(c.db, c.feed, o.Version, a.keyUse.Used(), a.keyUse.Had())
	a.reporter = &reporter{
		core: c, installations: a.installations, applications: a.applications, verifier: a.verifier,
		gateways: a.gateways, keyUse: a.keyUse, observer: o.Observer,
	}
}

// JWKS returns the public signing keys as a JWK Set (RFC 7517 §5). It omits withdrawn keys,
// because its users do not see revocations.
func (a *Authority) JWKS() signing.JWKS { return a.signing.JWKS(a.installations.Withdrawn) }

// Start follows the feed until Close. It does not wait for Redis.
func (a *Authority) Start() {
	a.feed.Start(a.gateways.Follow, a.keyUse.Follow, a.followReadiness)
}

// Close stops following the feed and waits for what runs in the background. It
// leaves the Store open. Calling it again does nothing.
func (a *Authority) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	a.feed.Stop()
	a.background.Close()
	return nil
}

type noObserver struct{}

func (noObserver) FeedLag(time.Duration)           {}
func (noObserver) FeedState(bool)                  {}
func (noObserver) KeysMissing([]string)            {}
func (noObserver) PermissionsMissing(string, bool) {}
func (noObserver) Readiness(error)                 {}
func (noObserver) StoreRolledBack(int64, bool)     {}
