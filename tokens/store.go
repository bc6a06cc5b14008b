package tokens

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// DefaultRedisTimeout bounds connecting to Redis, one command, and waiting for
// a free connection, each.
const DefaultRedisTimeout = 500 * time.Millisecond

// RedisOptions tells how to reach Redis: one server (the default), a
// Sentinel-watched group (MasterName) or a Cluster.
type RedisOptions struct {
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
	// Timeout bounds each step of a call. Default: DefaultRedisTimeout.
	Timeout time.Duration
	// PoolSize is the number of connections per server. Default: 10 per CPU.
	PoolSize int
	// WaitReplicas is how many replicas must have acknowledged a revocation or
	// a change before it is reported done (Redis WAIT). Default: 0, the primary alone.
	WaitReplicas int
	// Mode is what [Status] shows instead of how Redis is reached. Default: that.
	Mode string
}

// Store is a handle on Redis, shared by everything in this package.
type Store struct {
	rdb     redis.UniversalClient
	timeout time.Duration
	wait    int
	mode    string
	onClose func() error
}

// quiet discards what go-redis prints to standard error: this room returns
// errors, and the edge logs them once.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(quiet{}) }

// OpenRedis makes a Store. It does not connect: an unreachable Redis shows at
// the first call, as ErrUnavailable.
func OpenRedis(o RedisOptions) (*Store, error) {
	if o.Timeout == 0 {
		o.Timeout = DefaultRedisTimeout
	}
	if o.Timeout < 0 {
		return nil, errors.New("timeout must be positive")
	}
	if o.WaitReplicas < 0 || o.PoolSize < 0 {
		return nil, errors.New("wait_replicas and pool_size must not be negative")
	}
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
	if o.URL != "" {
		parsed, err := redis.ParseURL(o.URL)
		if err != nil {
			return nil, errors.New("redis URL cannot be read: it should look like redis://user:password@host:6379/0") // the URL may hold a password
		}
		if len(u.Addrs) == 0 {
			u.Addrs = []string{parsed.Addr}
		}
		u.Username = firstOf(u.Username, parsed.Username)
		u.Password = firstOf(u.Password, parsed.Password)
		if u.DB == 0 {
			u.DB = parsed.DB
		}
		if u.TLSConfig == nil {
			u.TLSConfig = parsed.TLSConfig
		}
	}
	if len(u.Addrs) == 0 {
		return nil, errors.New("no redis URL or address is set")
	}
	s := &Store{timeout: o.Timeout, wait: o.WaitReplicas, mode: "standalone"}
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
		s.rdb = redis.NewFailoverClient(u.Failover())
	case len(u.Addrs) > 1:
		return nil, errors.New("several addresses need either master_name (Sentinel) or cluster")
	default:
		simple := u.Simple()
		if o.URL != "" && strings.HasPrefix(o.URL, "unix://") {
			simple.Network = "unix"
		}
		s.rdb = redis.NewClient(simple)
	}
	s.mode = firstOf(o.Mode, s.mode)
	return s, nil
}

// OnClose registers what Close does after it has closed the connections. The
// embedded store ends its server there.
func (s *Store) OnClose(f func() error) { s.onClose = f }

// Close ends all connections.
func (s *Store) Close() error {
	err := s.rdb.Close()
	if s.onClose != nil {
		err = errors.Join(err, s.onClose())
	}
	return err
}

// Ping asks Redis for a sign of life. The error is ErrUnavailable.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.rdb.Ping(ctx).Err(); err != nil {
		return unavailable("pinging", err)
	}
	return nil
}

// acknowledged waits until the configured number of replicas has what was
// written before on the same key, so that a failover cannot undo it.
func (s *Store) acknowledged(ctx context.Context, key string) error {
	if s.wait == 0 {
		return nil
	}
	var n int64
	var err error
	if c, ok := s.rdb.(*redis.ClusterClient); ok {
		node, nodeErr := c.MasterForKey(ctx, key)
		if nodeErr != nil {
			return unavailable("finding the primary", nodeErr)
		}
		n, err = node.Wait(ctx, s.wait, s.timeout).Result()
	} else {
		n, err = s.rdb.(*redis.Client).Wait(ctx, s.wait, s.timeout).Result()
	}
	if err != nil {
		return unavailable("waiting for replicas", err)
	}
	if n < int64(s.wait) {
		return unavailable("waiting for replicas", fmt.Errorf("%d of %d acknowledged", n, s.wait))
	}
	return nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
