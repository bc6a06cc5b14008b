// SPDX-License-Identifier: MIT

package tests

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	adminwire "github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

const (
	doctorSecret = "Doctor-1b7RkZ0qTn5wYc8Jd3Xv9LsPfH2gUe6A"
	doctorMail   = "canary.of.the.doctor@example.com"
)

// patient is a gateway set up as in docs/operations.md, with its own Redis and Meet, for the
// injection of faults.
type patient struct {
	*gatewaytest.Gateway
	redis *redistest.Server
	meet  *gatewaytest.Meet
	// answer is the current behaviour of Meet.
	answer atomic.Pointer[http.Handler]
	config gatewaytest.Config
	app    *gatewaytest.Client
}

// ill is a Meet behind a faulty handler.
type ill = func(meet http.Handler) http.Handler

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{redis: redistest.Standalone(t, "--appendonly", "yes")}
	require.NoError(t, p.redis.Client().Do(t.Context(), redistest.DocumentedUser(t, "meet-gateway")...).Err())
	p.meet = strictMeet(t, func(meet http.Handler) http.Handler {
		p.answer.Store(&meet)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*p.answer.Load()).ServeHTTP(w, r) })
	})
	p.meet.AddUser(sandbox.User{Sub: "canary", Email: doctorMail, Active: true})
	p.config = gatewaytest.Config{
		Global:  "store redis " + p.address(p.redis.Addr()) + "\nsecret {file." + secretFile(t, doctorSecret) + "}\nstaleness 2s",
		Gate:    p.meet.Backend(),
		Servers: "trusted_proxies static private_ranges",
	}
	p.Gateway = gatewaytest.Start(t, p.config)
	p.app = p.AddApplication(func(a *tokens.Application) { a.Domains = []string{"example.com"} })
	p.is(t)
	return p
}

// address returns the address of Redis for the documented user.
func (*patient) address(server string) string {
	return "redis://meet-gateway:" + redistest.ACLPassword + "@" + server
}

func secretFile(t *testing.T, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(secret), 0o600))
	return path
}

// diagnosis returns the doctor's report, and checks that it contains nothing secret.
func (p *patient) diagnosis(t *testing.T) adminwire.Diagnosis {
	t.Helper()
	answer := p.Do(http.MethodGet, "http://"+p.Admin+"/meet-gateway/doctor", "")
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	canaries := []string{doctorSecret, redistest.ACLPassword, gatewaytest.MeetClientSecret, doctorMail, "canary"}
	if p.app != nil {
		canaries = append(canaries, p.app.Secret)
	}
	for _, canary := range canaries {
		require.NotContains(t, answer.Body, canary)
	}
	var d adminwire.Diagnosis
	require.NoError(t, json.Unmarshal([]byte(answer.Body), &d))
	require.Equal(t, len(d.Findings) == 0, d.Healthy)
	return d
}

// is waits until the doctor reports exactly these checks, and returns the findings. It
// ignores findings about a slow test machine.
func (p *patient) is(t *testing.T, want ...string) []adminwire.Finding {
	t.Helper()
	var d adminwire.Diagnosis
	for deadline := time.Now().Add(30 * time.Second); ; {
		d = p.diagnosis(t)
		if !slices.Contains(want, "redis_latency") {
			d.Findings = slices.DeleteFunc(d.Findings, func(f adminwire.Finding) bool { return f.Check == "redis_latency" })
		}
		found := []string{}
		for _, f := range d.Findings {
			found = append(found, f.Check)
			require.NotEmpty(t, f.Cause)
			require.NotEmpty(t, f.Fix)
		}
		if slices.Equal(found, want) {
			return d.Findings
		}
		require.True(t, time.Now().Before(deadline), "want %q: %+v", want, d)
	}
}

// set changes a setting of Redis.
func (p *patient) set(t *testing.T, name string, value any) {
	t.Helper()
	require.NoError(t, p.redis.Client().Do(t.Context(), "CONFIG", "SET", name, value).Err())
}

// another starts a second gateway of the installation and returns a function that stops
// it.
func (p *patient) another(t *testing.T, change func(*tokens.Options)) (leave func()) {
	t.Helper()
	s, err := tokens.OpenRedis(tokens.RedisOptions{Addresses: []string{p.redis.Addr()}, Timeout: 10 * time.Second})
	require.NoError(t, err)
	o := tokens.Options{Store: s, Secrets: [][]byte{[]byte(doctorSecret)}, Version: p.Authority().Self().Version}
	change(&o)
	a, err := tokens.New(o)
	require.NoError(t, err)
	a.Start()
	leave = func() {
		_ = a.Close()
		_ = s.Close()
	}
	t.Cleanup(leave)
	return leave
}

// The doctor reports each fault of Redis, of other gateways and of applications, and nothing
// else. After the repair, it reports nothing.
func TestDoctor_RedisAndGateways(t *testing.T) {
	p := newPatient(t)
	ctx := t.Context()
	client := p.redis.Client()
	for _, c := range []struct {
		check string
		harm  func(t *testing.T) (heal func())
	}{
		{"redis_no_aof", func(t *testing.T) func() {
			p.set(t, "appendonly", "no")
			return func() { p.set(t, "appendonly", "yes") }
		}},
		{"redis_eviction", func(t *testing.T) func() {
			p.set(t, "maxmemory-policy", "allkeys-lru")
			return func() { p.set(t, "maxmemory-policy", "noeviction") }
		}},
		{"redis_memory", func(t *testing.T) func() {
			info, err := client.InfoMap(ctx, "memory").Result()
			require.NoError(t, err)
			var used int64
			_, err = fmt.Sscan(info["Memory"]["used_memory"], &used)
			require.NoError(t, err)
			p.set(t, "maxmemory", used*10/9)
			return func() { p.set(t, "maxmemory", 0) }
		}},
		{"gateways_versions", func(t *testing.T) func() {
			return p.another(t, func(o *tokens.Options) { o.Version = "v0.0.1" })
		}},
		{"keys_differ", func(t *testing.T) func() {
			return p.another(t, func(o *tokens.Options) { o.Secrets = append(o.Secrets, []byte("another-secret-0123456789-0123456789")) })
		}},
		{"limits_gateways", func(t *testing.T) func() {
			first, second := p.another(t, func(*tokens.Options) {}), p.another(t, func(*tokens.Options) {})
			return func() {
				first()
				second()
			}
		}},
		{"clock", func(t *testing.T) func() { return p.announce(t, 0, 30) }},
		{"gateways_silent", func(t *testing.T) func() { return p.announce(t, 5*time.Minute, 0) }},
		{"application_any_domain", func(t *testing.T) func() {
			return p.application(t, func(*tokens.Application) {})
		}},
		{"application_powerless", func(t *testing.T) func() {
			return p.application(t, func(a *tokens.Application) { a.Domains, a.Scopes = []string{"example.com"}, nil })
		}},
		{"application_secret_ends", func(t *testing.T) func() {
			app := p.AddApplication(func(a *tokens.Application) { a.Domains = []string{"example.com"} })
			p.Token(app, doctorMail)
			_, _, err := p.Authority().RotateSecret(ctx, app.ID, 0, 7*24*time.Hour)
			require.NoError(t, err)
			p.Token(app, doctorMail) // the integrator still uses the old secret
			return func() { require.NoError(t, p.Authority().DeleteApplication(ctx, app.ID, 0)) }
		}},
		{"application_idle", func(t *testing.T) func() {
			s, err := tokens.OpenRedis(tokens.RedisOptions{Addresses: []string{p.redis.Addr()}, Timeout: 10 * time.Second})
			require.NoError(t, err)
			defer s.Close()
			long := time.Now().AddDate(0, 0, -91)
			a, err := tokens.New(tokens.Options{Store: s, Secrets: [][]byte{[]byte(doctorSecret)}, Now: func() time.Time { return long }})
			require.NoError(t, err)
			app, _, err := a.CreateApplication(ctx, tokens.Application{Name: "Idle", Active: true, Domains: []string{"example.com"}, Scopes: tokens.Scopes{tokens.ScopeRoomsList}})
			require.NoError(t, err)
			return func() { require.NoError(t, p.Authority().DeleteApplication(ctx, app.ID, 0)) }
		}},
		{"application_alias_lost", func(t *testing.T) func() {
			heal := p.application(t, func(a *tokens.Application) { a.Domains, a.Aliases = []string{"example.com"}, []string{"lost-alias"} })
			keys, err := client.Keys(ctx, "mg1:*lost-alias*").Result()
			require.NoError(t, err)
			require.Len(t, keys, 1)
			require.NoError(t, client.Del(ctx, keys...).Err())
			return heal
		}},
		{"redis_replica", func(t *testing.T) func() {
			p.redis.SetReadOnly(t, true)
			return func() { p.redis.SetReadOnly(t, false) }
		}},
	} {
		t.Run(c.check, func(t *testing.T) {
			heal := c.harm(t)
			p.is(t, c.check)
			heal()
			p.is(t)
		})
	}
}

// announce adds a gateway to the list, with an old last heartbeat or a clock that is ahead.
func (p *patient) announce(t *testing.T, ago time.Duration, ahead float64) (leave func()) {
	t.Helper()
	self := p.Authority().Self()
	self.ClockAheadSeconds = ahead
	entry, err := json.Marshal(self)
	require.NoError(t, err)
	now, err := p.redis.Client().Time(t.Context()).Result()
	require.NoError(t, err)
	require.NoError(t, p.redis.Client().HSet(t.Context(), "mg1:gateways", "another", fmt.Sprintf("%d %s", now.Add(-ago).UnixMicro(), entry)).Err())
	return func() {
		require.NoError(t, p.redis.Client().HDel(context.WithoutCancel(t.Context()), "mg1:gateways", "another").Err())
	}
}

func (p *patient) application(t *testing.T, change func(*tokens.Application)) (remove func()) {
	t.Helper()
	app := p.AddApplication(change)
	return func() {
		require.NoError(t, p.Authority().DeleteApplication(context.WithoutCancel(t.Context()), app.ID, 0))
	}
}

// The doctor names each command, key and channel that the Redis user lacks.
func TestDoctor_PermissionsOneByOne(t *testing.T) {
	p := newPatient(t)
	acl := func(t *testing.T, rules ...any) {
		t.Helper()
		require.NoError(t, p.redis.Client().Do(t.Context(), append([]any{"ACL", "SETUSER", "meet-gateway"}, rules...)...).Err())
	}
	for _, command := range []string{"GET", "HSET", "ZRANGEBYLEX", "EVAL", "EVALSHA", "SCAN", "PUBLISH", "SUBSCRIBE", "WAIT", "PING", "INFO"} { // package tokens tests every command
		t.Run(command, func(t *testing.T) {
			acl(t, "-"+strings.ToLower(command))
			found := p.is(t, "redis_permissions")
			require.Contains(t, found[0].Cause, "the command "+command)
			require.NotContains(t, found[0].Cause, ",")
			acl(t, "+"+strings.ToLower(command))
		})
	}
	t.Run("keys", func(t *testing.T) {
		acl(t, "resetkeys", "~other:*")
		require.Contains(t, p.is(t, "redis_permissions")[0].Cause, "the keys mg1:*")
		acl(t, "resetkeys", "~mg1:*")
	})
	t.Run("channels", func(t *testing.T) {
		acl(t, "resetchannels")
		require.Contains(t, p.is(t, "redis_permissions")[0].Cause, "the channels mg1:*")
		acl(t, "resetchannels", "&mg1:*")
	})
	p.is(t)
}

// The doctor reports faults in Meet's answers.
func TestDoctor_Meet(t *testing.T) {
	p := newPatient(t)
	healthy := *p.answer.Load()
	with := func(change func(*sandbox.Settings)) ill {
		return func(http.Handler) http.Handler {
			s := p.meet.Settings()
			change(&s)
			return p.meet.With(s)
		}
	}
	says := func(status int, contentType, body string) ill {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				w.WriteHeader(status)
				_, _ = w.Write([]byte(body))
			})
		}
	}
	for _, c := range []struct {
		name, check string
		ill         ill
	}{
		{"wrong Host", "meet_host", with(func(s *sandbox.Settings) { s.AllowedHosts = []string{"meet.example.com"} })},
		{"no X-Forwarded-Proto", "meet_https", func(meet http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("X-Forwarded-Proto")
				meet.ServeHTTP(w, r)
			})
		}},
		{"no slash", "meet_redirects", func(meet http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.URL.Path = strings.TrimSuffix(r.URL.Path, "/")
				meet.ServeHTTP(w, r)
			})
		}},
		{"API off", "meet_api_off", with(func(s *sandbox.Settings) { s.ExternalAPIEnabled = false })},
		{"applications off", "meet_api_off", with(func(s *sandbox.Settings) { s.ApplicationEnabled = false })},
		{"a proxy without Meet", "meet_broken", says(http.StatusBadGateway, "text/html", "<html>")},
		{"the frontend", "meet_another_server", says(http.StatusOK, "text/html", "<html>")},
		{"another version", "meet_contract", says(http.StatusBadRequest, "application/json", `{"detail":"client_id is missing"}`)},
		{"no answer", "meet_unreachable", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}},
		{"clock", "meet_clock", func(meet http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat))
				meet.ServeHTTP(w, r)
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sick := c.ill(healthy)
			p.answer.Store(&sick)
			require.Equal(t, "meet.example.org", p.is(t, c.check)[0].About)
			p.answer.Store(&healthy)
			p.is(t)
		})
	}
}

// The doctor reports failures of requests in the last hour.
func TestDoctor_FailedRequests(t *testing.T) {
	p := newPatient(t)
	healthy := *p.answer.Load()
	with := func(change func(*sandbox.Settings)) {
		s := p.meet.Settings()
		change(&s)
		var meet http.Handler = p.meet.With(s)
		p.answer.Store(&meet)
	}
	rooms := func(t *testing.T, mail string) {
		t.Helper()
		a := p.TokenRequest(p.app, mail)
		if token, ok := a.JSON(t)["access_token"].(string); ok {
			p.Do(http.MethodGet, roomsPath, "", "Authorization", gatewaytest.Bearer(token))
		}
	}
	for _, c := range []struct {
		check string
		harm  func(t *testing.T, mail string)
	}{
		{"meet_audience", func(t *testing.T, mail string) {
			with(func(s *sandbox.Settings) { s.JWTAudience = new(string) })
			rooms(t, mail)
		}},
		{"meet_token_lifetime", func(t *testing.T, mail string) {
			with(func(s *sandbox.Settings) { s.JWTExpiration = 10 * time.Minute })
			rooms(t, mail)
		}},
		{"meet_token_lifetime", func(t *testing.T, mail string) { // issued with the expiry in the past
			with(func(s *sandbox.Settings) { s.JWTExpiration = 0 })
			rooms(t, mail)
		}},
		{"meet_provisioning", func(t *testing.T, _ string) { rooms(t, "nobody.canary@example.com") }},
		{"meet_duplicate_mails", func(t *testing.T, _ string) { rooms(t, "dup@example.com") }},
		{"meet_page_size", func(t *testing.T, mail string) {
			with(func(s *sandbox.Settings) { s.PageSize = 5 })
			owner := p.meet.AddUser(sandbox.User{Sub: "owner of " + mail, Email: "owner." + mail, Active: true})
			for i := range 7 {
				p.meet.AddRoom(sandbox.Room{ID: roomID(i), Slug: fmt.Sprint("room-", i), Roles: map[string]sandbox.Role{owner.ID: sandbox.Owner}, Configuration: map[string]any{}})
			}
			rooms(t, "owner."+mail)
		}},
		{"meet_refusals", func(t *testing.T, mail string) { // Meet's servers have different keys
			with(func(s *sandbox.Settings) { s.JWTIssuer = "before" })
			token := p.Token(p.app, mail)
			with(func(s *sandbox.Settings) { s.JWTIssuer = "after" })
			meet := *p.answer.Load()
			var split http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/token/") {
					healthy.ServeHTTP(w, r)
					return
				}
				meet.ServeHTTP(w, r)
			})
			p.answer.Store(&split)
			p.Do(http.MethodGet, roomsPath, "", "Authorization", gatewaytest.Bearer(token))
		}},
	} {
		t.Run(c.check, func(t *testing.T) {
			p.Reload(p.config) // a new handler has no recorded failures
			p.is(t)
			mail := fmt.Sprintf("u%d@example.com", time.Now().UnixNano()) // Meet's tokens for other users are cached
			p.meet.AddUser(sandbox.User{Sub: mail, Email: mail, Active: true})
			c.harm(t, mail)
			p.answer.Store(&healthy)
			require.NotContains(t, p.is(t, c.check)[0].Cause, mail)
		})
	}
}

// The doctor reports mistakes in the configuration.
func TestDoctor_Configuration(t *testing.T) {
	p := newPatient(t)
	t.Setenv("DOCTOR_SECRET", doctorSecret)
	global := func(old, replaced string) gatewaytest.Config {
		c := p.config
		require.Contains(t, c.Global, old)
		c.Global = strings.Replace(c.Global, old, replaced, 1)
		return c
	}
	secretLine := "secret {file." + strings.TrimSuffix(strings.Split(p.config.Global, "secret {file.")[1], "}\nstaleness 2s") + "}"
	plain := p.config
	plain.Servers = ""
	nobody := p.config
	nobody.Servers = "trusted_proxies static"
	bare := p.config
	bare.Gate = strings.Replace(bare.Gate, "credentials "+gatewaytest.MeetClientID+" "+gatewaytest.MeetClientSecret, "", 1)
	strict := p.config
	strict.Servers += "\ntrusted_proxies_strict"
	weak := strings.Repeat("ab", 20)
	for _, c := range []struct {
		name   string
		config gatewaytest.Config
		want   []string
	}{
		{"from {$NAME}", global(secretLine, "secret {$DOCTOR_SECRET}"), []string{"secret_in_configuration"}},
		{"from {env.NAME}", global(secretLine, "secret {env.DOCTOR_SECRET}"), nil},
		{"plain HTTP", plain, []string{"http_plain"}},
		{"plain HTTP, an empty list of proxies", nobody, []string{"http_plain"}},
		{"no credentials", bare, []string{"meet_credentials"}},
		{"missing replicas", global(redistest.ACLPassword+"@"+p.redis.Addr(), redistest.ACLPassword+"@"+p.redis.Addr()+" {\nwait_replicas 1\n}"), []string{"redis_replicas"}},
		{"trusted proxies, strict", strict, nil},
		{"unchanged", p.config, nil},
		{"embedded", gatewaytest.Config{Global: "store embedded", Gate: p.config.Gate, Servers: p.config.Servers}, []string{"store_embedded"}},
		{"trial configuration", gatewaytest.Config{}, nil},
		{"a wrong password", global(redistest.ACLPassword, "wrong-canary"), []string{"redis_unusable"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.Reload(c.config)
			p.is(t, c.want...)
		})
	}
	t.Run("admin endpoint", func(t *testing.T) {
		file := p.Caddyfile(p.config)
		_, port, err := net.SplitHostPort(p.Admin)
		require.NoError(t, err)
		require.NoError(t, p.Load(strings.Replace(file, "admin "+p.Admin, "admin 0.0.0.0:"+port, 1)))
		p.is(t, "admin_open")
		p.Reload(p.config)
		p.is(t)
	})
	t.Run("a weak secret", func(t *testing.T) {
		require.NoError(t, p.redis.Client().FlushAll(t.Context()).Err())
		p.Reload(global(secretLine, "secret {file."+secretFile(t, weak)+"}"))
		p.is(t, "secret_weak")
	})
}

// The doctor reports a gateway with a wrong secret.
func TestDoctor_AnotherSecret(t *testing.T) {
	p := newPatient(t)
	p.another(t, func(o *tokens.Options) { o.Secrets = [][]byte{[]byte("another-secret-0123456789-0123456789")} })
	require.Contains(t, p.is(t, "keys_missing")[0].About, "key ")
}

// The doctor reports a network that is slow, drops the feed, or is down.
func TestDoctor_Network(t *testing.T) {
	p := newPatient(t)
	network := redistest.Proxied(t, p.redis)
	through := p.config
	through.Global = strings.Replace(through.Global, p.redis.Addr(), network.Addr(), 1)
	p.Reload(through)
	p.is(t)
	network.Latency(t, 80*time.Millisecond)
	p.is(t, "redis_latency")
	network.Restore(t)
	p.is(t)
	network.MuteFeeds(t)
	p.is(t, "redis_feed")
	network.Restore(t)
	p.is(t)
	// The doctor takes less than five seconds even if nothing answers.
	network.Silent(t)
	meet := *p.answer.Load()
	gone := make(chan struct{})
	var silent http.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gone:
		case <-r.Context().Done():
		}
	})
	p.answer.Store(&silent)
	began := time.Now()
	p.diagnosis(t)
	require.Less(t, time.Since(began), 5*time.Second)
	p.is(t, "redis_unusable", "meet_unreachable")
	close(gone)
	p.answer.Store(&meet)
	network.Restore(t)
	p.is(t)
	p.redis.Stop(t)
	p.is(t, "redis_unusable")
}

// The doctor reports that a primary accepts writes without replicas, and a replica without the
// user.
func TestDoctor_Sentinels(t *testing.T) {
	group := redistest.SentinelGroup(t, 1, "--appendonly", "yes")
	meet := strictMeet(t, nil)
	p := &patient{meet: meet}
	config := gatewaytest.Config{
		Global: "store redis {\naddress " + strings.Join(group.Addrs(), " ") + "\nmaster_name " + redistest.MasterName + "\n}\nsecret {file." + secretFile(t, doctorSecret) + "}",
		Gate:   meet.Backend(), Servers: "trusted_proxies static private_ranges",
	}
	p.Gateway = gatewaytest.Start(t, config)
	p.is(t, "redis_min_replicas")
	master := group.Master(t)
	master.RequireReplicas(t, 1)
	p.is(t)

	require.NoError(t, master.Client().Do(t.Context(), redistest.DocumentedUser(t, "meet-gateway")...).Err())
	config.Global = strings.Replace(config.Global, "master_name", "username meet-gateway\npassword "+redistest.ACLPassword+"\nmaster_name", 1)
	p.Reload(config)
	replica := group.Data[slices.IndexFunc(group.Data, func(s *redistest.Server) bool { return s != master })]
	found := p.is(t, "redis_failover")[0]
	require.Equal(t, replica.Addr(), found.About)
	require.Contains(t, found.Cause, "WRONGPASS")
	require.Contains(t, found.Fix, "ACL SETUSER")
	require.NoError(t, replica.Client().Do(t.Context(), redistest.DocumentedUser(t, "meet-gateway")...).Err())
	p.is(t)
}

// The doctor names the server of a Cluster that is misconfigured, or that refuses the gateway. So
// does readiness, and the log.
func TestDoctor_Cluster(t *testing.T) {
	p := new(patient)
	cluster := redistest.Cluster(t)
	configure := func(t *testing.T, node *redistest.Server, args ...any) {
		t.Helper()
		require.NoError(t, node.Client().Do(t.Context(), args...).Err())
	}
	user := redistest.DocumentedUser(t, "meet-gateway")
	var replicas []*redistest.Server
	for _, node := range cluster.Nodes {
		configure(t, node, user...)
		configure(t, node, "CONFIG", "SET", "appendonly", "yes")
		replicas = append(replicas, cluster.AddReplica(t, node))
	}
	p.meet = strictMeet(t, nil)
	p.Gateway = gatewaytest.Start(t, gatewaytest.Config{
		Global: "store redis {\ncluster\naddress " + strings.Join(cluster.Addrs(), " ") + "\nusername meet-gateway\npassword " + redistest.ACLPassword +
			"\n}\nsecret {file." + secretFile(t, doctorSecret) + "}\nstaleness 2s",
		Gate: p.meet.Backend(), Servers: "trusted_proxies static private_ranges",
	})
	for _, f := range p.is(t, "redis_failover", "redis_failover", "redis_failover") {
		require.Contains(t, f.Cause, "redis refuses: WRONGPASS")
		require.True(t, slices.ContainsFunc(replicas, func(s *redistest.Server) bool { return s.Addr() == f.About }), f.About)
	}
	for _, replica := range replicas {
		configure(t, replica, user...)
	}
	p.is(t)
	t.Run("a replica without a permission", func(t *testing.T) {
		configure(t, replicas[2], "ACL", "SETUSER", "meet-gateway", "-get")
		found := p.is(t, "redis_failover")[0]
		require.Equal(t, replicas[2].Addr(), found.About)
		require.Contains(t, found.Cause, "the command GET")
		configure(t, replicas[2], user...)
		p.is(t)
	})
	t.Run("a primary without a replica", func(t *testing.T) {
		replicas[0].Stop(t)
		require.Equal(t, cluster.Nodes[0].Addr(), p.is(t, "redis_replicas")[0].About)
		replicas[0].Start(t)
		configure(t, replicas[0], user...)
		p.is(t)
	})
	second := cluster.Nodes[1]
	for _, c := range []struct {
		check      string
		harm, heal []any
		ready      string
	}{
		{"redis_no_aof", []any{"CONFIG", "SET", "appendonly", "no"}, []any{"CONFIG", "SET", "appendonly", "yes"}, ""},
		{"redis_eviction", []any{"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"}, []any{"CONFIG", "SET", "maxmemory-policy", "noeviction"}, ""},
		{"redis_permissions", []any{"ACL", "SETUSER", "meet-gateway", "-scan"}, user, ""},
		{"redis_permissions", []any{"ACL", "SETUSER", "meet-gateway", "-get"}, user, "NOPERM: the user may not use the command GET at " + second.Addr()},
		{"redis_unusable", []any{"ACL", "DELUSER", "meet-gateway"}, user, "Redis at " + second.Addr() + " refuses: WRONGPASS"},
	} {
		t.Run(c.check, func(t *testing.T) {
			logged := len(p.Logs())
			configure(t, second, c.harm...)
			found := p.is(t, c.check)[0]
			require.Contains(t, found.About+found.Cause, second.Addr())
			if c.check == "redis_permissions" {
				eventually(t, func() bool { return strings.Contains(p.Logs()[logged:], " at "+second.Addr()) })
			}
			if c.ready != "" {
				answer := p.Do(http.MethodGet, "http://"+p.Admin+"/meet-gateway/health/ready", "")
				require.Equal(t, http.StatusServiceUnavailable, answer.Status)
				require.Contains(t, answer.Body, c.ready)
			}
			configure(t, second, c.heal...)
			p.is(t)
		})
	}
}

// The doctor knows a single node of a Cluster, which PING does not show.
func TestDoctor_NodeOfACluster(t *testing.T) {
	p := newPatient(t)
	cluster := redistest.Cluster(t)
	node := cluster.Nodes[0]
	if node == cluster.Owner(t, cluster.Slot(t, "mg1:inst")) {
		node = cluster.Nodes[1]
	}
	p.Reload(gatewaytest.Config{
		Global: "store redis redis://" + node.Addr() + "\nsecret {file." + secretFile(t, doctorSecret) + "}",
		Gate:   p.config.Gate, Servers: p.config.Servers,
	})
	require.Contains(t, p.is(t, "redis_unusable")[0].Fix, "cluster, in the block of store redis")
}

// The doctor reports that the certificate of Meet's upstream is about to expire.
func TestDoctor_Certificate(t *testing.T) {
	p := newPatient(t)
	for days, want := range map[int][]string{60: nil, 3: {"meet_certificate"}} {
		meet := httptest.NewUnstartedServer(*p.answer.Load())
		certificate, file := shortCertificate(t, time.Duration(days)*24*time.Hour)
		meet.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
		meet.StartTLS()
		config := p.config
		config.Gate = strings.Replace(config.Gate, p.meet.Address+" {", meet.URL+" {\ntransport http {\ntls_trust_pool file "+file+"\ntls_server_name meet.example.org\n}", 1)
		p.Reload(config)
		p.is(t, want...)
		meet.Close()
	}
}

// The doctor says why Meet does not answer. Caddy passes on the text of a dial error, not the error.
func TestDoctor_MeetUnreachable(t *testing.T) {
	p := newPatient(t)
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, refusing.Close())
	untrusted := httptest.NewTLSServer(*p.answer.Load())
	defer untrusted.Close()
	for _, c := range []struct{ name, backend, cause string }{
		{"name", "http://meet.internal:8000 {\ntransport http {\nresolvers udp/" + emptyDNS(t) + "\n}", "no such host"},
		{"port", "http://" + refusing.Addr().String() + " {", "connection refused"},
		{"certificate", untrusted.URL + " {", "its certificate is not trusted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := p.config
			config.Gate = strings.Replace(config.Gate, p.meet.Address+" {", c.backend, 1)
			p.Reload(config)
			cause := p.is(t, "meet_unreachable")[0].Cause
			require.Contains(t, cause, c.cause)
			if c.name == "name" {
				require.Contains(t, cause, "meet.internal")
			}
		})
	}
}

// emptyDNS starts a name server that knows no name, and returns its address.
func emptyDNS(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		for query := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			query[2], query[3] = 0x81, 0x83 // an answer: NXDOMAIN
			_, _ = conn.WriteTo(query[:n], from)
		}
	}()
	return conn.LocalAddr().String()
}

// shortCertificate creates a short-lived certificate for meet.example.org, and the file
// to trust it.
func shortCertificate(t *testing.T, life time.Duration) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"meet.example.org"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}
