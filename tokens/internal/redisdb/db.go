// SPDX-License-Identifier: MIT

// Package redisdb connects to Redis, finds its primary, sends commands, and waits for
// replicas. Besides this package, only feed and journal use the client of go-redis.
package redisdb

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// DefaultTimeout bounds connecting to Redis, one command, and waiting for a free
// connection, each.
const DefaultTimeout = 500 * time.Millisecond

// Options tell how to reach Redis: one server (the default), a group watched by
// Sentinels (MasterName), or a Cluster.
type Options struct {
	// URL is redis://, rediss:// (TLS) or unix://, as go-redis reads it:
	// redis://user:password@host:6379/0. The fields below override its parts.
	URL string
	// Addresses are host:port of the server, of the Sentinels, or of some nodes of the
	// Cluster.
	Addresses []string
	// MasterName is the name of the group that Sentinels at the addresses watch.
	MasterName string
	// Cluster means that the addresses are nodes of a Cluster.
	Cluster bool

	Username, Password                 string
	SentinelUsername, SentinelPassword string

	// DB is the database number; a Cluster has only 0.
	DB int
	// TLS enables TLS on all connections.
	TLS *tls.Config
	// Timeout bounds each step of a call. Default: DefaultTimeout.
	Timeout time.Duration
	// PoolSize is the number of connections per server. Default: 10 per CPU.
	PoolSize int
	// WaitReplicas is how many replicas must have acknowledged a revocation or a change
	// before it is reported done (Redis WAIT). Default: 0, the primary alone.
	WaitReplicas int
	// Mode overrides what DB.Mode returns.
	Mode string
}

// DB is a handle on Redis.
type DB struct {
	rdb     redis.UniversalClient
	timeout time.Duration
	wait    int
	mode    string
	onClose func() error
	// onCommand is called after each command; see OnCommand.
	onCommand atomic.Pointer[func(context.Context, Command)]
	dialed    atomic.Uint64
	reads     batches
	writes    batches
	// conns are the open connections. It is nil for a Cluster, whose servers redirect
	// commands themselves.
	conns *connections
	// options are those of each server of a Cluster, or behind Sentinels; else nil.
	options *redis.UniversalOptions
	// sentinels is nil unless Sentinels watch Redis.
	sentinels   *sentinels
	permissions permissionCache
}

// Open makes a DB. It does not connect: an unreachable Redis shows at the first call, as
// ErrUnavailable.
func Open(o Options) (*DB, error) {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Timeout < 0 {
		return nil, errors.New("timeout must be positive")
	}
	if o.WaitReplicas < 0 || o.PoolSize < 0 {
		return nil, errors.New("wait_replicas and pool_size must not be negative")
	}
	u, err := o.universal()
	if err != nil {
		return nil, err
	}
	db := &DB{timeout: o.Timeout, wait: o.WaitReplicas, mode: "standalone"}
	u.OnConnect = func(context.Context, *redis.Conn) error {
		db.dialed.Add(1)
		return nil
	}
	switch {
	case o.Cluster && o.MasterName != "":
		return nil, errors.New("master_name (Sentinel) and cluster exclude each other")
	case o.Cluster:
		if u.DB != 0 {
			return nil, errors.New("a Redis Cluster has no database but 0")
		}
		db.mode = "cluster"
		db.options = u
		db.rdb = redis.NewClusterClient(u.Cluster())
	case o.MasterName != "":
		db.mode = "sentinel"
		db.options = u
		db.conns = newConnections(o.Timeout, u.TLSConfig)
		db.sentinels = newSentinels(u, db.conns)
		simple := u.Simple()
		simple.Addr, simple.Dialer = u.MasterName, db.sentinels.dial
		db.rdb = redis.NewClient(simple)
	case len(u.Addrs) > 1:
		return nil, errors.New("several addresses need either master_name (Sentinel) or cluster")
	default:
		simple := u.Simple()
		if strings.HasPrefix(o.URL, "unix://") {
			simple.Network = "unix"
		}
		db.conns = newConnections(o.Timeout, u.TLSConfig)
		simple.Dialer = db.conns.dial
		db.rdb = redis.NewClient(simple)
	}
	for _, g := range []*batches{&db.reads, &db.writes} {
		g.rdb, g.next = db.rdb, map[*redis.Client]*batch{}
	}
	db.mode = cmp.Or(o.Mode, db.mode)
	db.observeCommands()
	return db, nil
}

const bufferSize = 4 << 10

// universal converts the options to those of go-redis.
func (o Options) universal() (*redis.UniversalOptions, error) {
	u := &redis.UniversalOptions{
		Addrs: o.Addresses, MasterName: o.MasterName, IsClusterMode: o.Cluster,
		Username: o.Username, Password: o.Password,
		SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
		DB: o.DB, TLSConfig: o.TLS, PoolSize: o.PoolSize,

		// Without this go-redis ignores the deadline of the context.
		ContextTimeoutEnabled: true,
		DialTimeout:           o.Timeout,
		ReadTimeout:           o.Timeout,
		WriteTimeout:          o.Timeout,
		PoolTimeout:           o.Timeout,
		DialerRetries:         1,
		// One retry finds the new primary after a failover. More would only make callers
		// wait longer.
		MaxRetries:      1,
		MinRetryBackoff: 8 * time.Millisecond,
		MaxRetryBackoff: 32 * time.Millisecond,
		MaxRedirects:    maxRedirects,
		ConnMaxIdleTime: 5 * time.Minute,
		// Commands and replies are small, also when several travel together. By default a
		// connection has 64 KiB of buffers, and one of a second pool for pipelines 256 KiB.
		ReadBufferSize:   bufferSize,
		WriteBufferSize:  bufferSize,
		PipelinePoolSize: -1, // none
		// CLIENT SETINFO on new connections has mixed up replies before (CVE-2025-29923).
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if err := o.applyURL(u); err != nil {
		return nil, err
	}
	if len(u.Addrs) == 0 {
		return nil, errors.New("no redis URL or address is set")
	}
	return u, nil
}

// applyURL fills in what the fields leave open.
func (o Options) applyURL(u *redis.UniversalOptions) error {
	if o.URL == "" {
		return nil
	}
	parsed, err := redis.ParseURL(o.URL)
	if err != nil {
		// The URL may hold a password, so it is not quoted.
		return errors.New("redis URL cannot be read: it should look like redis://user:password@host:6379/0")
	}
	if len(u.Addrs) == 0 {
		u.Addrs = []string{parsed.Addr}
	}
	u.Username = cmp.Or(u.Username, parsed.Username)
	u.Password = cmp.Or(u.Password, parsed.Password)
	u.DB = cmp.Or(u.DB, parsed.DB)
	if u.TLSConfig == nil && parsed.TLSConfig != nil {
		u.TLSConfig = parsed.TLSConfig
		if o.MasterName != "" || o.Cluster {
			u.TLSConfig.ServerName = "" // each server has its own name
		}
	}
	return nil
}

// OnClose sets a function that Close calls after it has closed the connections.
func (db *DB) OnClose(f func() error) { db.onClose = f }

// Close closes all connections.
func (db *DB) Close() error {
	err := db.rdb.Close()
	if db.sentinels != nil {
		err = errors.Join(err, db.sentinels.close())
	}
	if db.onClose != nil {
		err = errors.Join(err, db.onClose())
	}
	return err
}

// Ping returns ErrUnavailable unless Redis answers.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.rdb.Ping(ctx).Err(); err != nil {
		return failure.Unavailable("pinging", err)
	}
	return nil
}

// Mode is "standalone", "sentinel", "cluster", or Options.Mode.
func (db *DB) Mode() string { return db.mode }

// Timeout is Options.Timeout.
func (db *DB) Timeout() time.Duration { return db.timeout }

// Dialed counts the connections opened so far. A later connection may lead to another
// server.
func (db *DB) Dialed() uint64 { return db.dialed.Load() }

// Sentinels returns how many Sentinels are configured, and how many of them answered the
// last time.
func (db *DB) Sentinels() (configured, answering int) {
	if db.sentinels == nil {
		return 0, 0
	}
	return len(db.sentinels.members), int(db.sentinels.answering.Load())
}

// Watched reports whether Sentinels may replace the primary.
func (db *DB) Watched() bool { return db.sentinels != nil }

// Client returns the client of go-redis, for feed, journal and tests.
func (db *DB) Client() redis.UniversalClient { return db.rdb }
