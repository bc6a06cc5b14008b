package tokens

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
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
	// onCommand is told of each command; see OnCommand.
	onCommand atomic.Pointer[func(context.Context, Command)]
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
		if u.TLSConfig == nil && parsed.TLSConfig != nil {
			u.TLSConfig = parsed.TLSConfig
			if o.MasterName != "" || o.Cluster {
				u.TLSConfig.ServerName = "" // each of the servers has a name of its own
			}
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
	s.observeCommands()
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

// write runs a script that changes one key. It returns when Redis has
// acknowledged the change and the configured number of replicas has it, so that
// a failover cannot undo it. Unless the error is nil the change may or may not
// have been made.
func (s *Store) write(ctx context.Context, script *redis.Script, key string, args ...any) (*redis.Cmd, error) {
	if s.wait == 0 || isRestoring(ctx) {
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
	waited := pipe.Do(ctx, "WAIT", s.wait, s.replicaPatience().Milliseconds())
	_, err := pipe.Exec(ctx)
	if err = notNil(err); err != nil {
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
func (s *Store) replicaPatience() time.Duration { return s.timeout * 3 / 4 }

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

// errUnfollowed means that the primary may have been replaced.
var errUnfollowed = errors.New("most Sentinels do not answer, and a replica of the primary that they knew is missing")

// servers returns what tells apart the primaries there are now. One that was
// restarted or promoted, also if it had been the primary before, is another one,
// and may have lost what its predecessor acknowledged. Servers that do not tell
// their run id (the embedded one; INFO forbidden) are left out, as are those of a
// Cluster that do not answer: nothing can be found out about them.
//
// If Redis turns out to be a replica, its connections are dropped, so that the
// next ones may lead to the primary, and the error is errNotPrimary. If the
// Sentinels cannot agree who the primary is, or too few answer and the primary
// cannot be proven otherwise, that is an error as well.
func (s *Store) servers(ctx context.Context) ([]string, error) {
	if c, ok := s.rdb.(*redis.ClusterClient); ok {
		var mu sync.Mutex
		var ids []string
		_ = c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			if server, err := whois(ctx, c); err == nil && server.id != "" {
				mu.Lock()
				defer mu.Unlock()
				ids = append(ids, server.id)
			}
			return nil
		})
		return ids, nil
	}
	quorum := true
	if s.sentinels != nil {
		var err error
		if quorum, err = s.sentinels.ask(ctx); err != nil {
			return nil, err
		}
	}
	server, err := whois(ctx, s.rdb)
	if err != nil {
		return nil, err
	}
	if server.role == "slave" {
		s.conns.drop(func(n *connection) bool { return !n.feed })
		return nil, errNotPrimary
	}
	if s.sentinels != nil {
		s.sentinels.saw(len(server.replicas))
	}
	if !quorum {
		if err := s.followed(ctx, server); err != nil {
			return nil, err
		}
	}
	if server.id == "" {
		return nil, nil
	}
	return []string{server.id}, nil
}

// followed proves, without the Sentinels, that a primary was not replaced before
// this call: it says something to its replicas, and all of them, as many as the
// Sentinels knew, must have heard it. One that was promoted follows it no longer.
// A group without replicas cannot fail over.
func (s *Store) followed(ctx context.Context, before serverInfo) error {
	known := s.sentinels.current().replicas
	want := max(known-1, len(before.replicas))
	switch {
	case known == 0, len(before.replicas) < want:
		return errUnfollowed
	case want == 0:
		return nil
	}
	pipe := s.rdb.Pipeline()
	// It is passed on to replicas as a write is, and a server that is full takes it.
	pipe.Publish(ctx, channelNode, "-")
	pipe.Do(ctx, "WAIT", want, s.replicaPatience().Milliseconds())
	info := pipe.Info(ctx, "server", "replication")
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("asking replicas whom they follow: %w", err)
	}
	after := readInfo(info.Val())
	if after.id != before.id || len(after.replicas) < want {
		return errUnfollowed
	}
	for _, heard := range after.replicas {
		if heard <= before.offset {
			return errUnfollowed
		}
	}
	return nil
}

// serverInfo is what a server says of itself, empty for what it does not tell.
type serverInfo struct {
	// id is the process (run_id) and the history of its data (master_replid), which
	// begins anew when a replica is promoted.
	id   string
	role string
	// offset counts what it has said to its replicas.
	offset int64
	// replicas are those connected, each by what it has confirmed of that.
	replicas []int64
}

// whois asks a server who it is. An error means that it did not answer.
func whois(ctx context.Context, c redis.Cmdable) (serverInfo, error) {
	info, err := c.Info(ctx, "server", "replication").Result()
	if refusal, ok := errors.AsType[redis.Error](err); ok {
		if text := refusal.Error(); strings.HasPrefix(text, "NOPERM") || strings.HasPrefix(text, "ERR") {
			return serverInfo{}, nil // it does not tell
		}
	}
	if err != nil {
		return serverInfo{}, err //nolint:wrapcheck // wrapped by who asked for servers
	}
	return readInfo(info), nil
}

func readInfo(info string) serverInfo {
	var s serverInfo
	var process, data string
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "run_id":
			process = value
		case "role":
			s.role = value
		case "master_replid":
			data = value
		case "master_repl_offset":
			s.offset, _ = strconv.ParseInt(value, 10, 64)
		default:
			if number, ok := strings.CutPrefix(name, "slave"); ok && isNumber(number) {
				s.replicas = append(s.replicas, confirmed(value))
			}
		}
	}
	if process != "" {
		s.id = process + "/" + data
	}
	return s
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// confirmed returns what a replica has confirmed, from a line of INFO such as
// ip=127.0.0.1,port=6380,state=online,offset=42,lag=1; -1 if it is not in step.
func confirmed(line string) int64 {
	offset, online := int64(-1), false
	for field := range strings.SplitSeq(line, ",") {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "state":
			online = value == "online"
		case "offset":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				offset = n
			}
		}
	}
	if !online {
		return -1
	}
	return offset
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
