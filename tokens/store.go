package tokens

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
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
	// dialed counts the connections that were opened.
	dialed atomic.Uint64
	// conns are the open ones, except to a Cluster, whose servers redirect those
	// who ask the wrong one.
	conns *connections
	// sentinels is nil unless they watch Redis.
	sentinels *sentinels
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
		s.conns = newConnections(o.Timeout, u.TLSConfig)
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
		s.conns = newConnections(o.Timeout, u.TLSConfig)
		simple.Dialer = s.conns.dial
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
	if s.sentinels != nil {
		err = errors.Join(err, s.sentinels.close())
	}
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

// withoutReplicas marks the context of writes that no replica has to acknowledge.
type withoutReplicas struct{}

// write runs a script that changes one key. It returns when Redis has
// acknowledged the change and the configured number of replicas has it, so that
// a failover cannot undo it. Unless the error is nil the change may or may not
// have been made.
func (s *Store) write(ctx context.Context, script *redis.Script, key string, args ...any) (*redis.Cmd, error) {
	if s.wait == 0 || ctx.Value(withoutReplicas{}) != nil {
		cmd := script.Run(ctx, s.rdb, []string{key}, args...)
		return cmd, notNil(cmd.Err())
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
func (s *Store) writeReplicated(ctx context.Context, script *redis.Script, key string, args ...any) (*redis.Cmd, error) {
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
	patience := s.timeout * 3 / 4 // less than the time after which reading the answer ends
	waited := pipe.Do(ctx, "WAIT", s.wait, patience.Milliseconds())
	_, err := pipe.Exec(ctx)
	if err = notNil(err); err != nil {
		return cmd, err //nolint:wrapcheck // wrapped by whoever knows what was written
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

// notNil drops the error that only says that an answer is nil.
func notNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// errNotPrimary means that a server is a replica: it may lack what the primary
// has, and takes no writes.
var errNotPrimary = errors.New("the server that is asked is not the primary")

// servers returns what tells apart the primaries there are now. One that was
// restarted or promoted, also if it had been the primary before, is another one,
// and may have lost what its predecessor acknowledged. Servers that do not tell
// their run id (the embedded
// one; INFO forbidden) are left out, as are those that do not answer: nothing
// can be found out about them.
//
// If Redis turns out to be a replica, its connections are dropped, so that the
// next ones may lead to the primary, and the error is errNotPrimary. If the
// Sentinels cannot agree who the primary is, that is an error as well.
func (s *Store) servers(ctx context.Context) ([]string, error) {
	if s.sentinels != nil {
		if err := s.sentinels.ask(ctx); err != nil && !errors.Is(err, errNoSentinel) {
			return nil, err
		}
	}
	if c, ok := s.rdb.(*redis.ClusterClient); ok {
		var mu sync.Mutex
		var ids []string
		_ = c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			if id, _ := whois(ctx, c); id != "" {
				mu.Lock()
				defer mu.Unlock()
				ids = append(ids, id)
			}
			return nil
		})
		return ids, nil
	}
	id, role := whois(ctx, s.rdb)
	if role == "slave" {
		s.conns.drop(func(n *connection) bool { return !n.feed })
		return nil, errNotPrimary
	}
	if id == "" {
		return nil, nil
	}
	return []string{id}, nil
}

// whois returns a server's identity and role, "" for what it does not tell. The
// identity is the process (run_id) and the history of its data (master_replid),
// which begins anew when a replica is promoted.
func whois(ctx context.Context, c redis.Cmdable) (id, role string) {
	info, err := c.Info(ctx, "server", "replication").Result()
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, "run_id:"); ok {
			id = strings.TrimSpace(v)
		}
		if v, ok := strings.CutPrefix(line, "master_replid:"); ok && id != "" {
			id += "/" + strings.TrimSpace(v)
		}
		if v, ok := strings.CutPrefix(line, "role:"); ok {
			role = strings.TrimSpace(v)
		}
	}
	return id, role
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
