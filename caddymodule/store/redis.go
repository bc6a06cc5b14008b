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

// Redis keeps the state in Redis 7 or later: a single server, a group watched by
// Sentinels, or a Cluster. Any number of gateways can share it.
//
// All texts may contain placeholders such as `{env.REDIS_URL}` or
// `{file./run/secrets/redis_password}`, which are resolved when the configuration is
// loaded and never shown.
type Redis struct {
	// The URL of a single server: `redis://user:password@host:6379/0`, `rediss://…` for
	// TLS, or `unix:///path`. Other options override its parts. Default:
	// `{env.REDIS_URL}` unless addresses are set.
	URL string `json:"url,omitempty"`
	// The `host:port` of the server, of the Sentinels, or of some nodes of the Cluster.
	Addresses []string `json:"addresses,omitempty"`
	// The name of the group watched by Sentinels, whose addresses are then required.
	// Default: none.
	MasterName string `json:"master_name,omitempty"`
	// Whether the addresses are nodes of a Redis Cluster. Default: false.
	Cluster bool `json:"cluster,omitempty"`
	// The ACL user. Default: Redis's user `default`.
	Username string `json:"username,omitempty"`
	// The password. Default: none.
	Password string `json:"password,omitempty"`
	// The ACL user of the Sentinels. Default: none.
	SentinelUsername string `json:"sentinel_username,omitempty"`
	// The password of the Sentinels. Default: none.
	SentinelPassword string `json:"sentinel_password,omitempty"`
	// The number of the database. A Cluster only has 0. Default: 0.
	DB int `json:"db,omitempty"`
	// The TLS settings of all connections. Default: no TLS unless the URL begins with
	// `rediss://`.
	TLS *TLS `json:"tls,omitempty"`
	// The timeout of connecting, of a command, and of waiting for a free connection,
	// each. Default: 500ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// The maximum number of connections per server. Default: 10 per CPU.
	PoolSize int `json:"pool_size,omitempty"`
	// The number of replicas that must acknowledge a change before it is reported as
	// done. Default: 0, only the primary.
	WaitReplicas int `json:"wait_replicas,omitempty"`

	shared
}

// TLS configures TLS for Redis. The server's certificate is always verified.
type TLS struct {
	// A PEM file with certificate authorities. Default: the system's.
	CA string `json:"ca,omitempty"`
	// PEM files with the client's certificate and key. Default: none.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	// The expected name in the server's certificate. Default: the server's host name.
	ServerName string `json:"server_name,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "meet_gateway.stores.redis", New: func() caddy.Module { return new(Redis) }}
}

// Provision opens the store or shares the open one. It does not connect.
func (s *Redis) Provision(caddy.Context) error {
	o, files, err := s.options()
	if err != nil {
		return fmt.Errorf("redis store: %w", err)
	}
	keyed := o
	keyed.TLS = nil // covered by files
	key, err := pool.Key("redis", []any{keyed, files})
	if err != nil {
		return err
	}
	return s.acquire(key, func() (*pooledStore, error) {
		store, err := tokens.OpenRedis(o)
		if err != nil {
			return nil, err
		}
		return &pooledStore{Store: store, where: whereOf(o)}, nil
	})
}

// whereOf describes the options for logs.
func whereOf(o tokens.RedisOptions) Where {
	w := Where{Kind: "redis", Address: strings.Join(o.Addresses, ","), User: o.Username}
	if u, err := url.Parse(o.URL); err == nil && o.URL != "" {
		w.User = cmp.Or(w.User, u.User.Username())
		w.Address = cmp.Or(w.Address, u.Host, u.Path)
	}
	return w
}

// options resolves placeholders. The result is never encoded. files are what o.TLS was
// made from.
func (s *Redis) options() (o tokens.RedisOptions, files []string, err error) {
	repl := caddy.NewReplacer()
	resolve := func(name, value string) string {
		text, problem := option.Resolve(repl, value)
		if problem != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, problem))
		}
		return text
	}
	o = tokens.RedisOptions{
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
		if o.URL == "" && err == nil {
			err = errors.New("no url: write `store redis <url>` or set REDIS_URL, for example redis://localhost:6379/0")
		}
	}
	if err == nil && s.TLS != nil {
		if o.TLS, files, err = s.TLS.config(repl); err != nil {
			err = fmt.Errorf("tls: %w", err)
		}
	}
	return o, files, err
}

// config reads the files. It also returns their contents and the server's name, by which
// configurations differ.
func (t *TLS) config(repl *caddy.Replacer) (*tls.Config, []string, error) {
	var contents [3][]byte
	for i, file := range []struct{ option, name string }{{"ca", t.CA}, {"certificate", t.Certificate}, {"key", t.Key}} {
		if file.name == "" {
			continue
		}
		var err error
		if contents[i], err = os.ReadFile(repl.ReplaceAll(file.name, "")); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file.option, err)
		}
	}
	ca, certificate, key := contents[0], contents[1], contents[2]
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: repl.ReplaceAll(t.ServerName, "")}
	if t.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, nil, fmt.Errorf("%s contains no certificate", t.CA)
		}
	}
	if (t.Certificate == "") != (t.Key == "") {
		return nil, nil, errors.New("a client certificate and its key must be set together")
	}
	if t.Certificate != "" {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, nil, fmt.Errorf("certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, []string{string(ca), string(certificate), string(key), config.ServerName}, nil
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
		if !option.Holds(s.URL) && !isRedisURL(s.URL) { // not quoted: it may contain a password
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
		return d.Err("a Cluster only has db 0")
	case s.MasterName != "" && len(s.Addresses) == 0:
		return d.Err("master_name needs the addresses of the Sentinels: write `address <host:port...>`")
	}
	return nil
}

// isRedisURL reports whether go-redis accepts the URL.
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
	_ caddyfile.Unmarshaler = (*Redis)(nil)
	_ Store                 = (*Redis)(nil)
)
