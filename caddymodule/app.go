// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin"
	"github.com/meet-gateway/meet-gateway/caddymodule/health"
	"github.com/meet-gateway/meet-gateway/caddymodule/pool"
	"github.com/meet-gateway/meet-gateway/caddymodule/store"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

func init() {
	caddy.RegisterModule(App{})
}

// appName is the name of the app, the global option, the directive and the
// subsystem of metrics.
const appName = "meet_gateway"

// App is what all gates of a process share: the store, the keys, the
// applications and the caches of what was verified.
//
// It survives reloads: as long as nothing in its configuration changes, the same
// connections, caches and feed go on. Texts may hold placeholders such as
// `{env.MEET_GATEWAY_SECRET}` or `{file./run/secrets/meet_gateway}`. They are
// resolved when the configuration is loaded and never shown; a file that changed
// needs `caddy reload --force`.
type App struct {
	// Where the state is kept: `redis` or `embedded`.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=meet_gateway.stores inline_key=type"`

	// Random texts of at least 32 bytes. All keys are derived from the first; the
	// others still verify and decrypt, so that it can be rotated. Every gateway of
	// an installation has the same. The embedded store makes its own if there is none.
	Secrets []string `json:"secrets,omitempty"`

	// Private keys (PEM) for signing access tokens with EdDSA, ES256 or RS256.
	// The first signs, all verify. Default: HS256 with a key derived from the secret.
	// The word `secret` in the first place stands for that default: it goes on signing,
	// and the keys after it are published before one of them signs.
	SigningKeys []string `json:"signing_keys,omitempty"`

	// The `iss` claim of access tokens. If others verify them with the published keys,
	// it is best the public address of the API, which the metadata name as issuer.
	// Default: `meet-gateway`.
	Issuer string `json:"issuer,omitempty"`

	// The `aud` claim of access tokens. Default: `meet-clients`.
	Audience string `json:"audience,omitempty"`

	// How long access tokens live, unless an application says otherwise. Default: 1h.
	TokenLifetime caddy.Duration `json:"token_lifetime,omitempty"`

	// How long a gateway that hears nothing from Redis goes on trusting what it has
	// verified. Default: 5s.
	Staleness caddy.Duration `json:"staleness,omitempty"`

	// How many verified tokens are remembered, and how many of Meet's, of which there
	// is one for each user. About 1 kB each. Default: 100000.
	CacheEntries int `json:"cache_entries,omitempty"`

	// The lifetimes of refresh tokens.
	Refresh *Refresh `json:"refresh,omitempty"`

	// Rate limits by name, such as `{"token": "600/1m"}`: `token`, `token_user`,
	// `read`, `read_user`, `create`, `create_user` per application and per user of
	// it; `failed` authentications per client id and network, `failed_source` and
	// `adopt` per network; `users` and `users_domain`, new users per application
	// and day. `off` is no limit. An application may have its own.
	Limits map[string]string `json:"limits,omitempty"`

	// Whether quotas of new users only report what they would refuse. Default: false.
	QuotaDryRun bool `json:"quota_dry_run,omitempty"`

	// How many gateways share the limits, at most. Default: 2.
	Gateways int `json:"gateways,omitempty"`

	// Deprecated: the former name of quota_dry_run, for one release.
	FenceDryRun bool `json:"fence_dry_run,omitempty"`
	// Deprecated: the former name of gateways, for one release.
	Nodes int `json:"nodes,omitempty"`

	// The address of a listener for load balancers and Kubernetes, such as `:8081`:
	// `/livez` answers 200 while the process runs, `/readyz` 200 while a request that is
	// new to this gateway would be served, else 503. It speaks plain HTTP and knows nothing
	// else. `off` is no listener. Default: `off`.
	Health string `json:"health,omitempty"`

	// A trail of what is decided. Default: none; administration is then logged.
	Audit *Audit `json:"audit,omitempty"`

	// The number of applications that have series of their own in the metric
	// application_requests_total: the most active ones, the others are `other`.
	// Default: 0, no such metric.
	MetricsPerApplication int `json:"metrics_per_application,omitempty"`

	// For trying out: if the store is the embedded one and a backend is the sandbox,
	// registers a demo application and prints how to use it, once. Without effect
	// otherwise, so that one configuration serves both.
	Quickstart bool `json:"quickstart,omitempty"`

	store     store.Store
	key       string
	authority *pooledAuthority
	// health is nil if there is no health listener.
	health        *health.Server
	healthAddress string
	logger        *zap.Logger
	gates         []*Handler // complete once the configuration is provisioned
	// outages is shared by all gates: an outage is one thing however many notice it.
	// A new configuration may be the fix, so it is logged anew.
	outages      *throttle
	stopRenewals func() // nil until Start
}

// Refresh sets the lifetimes of refresh tokens.
type Refresh struct {
	// A refresh token that is not used for so long ends. Default: 720h.
	Idle caddy.Duration `json:"idle,omitempty"`
	// It ends so long after the first one, whatever happens. Default: 2160h.
	Absolute caddy.Duration `json:"absolute,omitempty"`
	// How long the token before the current one gets the same answer again, so
	// that an answer that got lost is no theft. Default: 10s.
	Window caddy.Duration `json:"window,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: appName, New: func() caddy.Module { return new(App) }}
}

// Provision sets the app up. It does no I/O but reading the files that
// placeholders name.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger, a.outages = ctx.Logger(), new(throttle)
	a.takeFormerNames()
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	if a.StoreRaw == nil {
		return errors.New("no store: write `store redis <url>`, or `store embedded` for trying out, in the meet_gateway global option")
	}
	mod, err := ctx.LoadModule(a, "StoreRaw")
	if err != nil {
		return fmt.Errorf("loading the store: %w", err)
	}
	a.store = mod.(store.Store)
	if err := a.mayReplaceRunning(); err != nil {
		return err
	}

	if err := a.borrowAuthority(); err != nil {
		return err
	}
	if err := a.provisionHealth(ctx); err != nil {
		return err
	}
	if err := a.provisionAudit(ctx); err != nil {
		return err
	}
	if a.Quickstart {
		return a.onStarted(ctx, a.quickstart)
	}
	return nil
}

// mayReplaceRunning stops a reload that would turn a gateway in production into one
// for trying out, because the environment of the shell that called it lacks what
// the gateway was started with.
func (a *App) mayReplaceRunning() error {
	_, inMemory := a.store.(*store.Embedded)
	running, err := ActiveApp()
	if !a.Quickstart || !inMemory || err != nil {
		return nil
	}
	if _, inRedis := running.store.(*store.Redis); inRedis {
		return errors.New("the gateway that is running keeps its state in Redis, and this configuration is the one for trying out (embedded, quickstart): " +
			"variables such as {$MEET_STORE} are read where `reload` is called, so call it with the environment that the gateway was started with")
	}
	return nil
}

// takeFormerNames reads fields under the names that they had before.
func (a *App) takeFormerNames() {
	for former, used := range map[string]bool{"nodes": a.Nodes != 0, "fence_dry_run": a.FenceDryRun} {
		if used {
			a.logger.Warn("a field of the configuration has a new name; the former one is read for one release", zap.String("field", former))
		}
	}
	a.Gateways = cmp.Or(a.Gateways, a.Nodes)
	a.QuotaDryRun = a.QuotaDryRun || a.FenceDryRun
}

// borrowAuthority takes the Authority that earlier configurations made of the
// same inputs, or makes one.
func (a *App) borrowAuthority() error {
	o, err := a.options()
	if err != nil {
		return err
	}
	limits, err := parseLimits(a.Limits, a.QuotaDryRun)
	if err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	if a.Gateways < 0 { // 0 is the default
		return errors.New("gateways must not be negative")
	}
	o.Quota = limits.quota
	signing, err := a.signingKeys(&o)
	if err != nil {
		return err
	}
	key, err := pool.Key("authority", []any{
		a.store.Key(), o.Secrets, signing, o.Issuer, o.Audience, o.Lifetime, o.Staleness, o.CacheEntries, o.Refresh,
		a.Limits, a.QuotaDryRun, a.Gateways,
	})
	if err != nil {
		return err
	}
	val, _, err := authorities.LoadOrNew(key, func() (caddy.Destructor, error) {
		p := new(pooledAuthority)
		o.Observer = &p.observer
		var err error
		if p.Authority, err = tokens.New(o); err != nil {
			return nil, err
		}
		p.limiter = limit.New(limit.Options{Shared: p.Authority, Rates: limits.rates, Nodes: a.Gateways})
		return p, nil
	})
	if err != nil {
		return err
	}
	a.key, a.authority = key, val.(*pooledAuthority)
	return nil
}

func (a *App) options() (tokens.Options, error) {
	secrets, err := resolveSecrets(a.Secrets, a.store.Secret())
	if err != nil {
		return tokens.Options{}, err
	}
	o := a.authorityOptions()
	o.Store, o.Secrets = a.store.Tokens(), secrets
	o.Version = BuildInfo().Version
	return o, nil
}

// authorityOptions are those that need no placeholder resolved.
func (a *App) authorityOptions() tokens.Options {
	o := tokens.Options{
		Issuer:       a.Issuer,
		Audience:     a.Audience,
		Lifetime:     time.Duration(a.TokenLifetime),
		Staleness:    time.Duration(a.Staleness),
		CacheEntries: a.CacheEntries,
	}
	if a.Refresh != nil {
		o.Refresh = tokens.RefreshOptions{
			Idle: time.Duration(a.Refresh.Idle), Absolute: time.Duration(a.Refresh.Absolute), Window: time.Duration(a.Refresh.Window),
		}
	}
	return o
}

// Start follows the changes that other gateways make. A Redis that is unavailable is no
// reason not to start: until it is there, requests are answered with 503.
func (a *App) Start() error {
	a.store.Tokens().OnCommand(observeCommand)
	activeApplications.restrict(a.MetricsPerApplication)
	if a.Audit != nil {
		a.Audit.trail.Use(a.Audit.key, a.Audit.Gateway)
	}
	if a.health != nil {
		if err := a.health.Listen(context.Background()); err != nil {
			return err
		}
	}
	a.authority.start()
	a.stopRenewals = startRenewals(a.gates)
	a.logStart()
	if _, embedded := a.store.(*store.Embedded); embedded {
		a.logger.Warn("the embedded store is for trying out: everything is lost when this process ends, and no other gateway sees it; use `store redis` in production")
		return nil
	}
	go a.checkStore()
	return nil
}

// logStart says which store, user and keys are in use. Ids of keys are no secret:
// `meet status` shows them, and every token carries one.
func (a *App) logStart() {
	self := a.Authority().Self()
	where := a.store.Where()
	fields := []zap.Field{zap.String("version", self.Version), zap.String("store", where.Kind)}
	if where.Address != "" {
		fields = append(fields, zap.String("redis", where.Address), zap.String("redis_user", cmp.Or(where.User, "default")))
	}
	a.logger.Info("gateway started", append(fields, zap.Strings("keys_used", self.Uses), zap.Strings("keys", self.Keys), zap.String("gateway", self.ID))...)
}

// checkStore reports early what requests would meet later: a Redis that does not
// answer, or is set up so that it loses state.
func (a *App) checkStore() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	redis := a.store.Tokens()
	if err := redis.Ping(ctx); err != nil {
		a.logger.Error("redis cannot be used; until it can, requests are answered with 503",
			zap.String("cause", tokens.StoreProblem(err)), zap.Error(err))
		return
	}
	if settings, err := redis.Settings(ctx); err == nil {
		for _, warning := range settings.Warnings() {
			a.logger.Warn(warning)
		}
	}
}

// Stop ends what belongs to this configuration. Everything else is shared with the next
// one and ends in Cleanup.
func (a *App) Stop() error {
	if a.stopRenewals != nil {
		a.stopRenewals()
	}
	return nil
}

// Cleanup gives the Authority and the health listener back. The Authority stays in its
// field: requests that are still in flight use it.
func (a *App) Cleanup() error {
	err := errors.Join(a.cleanupHealth(), a.cleanupAudit())
	if a.authority == nil {
		return err
	}
	_, closeErr := authorities.Delete(a.key)
	return errors.Join(err, closeErr)
}

// Authority is what issues and judges tokens, for the admin API and the gates.
func (a *App) Authority() *tokens.Authority { return a.authority.Authority }

// ActiveApp returns the app of the configuration that is running. It fails if
// there is none.
func ActiveApp() (*App, error) {
	mod, err := caddy.ActiveContext().AppIfConfigured(appName)
	if err != nil {
		return nil, fmt.Errorf("meet_gateway is not running: %w", err)
	}
	return mod.(*App), nil
}

// Logger implements admin.Gateway.
func (a *App) Logger() *zap.Logger { return a.logger }

// Gates returns the gates of this configuration.
func (a *App) Gates() []*Handler { return a.gates }

// onStarted calls f when all apps of this configuration are running.
func (*App) onStarted(ctx caddy.Context, f func(caddy.Context) error) error {
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting the events app: %w", err)
	}
	return events.(*caddyevents.App).On("started", eventHandler(func() error { return f(ctx) }))
}

type eventHandler func() error

// Handle implements caddyevents.Handler.
func (f eventHandler) Handle(context.Context, caddy.Event) error { return f() }

// authorities keeps Authorities across reloads.
var authorities = caddy.NewUsagePool()

// pooledAuthority closes its Authority some time after the last configuration
// let it go.
type pooledAuthority struct {
	*tokens.Authority
	limiter  *limit.Limiter
	observer authorityObserver
	starting sync.Once
}

// start follows the feed, once for all configurations.
func (p *pooledAuthority) start() {
	p.starting.Do(func() {
		p.observer.authority = p.Authority
		activeObserver.Store(&p.observer)
		p.Start()
	})
}

// outgoing are the ids, as gateways, of Authorities that no configuration has any more.
// Other gateways see them in the list of gateways until they end.
var outgoing sync.Map

// Destruct implements caddy.Destructor.
func (p *pooledAuthority) Destruct() error {
	outgoing.Store(p.Self().ID, true)
	return pool.AfterDrain(pool.Drain, p.close)
}

// close ends the limiter first: it counts in the Authority.
func (p *pooledAuthority) close() error {
	defer outgoing.Delete(p.Self().ID)
	p.limiter.Close()
	return p.Close()
}

// Interface guards
var (
	_ caddy.App           = (*App)(nil)
	_ caddy.Provisioner   = (*App)(nil)
	_ caddy.CleanerUpper  = (*App)(nil)
	_ admin.Gateway       = (*App)(nil)
	_ caddyevents.Handler = eventHandler(nil)
	_ caddy.Destructor    = (*pooledAuthority)(nil)
)
