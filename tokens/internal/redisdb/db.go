// SPDX-License-Identifier: MIT

// Package redisdb reaches Redis: it connects, finds the primary, sends commands, and
// waits for replicas. No other package but feed and journal sees the client itself.
package redisdb

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// DefaultTimeout bounds connecting to Redis, one command, and waiting for
// a free connection, each.
const DefaultTimeout = 500 * time.Millisecond

// Options tell how to reach Redis: one server (the default), a
// Sentinel-watched group (MasterName) or a Cluster.
type Options struct {
	// URL is redis://, rediss:// (TLS) or unix://, as go-redis reads it:
	// redis://user:password@host:6379/0. Fields below override its parts.
	URL string
	// Addresses are host:port of the server, of the Sentinels, or of some
	// nodes of the Cluster.
	Addresses []string
	// MasterName makes the addresses those of Sentinels that watch this name.
	MasterName string
	// Cluster makes the addresses those of Cluster nodes.
	Cluster bool

	Username, Password                 string
	SentinelUsername, SentinelPassword string

	// DB is the database number; a Cluster has only 0.
	DB int
	// TLS switches TLS on for all connections.
	TLS *tls.Config
	// Timeout bounds each step of a call. Default: DefaultTimeout.
	Timeout time.Duration
	// PoolSize is the number of connections per server. Default: 10 per CPU.
	PoolSize int
	// WaitReplicas is how many replicas must have acknowledged a revocation or
	// a change before it is reported done (Redis WAIT). Default: 0, the primary alone.
	WaitReplicas int
	// Mode is what the status shows instead of how Redis is reached. Default: that.
	Mode string
	// Control is asked before each connection to a data server. Default: nobody.
	Control func(network, address string, c syscall.RawConn) error `json:"-"` // options are hashed as JSON, to be found again
}

// DB is a handle on Redis.
type DB struct {
	rdb     redis.UniversalClient
	timeout time.Duration
	wait    int
	mode    string
	onClose func() error
	// onCommand is told of each command; see OnCommand.
	onCommand atomic.Pointer[func(context.Context, Command)]
	// dialed counts the connections that were opened.
	dialed   atomic.Uint64
	together together
	// conns are the open ones, except to a Cluster, whose servers redirect those
	// who ask the wrong one.
	conns *connections
	// sentinels is nil unless they watch Redis.
	sentinels *sentinels
	permitted permitted
}

// Open makes a DB. It does not connect: an unreachable Redis shows at
// the first call, as ErrUnavailable.
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
	s := &DB{timeout: o.Timeout, wait: o.WaitReplicas, mode: "standalone"}
	u.OnConnect = func(context.Context, *redis.Conn) error {
		s.dialed.Add(1)
		return nil
	}
	switch {
	case o.Cluster && o.MasterName != "":
		return nil, errors.New("master_name (Sentinel) and cluster exclude each other")
	case o.Cluster:
		if u.DB != 0 {
			return nil, errors.New("a Redis Cluster has no database but 0")
		}
		s.mode = "cluster"
		s.rdb = redis.NewClusterClient(u.Cluster())
	case o.MasterName != "":
		s.mode = "sentinel"
		s.conns = newConnections(o, u.TLSConfig)
		s.sentinels = newSentinels(u, s.conns)
		simple := u.Simple()
		simple.Addr, simple.Dialer = u.MasterName, s.sentinels.dial
		s.rdb = redis.NewClient(simple)
	case len(u.Addrs) > 1:
		return nil, errors.New("several addresses need either master_name (Sentinel) or cluster")
	default:
		simple := u.Simple()
		if o.URL != "" && strings.HasPrefix(o.URL, "unix://") {
			simple.Network = "unix"
		}
		s.conns = newConnections(o, u.TLSConfig)
		simple.Dialer = s.conns.dial
		s.rdb = redis.NewClient(simple)
	}
	s.mode = cmp.Or(o.Mode, s.mode)
	s.observeCommands()
	return s, nil
}

// universal are the options as go-redis has them.
func (o Options) universal() (*redis.UniversalOptions, error) {
	u := &redis.UniversalOptions{
		Addrs: o.Addresses, MasterName: o.MasterName, IsClusterMode: o.Cluster,
		Username: o.Username, Password: o.Password,
		SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
		DB: o.DB, TLSConfig: o.TLS, PoolSize: o.PoolSize,

		// Without the next line go-redis ignores the caller's deadline.
		ContextTimeoutEnabled: true,
		DialTimeout:           o.Timeout,
		ReadTimeout:           o.Timeout,
		WriteTimeout:          o.Timeout,
		PoolTimeout:           o.Timeout,
		DialerRetries:         1,
		// One more try finds the new primary after a failover; more would only
		// multiply the time a caller waits.
		MaxRetries:      1,
		MinRetryBackoff: 8 * time.Millisecond,
		MaxRetryBackoff: 32 * time.Millisecond,
		MaxRedirects:    3,
		ConnMaxIdleTime: 5 * time.Minute,
		// CLIENT SETINFO on every new connection has mixed up replies before
		// (CVE-2025-29923) and buys nothing here.
		DisableIdentity: true,
		// The same goes for the handshake of maintenance notifications.
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
		return errors.New("redis URL cannot be read: it should look like redis://user:password@host:6379/0") // the URL may hold a password
	}
	if len(u.Addrs) == 0 {
		u.Addrs = []string{parsed.Addr}
	}
	u.Username = cmp.Or(u.Username, parsed.Username)
	u.Password = cmp.Or(u.Password, parsed.Password)
	if u.DB == 0 {
		u.DB = parsed.DB
	}
	if u.TLSConfig == nil && parsed.TLSConfig != nil {
		u.TLSConfig = parsed.TLSConfig
		if o.MasterName != "" || o.Cluster {
			u.TLSConfig.ServerName = "" // each of the servers has a name of its own
		}
	}
	return nil
}

// OnClose registers what Close does after it has closed the connections. The
// embedded store ends its server there.
func (s *DB) OnClose(f func() error) { s.onClose = f }

// Close ends all connections.
func (s *DB) Close() error {
	err := s.rdb.Close()
	if s.sentinels != nil {
		err = errors.Join(err, s.sentinels.close())
	}
	if s.onClose != nil {
		err = errors.Join(err, s.onClose())
	}
	return err
}

// Ping asks Redis for a sign of life. The error is ErrUnavailable.
func (s *DB) Ping(ctx context.Context) error {
	if err := s.rdb.Ping(ctx).Err(); err != nil {
		return failure.Unavailable("pinging", err)
	}
	return nil
}

// Run runs a script that changes one key, and waits for no replica.
func (s *DB) Run(ctx context.Context, script *Script, key string, args ...any) (*Reply, error) {
	cmd := script.Run(ctx, s.rdb, []string{key}, args...)
	return cmd, IgnoreNil(cmd.Err())
}

// Write runs a script that changes one key. It returns when Redis has
// acknowledged the change and the configured number of replicas has it, so that
// a failover cannot undo it. Unless the error is nil the change may or may not
// have been made.
func (s *DB) Write(ctx context.Context, script *Script, key string, args ...any) (*Reply, error) {
	if s.wait == 0 {
		return s.Run(ctx, script, key, args...)
	}
	cmd, err := s.writeReplicated(ctx, script, key, args...)
	if c, ok := s.rdb.(*redis.ClusterClient); ok && err != nil {
		if _, moved := redis.IsMovedError(err); moved {
			c.ReloadState(ctx)
			cmd, err = s.writeReplicated(ctx, script, key, args...)
		}
	}
	return cmd, err
}

// writeReplicated sends the script and WAIT down one connection: Redis counts
// what the connection that waits has written, and another connection, or a
// server that became the primary in between, would confirm what it never saw.
func (s *DB) writeReplicated(ctx context.Context, script *Script, key string, args ...any) (*Reply, error) {
	node, ok := s.rdb.(*redis.Client)
	if c, cluster := s.rdb.(*redis.ClusterClient); cluster {
		var err error
		if node, err = c.MasterForKey(ctx, key); err != nil {
			return nil, fmt.Errorf("finding the primary: %w", err)
		}
	} else if !ok {
		return nil, fmt.Errorf("waiting for replicas is not possible with %T", s.rdb)
	}
	pipe := node.Pipeline()
	// The script whole, since a pipeline cannot send it when its hash is unknown.
	cmd := script.Eval(ctx, pipe, []string{key}, args...)
	waited := pipe.Do(ctx, "WAIT", s.wait, s.replicaPatience().Milliseconds())
	_, err := pipe.Exec(ctx)
	if err = IgnoreNil(err); err != nil {
		return cmd, err // wrapped by whoever knows what was written
	}
	n, err := waited.Int()
	if err != nil {
		return cmd, fmt.Errorf("waiting for replicas: %w", err)
	}
	if n < s.wait {
		return cmd, fmt.Errorf("waiting for replicas: %d of %d acknowledged", n, s.wait)
	}
	return cmd, nil
}

// replicaPatience is how long replicas are waited for: less than the time after
// which reading the answer ends.
func (s *DB) replicaPatience() time.Duration { return s.timeout * 3 / 4 }

// IgnoreNil drops the error that only says that an answer is nil.
func IgnoreNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// Script is a Lua script that touches one key.
type Script = redis.Script

// Reply is what a script answered.
type Reply = redis.Cmd

// NewScript makes a script of Lua source.
func NewScript(source string) *Script { return redis.NewScript(source) }

// Hashes reads several hashes in one trip. One that is not there is empty.
func Hashes(ctx context.Context, r redis.Cmdable, keys ...string) ([]map[string]string, error) {
	pipe := r.Pipeline()
	reads := make([]*redis.MapStringStringCmd, len(keys))
	for i, key := range keys {
		reads[i] = pipe.HGetAll(ctx, key)
	}
	if len(keys) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, err
		}
	}
	hashes := make([]map[string]string, len(keys))
	for i, read := range reads {
		hashes[i] = read.Val()
	}
	return hashes, nil
}

// ValueAndHashes is Hashes with a value read before them, empty if it is not there.
func ValueAndHashes(ctx context.Context, r redis.Cmdable, name string, keys ...string) (value []byte, hashes []map[string]string, err error) {
	pipe := r.Pipeline()
	first := pipe.Get(ctx, name)
	reads := make([]*redis.MapStringStringCmd, len(keys))
	for i, key := range keys {
		reads[i] = pipe.HGetAll(ctx, key)
	}
	_, _ = pipe.Exec(ctx) // says no more than the commands do
	if value, err = first.Bytes(); IgnoreNil(err) != nil {
		return nil, nil, err
	}
	hashes = make([]map[string]string, len(keys))
	for i, read := range reads {
		if hashes[i], err = read.Result(); err != nil {
			return nil, nil, err
		}
	}
	return value, hashes, nil
}

// Mode is "standalone", "sentinel", "cluster", or Options.Mode.
func (s *DB) Mode() string { return s.mode }

// Timeout is Options.Timeout.
func (s *DB) Timeout() time.Duration { return s.timeout }

// Dialed counts the connections opened so far: one that was opened later may lead
// to another server.
func (s *DB) Dialed() uint64 { return s.dialed.Load() }

// Sentinels returns how many Sentinels are configured, and how many of them answered
// when they were last asked.
func (s *DB) Sentinels() (configured, answering int) {
	if s.sentinels == nil {
		return 0, 0
	}
	return len(s.sentinels.members), int(s.sentinels.answering.Load())
}

// Watched reports whether Sentinels may replace the primary.
func (s *DB) Watched() bool { return s.sentinels != nil }

// Client returns the client, for packages that own what they send, and for tests.
func (s *DB) Client() redis.UniversalClient { return s.rdb }

// DropConnections ends the connections to data servers. Commands that run on them
// are tried again on others.
func (s *DB) DropConnections() {
	if s.conns != nil {
		s.conns.drop(func(*connection) bool { return true })
	}
}

// Subscribe listens on a connection that is not dropped with the others when the
// primary is replaced: what it has proven until it falls silent is still true.
func (s *DB) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return s.rdb.Subscribe(context.WithValue(ctx, forFeed{}, true), channels...)
}
