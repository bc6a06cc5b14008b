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

// appName is the name of the app, the global option, the directive and the metrics'
// subsystem.
const appName = "meet_gateway"

// App holds what all handlers of a process share: the store, the keys, the applications
// and the caches.
//
// The app survives reloads: connections, caches and the feed are kept while its
// configuration does not change. Texts may contain placeholders such as
// `{env.MEET_GATEWAY_SECRET}` or `{file./run/secrets/meet_gateway}`, which are resolved
// when the configuration is loaded and never shown. A changed file takes effect with
// `caddy reload --force`.
type App struct {
	// Where the state is stored: `redis` or `embedded`. Required.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=meet_gateway.stores inline_key=type"`

	// Random texts of at least 32 bytes, the same on every gateway of an installation.
	// All keys are derived from the first; the others still verify and decrypt, so that
	// a secret can be rotated. Required, except with the embedded store, which
	// generates one.
	Secrets []string `json:"secrets,omitempty"`

	// Private keys in PEM that sign access tokens with EdDSA, ES256 or RS256. The first
	// one signs, all of them verify. The word `secret` as the first key keeps signing
	// with the key that is derived from the secret while the keys after it are already
	// published. Default: HS256 with the derived key.
	SigningKeys []string `json:"signing_keys,omitempty"`

	// The `iss` claim of access tokens. Where others verify tokens with the published
	// keys, set it to the public address of the API, which the metadata documents name
	// as issuer. Default: `meet-gateway`.
	Issuer string `json:"issuer,omitempty"`

	// The `aud` claim of access tokens. Default: `meet-clients`.
	Audience string `json:"audience,omitempty"`

	// The lifetime of access tokens of applications that do not set their own. Default:
	// 1h.
	TokenLifetime caddy.Duration `json:"token_lifetime,omitempty"`

	// How long a gateway trusts its caches without hearing from Redis. Default: 5s.
	Staleness caddy.Duration `json:"staleness,omitempty"`

	// The maximum number of verified tokens in memory, and of Meet's tokens, of which
	// each user has one. Each takes about 1 kB. Default: 100000.
	CacheEntries int `json:"cache_entries,omitempty"`

	// The lifetimes of refresh tokens.
	Refresh *Refresh `json:"refresh,omitempty"`

	// Rate limits by name, such as `{"token": "600/1m"}`. Per application: `token`,
	// `read` and `create`; per user of an application: `token_user`, `read_user` and
	// `create_user`. Failed authentications: `failed` per client id and network,
	// `failed_source` per network. Attempts to adopt an application: `adopt` per
	// network. New users per application and day: `users` and `users_domain`. `off`
	// disables a limit. An application may have its own limits.
	Limits map[string]string `json:"limits,omitempty"`

	// Whether quotas of new users only report what they would refuse. Default: false.
	QuotaDryRun bool `json:"quota_dry_run,omitempty"`

	// The maximum number of gateways that share the limits. Default: 2.
	Gateways int `json:"gateways,omitempty"`

	// Deprecated: the former name of quota_dry_run, for one release.
	FenceDryRun bool `json:"fence_dry_run,omitempty"`
	// Deprecated: the former name of gateways, for one release.
	Nodes int `json:"nodes,omitempty"`

	// The address of a health listener for load balancers and Kubernetes, such as
	// `:8081`. `/livez` answers 200 while the process runs; `/readyz` answers 200 if
	// the gateway can serve new requests, else 503. The listener uses plain HTTP and
	// serves no other path. `off` disables it. Default: `off`.
	Health string `json:"health,omitempty"`

	// The audit trail. Default: none; administrative changes are then logged.
	Audit *Audit `json:"audit,omitempty"`

	// The number of applications with their own series in the metric
	// `application_requests_total`. These are the most active ones; all others are
	// counted as `other`. Default: 0, which disables the metric.
	MetricsPerApplication int `json:"metrics_per_application,omitempty"`

	// Whether to register a demo application and print how to use it, once. Has an
	// effect only with the embedded store and the sandbox backend, so that one
	// Caddyfile serves trial and production. Default: false.
	Quickstart bool `json:"quickstart,omitempty"`

	store         store.Store
	key           string
	authority     *pooledAuthority
	health        *health.Server
	healthAddress string
	logger        *zap.Logger
	handlers      []*Handler // complete once the configuration is provisioned
	// outages is shared by all handlers, so that an outage is logged once. A reload
	// resets it: the new configuration may be the fix.
	outages      *throttle
	stopRenewals func() // nil until Start
}

// Refresh sets the lifetimes of refresh tokens.
type Refresh struct {
	// The time after which an unused refresh token expires. Default: 720h.
	Idle caddy.Duration `json:"idle,omitempty"`
	// The time after which a refresh token and its successors expire, used or not.
	// Default: 2160h.
	Absolute caddy.Duration `json:"absolute,omitempty"`
	// How long the previous refresh token may be used again and gets the same answer,
	// for clients that lost the first one. Default: 10s.
	Window caddy.Duration `json:"window,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: appName, New: func() caddy.Module { return new(App) }}
}

// Provision sets up the app. It reads the files that placeholders name and does no
// other I/O.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger, a.outages = ctx.Logger(), new(throttle)
	a.readFormerNames()
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
	if err := a.checkReload(); err != nil {
		return err
	}

	if err := a.loadAuthority(); err != nil {
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

// checkReload refuses to replace a gateway that uses Redis by a trial configuration:
// `reload` was probably called without the environment that the gateway was started
// with.
func (a *App) checkReload() error {
	_, inMemory := a.store.(*store.Embedded)
	running, err := ActiveApp()
	if !a.Quickstart || !inMemory || err != nil {
		return nil
	}
	if _, inRedis := running.store.(*store.Redis); inRedis {
		return errors.New("the running gateway uses Redis and this configuration the embedded store with quickstart, for trying out: " +
			"call `reload` with the environment that the gateway was started with, because variables such as {$MEET_STORE} are read there")
	}
	return nil
}

// readFormerNames reads fields under their former names.
func (a *App) readFormerNames() {
	for former, used := range map[string]bool{"nodes": a.Nodes != 0, "fence_dry_run": a.FenceDryRun} {
		if used {
			a.logger.Warn("a field of the configuration has a new name; the former one is read for one release", zap.String("field", former))
		}
	}
	a.Gateways = cmp.Or(a.Gateways, a.Nodes)
	a.QuotaDryRun = a.QuotaDryRun || a.FenceDryRun
}

// loadAuthority returns the Authority of an earlier configuration with the same inputs,
// or creates one.
func (a *App) loadAuthority() error {
	o := a.authorityOptions()
	var err error
	if o.Secrets, err = resolveSecrets(a.Secrets, a.store.Secret()); err != nil {
		return err
	}
	var rates *limit.Rates
	if rates, o.Quota, err = a.parseLimits(); err != nil {
		return err
	}
	if a.Gateways < 0 { // 0 is the default
		return errors.New("gateways must not be negative")
	}
	o.Store, o.Version = a.store.Tokens(), BuildInfo().Version
	signing, err := a.signingKeys(&o)
	if err != nil {
		return err
	}
	// Every option that changes the Authority belongs into the key. Without it, a reload
	// would keep the Authority with the old value.
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
		p.limiter = limit.New(limit.Options{Shared: p.Authority, Rates: rates, Nodes: a.Gateways})
		return p, nil
	})
	if err != nil {
		return err
	}
	a.key, a.authority = key, val.(*pooledAuthority)
	return nil
}

// authorityOptions returns the options that contain no placeholders.
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

// Start connects to the feed. It does not fail when Redis is unavailable; requests are
// answered with 503 until Redis is reachable.
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
	a.stopRenewals = startRenewals(a.handlers)
	a.logStart()
	if _, embedded := a.store.(*store.Embedded); embedded {
		a.logger.Warn("the embedded store is for trying out: everything is lost when this process ends, and no other gateway sees it; use `store redis` in production")
		return nil
	}
	go a.checkStore()
	return nil
}

// logStart logs the store and the ids of the keys in use, which are not secret.
func (a *App) logStart() {
	self := a.Authority().Self()
	where := a.store.Where()
	fields := []zap.Field{zap.String("version", self.Version), zap.String("store", where.Kind)}
	if where.Address != "" {
		fields = append(fields, zap.String("redis", where.Address), zap.String("redis_user", cmp.Or(where.User, "default")))
	}
	a.logger.Info("gateway started", append(fields, zap.Strings("keys_used", self.Uses), zap.Strings("keys", self.Keys), zap.String("gateway", self.ID))...)
}

// checkStore reports a badly configured Redis at startup. The observer reports one that is
// unavailable.
func (a *App) checkStore() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if settings, err := a.store.Tokens().Settings(ctx); err == nil {
		for _, warning := range tokens.StoreWarnings(settings) {
			a.logger.Warn(warning)
		}
	}
}

// Stop ends what belongs to this configuration alone. Cleanup releases what it shares
// with others.
func (a *App) Stop() error {
	if a.stopRenewals != nil {
		a.stopRenewals()
	}
	return nil
}

// Cleanup releases what the app shares. It keeps the pointer to the Authority, which
// requests in flight still use.
func (a *App) Cleanup() error {
	err := errors.Join(a.cleanupHealth(), a.cleanupAudit())
	if a.authority == nil {
		return err
	}
	_, closeErr := authorities.Delete(a.key)
	return errors.Join(err, closeErr)
}

// Authority returns the issuer and verifier of tokens.
func (a *App) Authority() *tokens.Authority { return a.authority.Authority }

// ActiveApp returns the app of the running configuration, or an error if there is none.
func ActiveApp() (*App, error) {
	mod, err := caddy.ActiveContext().AppIfConfigured(appName)
	if err != nil {
		return nil, fmt.Errorf("meet_gateway is not running: %w", err)
	}
	return mod.(*App), nil
}

// Logger implements admin.Gateway.
func (a *App) Logger() *zap.Logger { return a.logger }

// onStarted calls f after all apps of this configuration have started.
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

// pooledAuthority closes its Authority some time after the last configuration released
// it.
type pooledAuthority struct {
	*tokens.Authority
	limiter  *limit.Limiter
	observer authorityObserver
	starting sync.Once
}

// start starts the Authority once, however many configurations use it.
func (p *pooledAuthority) start() {
	p.starting.Do(func() {
		p.observer.authority = p.Authority
		activeObserver.Store(&p.observer)
		p.Start()
	})
}

// retiredGateways holds the gateway ids of Authorities without a configuration. Other
// gateways list them until they are closed.
var retiredGateways sync.Map

// Destruct implements caddy.Destructor.
func (p *pooledAuthority) Destruct() error {
	retiredGateways.Store(p.Self().ID, true)
	return pool.AfterDrain(pool.Drain, p.close)
}

// close closes the limiter before the Authority, which it uses.
func (p *pooledAuthority) close() error {
	defer retiredGateways.Delete(p.Self().ID)
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
