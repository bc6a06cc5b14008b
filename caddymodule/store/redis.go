// SPDX-License-Identifier: MIT

package store

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/meet-gateway/meet-gateway/caddymodule/option"
	"github.com/meet-gateway/meet-gateway/caddymodule/pool"
	"github.com/meet-gateway/meet-gateway/tokens"
)

func init() {
	caddy.RegisterModule(Redis{})
}

// Redis keeps the state in Redis 7 or later: one server, a group watched by
// Sentinels, or a Cluster. Any number of gateways share it.
//
// All texts may hold placeholders such as `{env.REDIS_URL}` or
// `{file./run/secrets/redis_password}`, which are resolved when the
// configuration is loaded and never shown.
type Redis struct {
	// `redis://user:password@host:6379/0`, or `rediss://` for TLS, or
	// `unix:///path`. The other options override its parts.
	// Default: `{env.REDIS_URL}`, unless addresses are given.
	URL string `json:"url,omitempty"`
	// `host:port` of the server, of the Sentinels, or of some nodes of the Cluster.
	Addresses []string `json:"addresses,omitempty"`
	// The name under which Sentinels watch the group. The addresses are then those
	// of the Sentinels.
	MasterName string `json:"master_name,omitempty"`
	// Whether the addresses are nodes of a Redis Cluster.
	Cluster bool `json:"cluster,omitempty"`
	// The ACL user. Default: Redis's default user.
	Username string `json:"username,omitempty"`
	// Its password.
	Password string `json:"password,omitempty"`
	// The ACL user at the Sentinels, if they have one.
	SentinelUsername string `json:"sentinel_username,omitempty"`
	// Its password.
	SentinelPassword string `json:"sentinel_password,omitempty"`
	// The number of the database. Default: 0. A Cluster has no other.
	DB int `json:"db,omitempty"`
	// TLS for all connections. Default: none, unless the URL begins with `rediss://`.
	TLS *TLS `json:"tls,omitempty"`
	// The bound on connecting, on one command and on waiting for a free
	// connection, each. Default: 500ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// The number of connections per server. Default: 10 per CPU.
	PoolSize int `json:"pool_size,omitempty"`
	// How many replicas must have acknowledged a revocation or change before it is
	// reported done. Default: 0, the primary alone.
	WaitReplicas int `json:"wait_replicas,omitempty"`

	key    string
	pooled *pooledStore
	where  Where
}

// TLS is TLS towards Redis. The server's certificate is always verified.
type TLS struct {
	// A PEM file of certificate authorities. Default: the system's.
	CA string `json:"ca,omitempty"`
	// PEM files of the client's certificate and key. Default: none.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	// The name in the server's certificate. Default: the host that is dialled.
	ServerName string `json:"server_name,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "meet_gateway.stores.redis", New: func() caddy.Module { return new(Redis) }}
}

// Provision resolves the options and takes a handle. It does not connect.
func (s *Redis) Provision(caddy.Context) error {
	o, err := s.options()
	if err != nil {
		return err
	}
	s.key, err = s.poolKey(o)
	if err != nil {
		return err
	}
	val, _, err := open.LoadOrNew(s.key, func() (caddy.Destructor, error) {
		store, err := tokens.OpenRedis(o)
		if err != nil {
			return nil, err
		}
		return &pooledStore{Store: store}, nil
	})
	if err != nil {
		return fmt.Errorf("opening the redis store: %w", err)
	}
	s.pooled, s.where = val.(*pooledStore), whereOf(o)
	return nil
}

// whereOf takes addresses and the user out of the options.
func whereOf(o tokens.RedisOptions) Where {
	w := Where{Kind: "redis", Address: strings.Join(o.Addresses, ","), User: o.Username}
	if u, err := url.Parse(o.URL); err == nil && o.URL != "" {
		w.User = cmp.Or(w.User, u.User.Username())
		w.Address = cmp.Or(w.Address, u.Host, u.Path)
	}
	return w
}

// Where implements Store.
func (s *Redis) Where() Where { return s.where }

// Cleanup gives the handle back. It stays in its field: the check at the start may
// still run.
func (s *Redis) Cleanup() error {
	if s.pooled == nil {
		return nil
	}
	_, err := open.Delete(s.key)
	return err
}

// Tokens implements Store.
func (s *Redis) Tokens() *tokens.Store { return s.pooled.Store }

// Key implements Store.
func (s *Redis) Key() string { return s.key }

// Secret implements Store: Redis brings none.
func (*Redis) Secret() []byte { return nil }

// options resolves placeholders into options that never go back into JSON.
func (s *Redis) options() (tokens.RedisOptions, error) {
	repl := caddy.NewReplacer()
	var problem error
	resolve := func(name, value string) string {
		text, err := option.Resolve(repl, value)
		if err != nil {
			problem = errors.Join(problem, fmt.Errorf("redis store: %s: %w", name, err))
		}
		return text
	}
	o := tokens.RedisOptions{
		URL:              resolve("url", s.URL),
		MasterName:       resolve("master_name", s.MasterName),
		Cluster:          s.Cluster,
		Username:         resolve("username", s.Username),
		Password:         resolve("password", s.Password),
		SentinelUsername: resolve("sentinel_username", s.SentinelUsername),
		SentinelPassword: resolve("sentinel_password", s.SentinelPassword),
		DB:               s.DB,
		Timeout:          time.Duration(s.Timeout),
		PoolSize:         s.PoolSize,
		WaitReplicas:     s.WaitReplicas,
	}
	for _, address := range s.Addresses {
		o.Addresses = append(o.Addresses, resolve("address", address))
	}
	if len(s.Addresses) == 0 {
		if s.URL == "" {
			o.URL = resolve("url", "{env.REDIS_URL}")
		}
		if o.URL == "" && problem == nil {
			problem = errors.New("redis store: no url: write `store redis <url>` or set REDIS_URL, for example redis://localhost:6379/0")
		}
	}
	if problem != nil {
		return o, problem
	}
	if s.TLS != nil {
		config, err := s.TLS.config(repl)
		if err != nil {
			return o, fmt.Errorf("redis store: tls: %w", err)
		}
		o.TLS = config
	}
	return o, nil
}

// poolKey is a hash over all that makes a handle what it is, certificates
// included, so that a change of any opens another one.
func (s *Redis) poolKey(o tokens.RedisOptions) (string, error) {
	var files []string
	if s.TLS != nil {
		repl := caddy.NewReplacer()
		for _, name := range []string{s.TLS.CA, s.TLS.Certificate, s.TLS.Key} {
			content := ""
			if name != "" {
				b, err := os.ReadFile(repl.ReplaceAll(name, ""))
				if err != nil {
					return "", fmt.Errorf("redis store: tls: %w", err)
				}
				content = string(b)
			}
			files = append(files, content)
		}
		files = append(files, o.TLS.ServerName)
	}
	o.TLS = nil // told by files
	return pool.Key("redis", []any{o, files})
}

func (t *TLS) config(repl *caddy.Replacer) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: repl.ReplaceAll(t.ServerName, "")}
	if t.CA != "" {
		pem, err := os.ReadFile(repl.ReplaceAll(t.CA, ""))
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", t.CA)
		}
	}
	if (t.Certificate == "") != (t.Key == "") {
		return nil, errors.New("a client certificate and its key belong together")
	}
	if t.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(repl.ReplaceAll(t.Certificate, ""), repl.ReplaceAll(t.Key, ""))
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store redis [<url>] {
//	    address           <host:port...>
//	    master_name       <name>
//	    cluster
//	    username          <user>
//	    password          <password>
//	    sentinel_username <user>
//	    sentinel_password <password>
//	    db                <number>
//	    tls {
//	        ca          <file>
//	        certificate <file> <key file>
//	        server_name <name>
//	    }
//	    timeout           <duration>
//	    pool_size         <number>
//	    wait_replicas     <number>
//	}
func (s *Redis) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the store's name
	if d.NextArg() {
		s.URL = d.Val()
		if d.NextArg() {
			return d.ArgErr()
		}
		if !option.Holds(s.URL) && !isRedisURL(s.URL) { // not repeated: it may hold a password
			return d.Err("the address of redis must look like redis://user:password@host:6379/0, or begin with rediss:// for TLS, or be unix:///path")
		}
	}
	err := option.Block(d,
		option.Once("address", s.unmarshalAddresses),
		option.Once("master_name", option.One(&s.MasterName)),
		option.Once("cluster", option.Flag(&s.Cluster)),
		option.Once("username", option.One(&s.Username)),
		option.Once("password", option.One(&s.Password)),
		option.Once("sentinel_username", option.One(&s.SentinelUsername)),
		option.Once("sentinel_password", option.One(&s.SentinelPassword)),
		option.Once("db", option.Number(&s.DB)),
		option.Once("tls", s.unmarshalTLS),
		option.Once("timeout", option.Duration(&s.Timeout)),
		option.Once("pool_size", option.Positive(&s.PoolSize)),
		option.Once("wait_replicas", option.Number(&s.WaitReplicas)),
	)
	if err != nil {
		return err
	}
	switch {
	case s.Cluster && s.MasterName != "":
		return d.Err("cluster and master_name exclude each other: the addresses are nodes of a Cluster, or Sentinels")
	case s.Cluster && s.DB != 0:
		return d.Err("a Cluster has only the db 0")
	case s.MasterName != "" && len(s.Addresses) == 0:
		return d.Err("master_name needs the addresses of the Sentinels: write `address <host:port...>`")
	}
	return nil
}

// isRedisURL reports whether go-redis could read an address.
func isRedisURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	switch u.Scheme {
	case "redis", "rediss":
		return true
	case "unix":
		return u.Path != ""
	}
	return false
}

func (s *Redis) unmarshalAddresses(d *caddyfile.Dispenser) error {
	if err := option.All(&s.Addresses)(d); err != nil {
		return err
	}
	for _, address := range s.Addresses {
		if _, _, err := net.SplitHostPort(address); err != nil && !option.Holds(address) {
			return d.Errf("address %q must be host:port", address)
		}
	}
	return nil
}

func (s *Redis) unmarshalTLS(d *caddyfile.Dispenser) error {
	if err := option.None(d); err != nil {
		return err
	}
	s.TLS = new(TLS)
	return option.Block(d,
		option.Once("ca", option.One(&s.TLS.CA)),
		option.Once("certificate", option.Pair(&s.TLS.Certificate, &s.TLS.Key)),
		option.Once("server_name", option.One(&s.TLS.ServerName)),
	)
}

// Interface guards
var (
	_ caddy.Module          = (*Redis)(nil)
	_ caddy.Provisioner     = (*Redis)(nil)
	_ caddy.CleanerUpper    = (*Redis)(nil)
	_ caddyfile.Unmarshaler = (*Redis)(nil)
	_ Store                 = (*Redis)(nil)
)
