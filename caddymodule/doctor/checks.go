// SPDX-License-Identifier: MIT

package doctor

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// The bounds of the checks.
const (
	minDistinct   = 10 // different bytes in a secret; 32 random bytes have 28 or more
	maxMemoryFill = 0.8
	maxClockOff   = 2 * time.Second
	maxLatency    = 50 * time.Millisecond
	tlsSoon       = 14 * 24 * time.Hour
	secretSoon    = 14 * 24 * time.Hour
	secretIdle    = 90 * 24 * time.Hour
	oldestRedis   = 7
	meetClockOff  = 30 * time.Second
	minTokenLife  = time.Hour // Meet's default
	// recordedPageSize is the page size of the recorded Meet.
	recordedPageSize = 20
	maxPerCheck      = 20  // findings per check
	firstErrorCode   = 500 // HTTP status
)

// check looks for one problem.
type check struct {
	name string
	// needsRedis skips the check while Redis cannot be used.
	needsRedis bool
	look       func(f *Facts, found func(about, cause, fix string))
}

// Count is the number of checks.
func Count() int { return len(checks) }

// Names returns the names of the checks, for the documentation.
func Names() []string {
	names := make([]string, 0, len(checks))
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// Diagnose runs every check. The findings hold no secret.
func Diagnose(f *Facts) []wire.Finding {
	findings := []wire.Finding{}
	for _, c := range checks {
		if c.needsRedis && f.Redis.Problem != "" {
			continue
		}
		of := 0
		c.look(f, func(about, cause, fix string) {
			if of++; of <= maxPerCheck {
				findings = append(findings, wire.Finding{Check: c.name, About: about, Cause: cause, Fix: fix})
			}
		})
	}
	return findings
}

var checks = slices.Concat(configurationChecks, redisChecks, gatewayChecks, meetChecks, applicationChecks)

type finder = func(about, cause, fix string)

var configurationChecks = []check{
	{name: "store_embedded", look: func(f *Facts, found finder) {
		if f.Configuration.Embedded && f.inEarnest() {
			found("", "the state is in the memory of this process: a restart loses every application and token", "store redis {env.REDIS_URL}")
		}
	}},
	{name: "secret_weak", look: func(f *Facts, found finder) {
		for i, s := range f.Configuration.Secrets {
			if s.Distinct < minDistinct {
				found(fmt.Sprintf("secret %d", i+1), "it is not random: it repeats few characters", "openssl rand -base64 32")
			}
		}
	}},
	{name: "secret_in_configuration", look: func(f *Facts, found finder) {
		for i, s := range f.Configuration.Secrets {
			if s.Literal {
				found(fmt.Sprintf("secret %d", i+1), "it stands in the configuration (by itself or by {$NAME}), so /config/ shows it", "secret {env.MEET_GATEWAY_SECRET}")
			}
		}
	}},
	{name: "admin_open", look: func(f *Facts, found finder) {
		if open(f.Configuration.AdminAddress) {
			found(f.Configuration.AdminAddress, "the admin endpoint can be reached from other machines: everyone who reaches it can do everything", "admin unix//run/meet-gateway/admin.sock|0660")
		}
	}},
	{name: "http_plain", look: func(f *Facts, found finder) {
		for _, s := range f.Configuration.Sites {
			if f.inEarnest() && s.Plain && !s.Proxied && open(s.Address) {
				found(s.Address, "it serves HTTP without TLS, and no proxy in front of it is named: secrets and tokens go over the network in clear", "name the site by its host, so that Caddy gets a certificate, or set MEET_TRUSTED_PROXIES")
			}
		}
	}},
	{name: "limits_gateways", needsRedis: true, look: func(f *Facts, found finder) {
		live := 0
		for _, g := range f.Gateways {
			if !g.Silent {
				live++
			}
		}
		if n := f.Configuration.GatewaysExpected; n > 0 && live > n {
			found("", fmt.Sprintf("%d gateways share the limits, which are set up for %d: during an outage of Redis each grants too much", live, n), fmt.Sprintf("gateways %d", live))
		}
	}},
}

// inEarnest reports whether there is a real Meet. A trial may be open to everyone.
func (f *Facts) inEarnest() bool {
	return slices.ContainsFunc(f.Meets, func(m Meet) bool { return !m.Sandbox })
}

// open reports whether other machines can reach an address.
func open(address string) bool {
	network, rest, found := strings.Cut(address, "/")
	if !found {
		rest = network
	} else if network == "unix" {
		return false
	}
	host, _, err := net.SplitHostPort(rest)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}

var redisChecks = []check{
	{name: "redis_unusable", look: func(f *Facts, found finder) {
		if f.Redis.Problem != "" && !f.Redis.Replica {
			found("", f.Redis.Problem, fixOf(f.Redis.Problem, f, "redis-cli -u \"$REDIS_URL\" PING, from this machine"))
		}
	}},
	{name: "redis_replica", look: func(f *Facts, found finder) {
		if f.Redis.Replica {
			found("", "Redis is a replica: it takes no writes, and the gateway is not ready", "lead the store to the primary, or use Sentinel or a Cluster; after a failover by hand, REPLICAOF NO ONE on the new primary")
		}
	}},
	{name: "redis_permissions", needsRedis: true, look: func(f *Facts, found finder) {
		for _, l := range f.Redis.Permissions {
			found(l.Server, "NOPERM: the Redis user may not use "+l.String(), "the ACL SETUSER line in docs/redis.md")
		}
	}},
	{name: "redis_version", needsRedis: true, look: eachServer(func(s tokens.StoreSettings, _ *Facts, found finder) {
		major := 0
		_, _ = fmt.Sscanf(s.Version, "%d", &major) // 0 if it is not a number
		if major > 0 && major < oldestRedis {
			found(s.Server, "Redis "+s.Version+" is too old", "install Redis 7 or later")
		}
	})},
	{name: "redis_no_aof", needsRedis: true, look: eachServer(func(s tokens.StoreSettings, _ *Facts, found finder) {
		if !s.AppendOnly {
			found(s.Server, "Redis keeps no append-only file: a restart loses tokens, revocations and applications", "redis-cli CONFIG SET appendonly yes")
		}
	})},
	{name: "redis_eviction", needsRedis: true, look: eachServer(func(s tokens.StoreSettings, _ *Facts, found finder) {
		if s.Policy != "" && s.Policy != "noeviction" {
			found(s.Server, "Redis may evict keys (maxmemory-policy "+s.Policy+"): an evicted application is a deleted one", "redis-cli CONFIG SET maxmemory-policy noeviction")
		}
	})},
	{name: "redis_memory", needsRedis: true, look: eachServer(func(s tokens.StoreSettings, _ *Facts, found finder) {
		if s.MaxMemory > 0 && float64(s.UsedMemory) > maxMemoryFill*float64(s.MaxMemory) {
			found(s.Server, fmt.Sprintf("Redis uses %d %% of its memory: once it is full, no token is given and nothing can be revoked", 100*s.UsedMemory/s.MaxMemory), "redis-cli CONFIG SET maxmemory, to more")
		}
	})},
	{name: "redis_replicas", needsRedis: true, look: eachServer(func(s tokens.StoreSettings, f *Facts, found finder) {
		switch {
		case f.Redis.WaitReplicas > s.Replicas:
			found(s.Server, fmt.Sprintf("wait_replicas is %d, but %d confirm changes: every change and every refresh is answered with 503", f.Redis.WaitReplicas, s.Replicas), "connect the replicas, or lower wait_replicas")
		case f.Redis.Mode == "sentinel" && s.Replicas == 0:
			found(s.Server, "Sentinels watch a primary without a replica: there is nothing to fail over to", "REPLICAOF <primary> 6379, on another server")
		case f.Redis.Mode == "cluster" && s.Replicas == 0:
			found(s.Server, "a primary of the Cluster has no replica: there is nothing to fail over to", "redis-cli --cluster add-node <new server> "+s.Server+" --cluster-slave")
		}
	})},
	{name: "redis_failover", needsRedis: true, look: func(f *Facts, found finder) {
		for _, r := range f.Redis.Replicas {
			fix := "start the replica, or let this gateway reach it as it reaches the primary"
			if r.Forbidden {
				fix = "the ACL SETUSER line in docs/redis.md, at this replica too: Redis does not replicate users"
			}
			found(r.Server, "after a failover to this replica, this gateway could not use it: "+r.Problem, fix)
		}
	}},
	{name: "redis_min_replicas", needsRedis: true, look: eachServer(func(s tokens.StoreSettings, f *Facts, found finder) {
		if f.Redis.Mode == "sentinel" && s.Replicas > 0 && s.MinReplicas == 0 {
			found(s.Server, "a primary that is cut off from its replicas goes on taking writes that a failover loses", "redis-cli CONFIG SET min-replicas-to-write 1")
		}
	})},
	{name: "redis_latency", needsRedis: true, look: func(f *Facts, found finder) {
		if f.Redis.Latency > maxLatency {
			found("", fmt.Sprintf("Redis answers in %s: each new token waits for it several times", f.Redis.Latency.Round(time.Millisecond)), "redis-cli --latency; put the gateway near Redis")
		}
	}},
	{name: "redis_feed", needsRedis: true, look: func(f *Facts, found finder) {
		if !f.Configuration.Embedded && !f.Redis.FeedFresh && f.Redis.Permissions.OK() {
			list, also := "CHANNELS", ""
			if f.Redis.Mode == "cluster" {
				list, also = "SHARDCHANNELS", "; redis-cli --cluster check <address>, since a slot may be left half moved"
			}
			found("", "this gateway does not hear of changes and asks Redis for each request: "+cmp.Or(f.Redis.FeedProblem, "the cause is not known"), fixOf(f.Redis.FeedProblem, f, "redis-cli PUBSUB "+list+" 'mg1:*'; let connections of subscribers through"+also))
		}
	}},
}

// eachServer runs a check for each primary that tells its settings.
func eachServer(look func(s tokens.StoreSettings, f *Facts, found finder)) func(*Facts, finder) {
	return func(f *Facts, found finder) {
		for _, s := range f.Redis.Servers {
			if s.Known {
				look(s, f, found)
			}
		}
	}
}

// fixOf returns the fix of a problem with Redis, usually the given one.
func fixOf(problem string, f *Facts, usually string) string {
	if problem == tokens.ProblemElsewhere && f.Redis.Mode != "cluster" {
		return "cluster, in the block of store redis (docs/redis.md has an example)"
	}
	return usually
}

var gatewayChecks = []check{
	{name: "keys_missing", needsRedis: true, look: func(f *Facts, found finder) {
		for _, id := range f.MissingKeys {
			cause := "other gateways use it and this one was not given it: what they make with it is answered with 503 here"
			if f.KeysError != "" {
				cause = "the installation uses it and this gateway was given another secret: it is not ready"
			}
			found("key "+id, cause, "give all gateways the same secret and signing_key lines")
		}
	}},
	{name: "keys_differ", needsRedis: true, look: func(f *Facts, found finder) {
		for _, g := range f.Gateways {
			if self := selfOf(f.Gateways); self != nil && !g.Self && !g.Silent && len(f.MissingKeys) == 0 && !sameElements(g.Keys, self.Keys) {
				found(g.Host+" "+g.ID, "its keys ("+strings.Join(g.Keys, ", ")+") are not those of this gateway ("+strings.Join(self.Keys, ", ")+")", "finish the rotation: the same secret and signing_key lines everywhere")
			}
		}
	}},
	{name: "gateways_versions", needsRedis: true, look: func(f *Facts, found finder) {
		for _, g := range f.Gateways {
			if self := selfOf(f.Gateways); self != nil && !g.Silent && g.Version != self.Version {
				found(g.Host+" "+g.ID, "it runs version "+g.Version+", this one "+self.Version, "install the same version on all gateways")
			}
		}
	}},
	{name: "gateways_silent", needsRedis: true, look: func(f *Facts, found finder) {
		for _, g := range f.Gateways {
			if g.Silent {
				found(g.Host+" "+g.ID, "it has not been heard of since "+g.Heard.Format(time.RFC3339)+": it ended without notice, or is cut off from Redis", "look at it; if it is gone for good, this ends by itself after ten minutes")
			}
		}
	}},
	{name: "clock", needsRedis: true, look: func(f *Facts, found finder) {
		for _, g := range f.Gateways {
			if ahead := time.Duration(g.ClockAheadSeconds * float64(time.Second)); ahead.Abs() > maxClockOff {
				found(g.Host+" "+g.ID, fmt.Sprintf("its clock and that of Redis are %s apart: tokens end early or late", ahead.Abs().Round(time.Millisecond)), "run chrony or systemd-timesyncd on both")
			}
		}
	}},
	{name: "secret_old", needsRedis: true, look: func(f *Facts, found finder) {
		for _, k := range f.Keys {
			if k.SafeToRemove && !k.Signs {
				found("key "+k.ID, "nothing needs it any more", "remove its secret or signing_key line and reload")
			}
		}
	}},
}

func selfOf(gateways []tokens.Gateway) *tokens.Gateway {
	i := slices.IndexFunc(gateways, func(g tokens.Gateway) bool { return g.Self })
	if i < 0 {
		return nil
	}
	return &gateways[i]
}

func sameElements(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// eachMeet runs a check for each real Meet.
func eachMeet(look func(m *Meet, f *Facts, found finder)) func(*Facts, finder) {
	return func(f *Facts, found finder) {
		for i := range f.Meets {
			if m := &f.Meets[i]; !m.Sandbox {
				look(m, f, found)
			}
		}
	}
}

var meetChecks = []check{
	{name: "meet_unreachable", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if m.Problem != "" {
			found(m.Host, "Meet does not answer: "+m.Problem, "check the address after `backend`, and that Meet runs")
		}
	})},
	{name: "meet_host", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if m.Problem == "" && m.Status == 400 && !m.JSON {
			found(m.Host, "Meet does not serve this host name", "host <one of DJANGO_ALLOWED_HOSTS>, in the backend block")
		}
	})},
	{name: "meet_https", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if redirects(m) && strings.HasPrefix(m.Location, "https://") {
			found(m.Host, "Meet redirects to https: something between drops X-Forwarded-Proto, or Meet does not trust it", "SECURE_PROXY_SSL_HEADER at Meet; `header_up -X-Forwarded-Proto` must not be in the backend block")
		}
	})},
	{name: "meet_redirects", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if redirects(m) && !strings.HasPrefix(m.Location, "https://") {
			found(m.Host, "Meet redirects the API: what answers is not its backend, or a proxy changes slashes", "let `backend` lead to Meet's backend, and the proxy keep the trailing slash")
		}
	})},
	{name: "meet_api_off", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if m.Status == 404 || m.Status == 405 {
			found(m.Host, "Meet does not have the external API or applications: the path is not there", "EXTERNAL_API_ENABLED=True and APPLICATION_ENABLED=True at Meet; path in the backend block")
		}
	})},
	{name: "meet_broken", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if m.Status >= firstErrorCode {
			found(m.Host, fmt.Sprintf("Meet answers %d", m.Status), "look at Meet's log")
		}
	})},
	{name: "meet_another_server", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		known := m.Status == 400 || m.Status == 404 || m.Status == 405 || m.Status >= firstErrorCode || redirects(m)
		if m.Problem == "" && !known {
			found(m.Host, fmt.Sprintf("what answers is not Meet's external API: it answers %d to an empty request for a token", m.Status), "check the address after `backend`")
		}
	})},
	{name: "meet_contract", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if m.Status == 400 && m.JSON && !m.AsRecorded {
			found(m.Host, "Meet answers an empty request for a token otherwise than the Meet that was recorded: it may be another version", "meet-gateway meet conformance says what else differs, and what that means")
		}
	})},
	{name: "meet_clock", look: eachMeet(func(m *Meet, f *Facts, found finder) {
		if off := m.Date.Sub(f.Now).Abs(); !m.Date.IsZero() && off > meetClockOff {
			found(m.Host, fmt.Sprintf("its clock is %s off: its tokens end early or late", off.Round(time.Second)), "run chrony or systemd-timesyncd on both")
		}
	})},
	{name: "meet_certificate", look: eachMeet(func(m *Meet, f *Facts, found finder) {
		if !m.TLSExpires.IsZero() && m.TLSExpires.Sub(f.Now) < tlsSoon {
			found(m.Host, "the certificate of the upstream ends on "+m.TLSExpires.UTC().Format(time.RFC3339), "renew it")
		}
	})},
	{name: "meet_plain", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if m.Plain {
			found(m.Host, "Meet is reached without TLS on another machine: its tokens go over the network in clear", "backend https://…, or a private network that you trust")
		}
	})},
	{name: "meet_credentials", needsRedis: true, look: eachMeet(func(m *Meet, f *Facts, found finder) {
		without := slices.ContainsFunc(f.Applications, func(a Application) bool { return a.Active && a.Backend == nil && a.LearnsBackend() == "" })
		if !m.Credentials && without {
			found(m.Host, "there are applications without credentials at Meet, and the gateway has none either: they get no token", "credentials {env.MEET_CLIENT_ID} {env.MEET_CLIENT_SECRET}, in the backend block")
		}
	})},
	{name: "meet_audience", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if m.NoAudience {
			found(m.Host, "Meet issues tokens without an audience and refuses them: its audience is set to nothing", "unset APPLICATION_JWT_AUDIENCE at Meet, or give it a value")
		}
	})},
	{name: "meet_token_lifetime", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if m.Issued && m.TokenLifetime < minTokenLife {
			found(m.Host, fmt.Sprintf("Meet's tokens live for %s: that often each user costs Meet an exchange, a second of CPU", m.TokenLifetime), "APPLICATION_JWT_EXPIRATION_SECONDS=86400 at Meet")
		}
	})},
	{name: "meet_provisioning", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if m.UnknownUsers {
			found(m.Host, "within the last hour a token was asked for whose user Meet neither knew nor made", "if Meet is to make users known by mail only: APPLICATION_ALLOW_USER_CREATION=True, OIDC_FALLBACK_TO_EMAIL_FOR_IDENTIFICATION=True and OIDC_USER_SUB_FIELD_IMMUTABLE=False at Meet")
		}
	})},
	{name: "meet_duplicate_mails", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if m.DuplicateMails {
			found(m.Host, "within the last hour a token was asked for with a mail address that several users of Meet have: they get none", "merge_duplicate_users at Meet")
		}
	})},
	{name: "meet_page_size", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		if m.PageSize > 0 && m.PageSize < recordedPageSize {
			found(m.Host, fmt.Sprintf("a page of Meet's list has %s, and not %d: lists cost Meet more requests", english.Plural(m.PageSize, "room", ""), recordedPageSize), "the page size of Meet's API, or of what rewrites the query in between")
		}
	})},
	{name: "meet_refusals", look: eachMeet(func(m *Meet, _ *Facts, found finder) {
		for _, hint := range m.Hints {
			found(m.Host, "Meet refused requests within the last hour: "+hint, "as said; the log has the request ids")
		}
	})},
}

func redirects(m *Meet) bool { return m.Status >= 300 && m.Status < 400 }

// eachApplication runs a check for each active application.
func eachApplication(look func(a Application, f *Facts, found finder)) func(*Facts, finder) {
	return func(f *Facts, found finder) {
		for _, a := range f.Applications {
			if a.Active {
				look(a, f, found)
			}
		}
	}
}

func aboutApplication(a Application) string { return a.Name + " (" + a.ID + ")" }

var applicationChecks = []check{
	{name: "application_any_domain", needsRedis: true, look: eachApplication(func(a Application, f *Facts, found finder) {
		if f.inEarnest() && slices.Contains(a.Domains, "*") {
			found(aboutApplication(a), "it may act for every mail address", "meet-gateway meet app edit "+a.ID+" --domain example.org")
		}
	})},
	{name: "application_powerless", needsRedis: true, look: eachApplication(func(a Application, _ *Facts, found finder) {
		if len(a.Domains) == 0 || len(a.Scopes) == 0 {
			found(aboutApplication(a), "it has no domain or no scope: it can do nothing", "meet-gateway meet app edit "+a.ID+" --domain example.org --scope rooms:list")
		}
	})},
	{name: "application_secret_ends", needsRedis: true, look: eachApplication(func(a Application, f *Facts, found finder) {
		lasting := slices.ContainsFunc(a.Secrets, func(s tokens.SecretInfo) bool { return s.Expires.IsZero() })
		for _, s := range a.Secrets {
			rotated := lasting && s.LastUsed.Before(f.Now.Add(-secretSoon)) // its successor is in use
			if !s.Expires.IsZero() && s.Expires.Sub(f.Now) < secretSoon && !rotated {
				found(aboutApplication(a), "secret "+s.ID+" ends on "+s.Expires.UTC().Format(time.RFC3339)+" and is still used", "tell its integrator to take the new one, or meet-gateway meet app rotate "+a.ID+" --grace 14d")
			}
		}
	})},
	{name: "application_idle", needsRedis: true, look: eachApplication(func(a Application, f *Facts, found finder) {
		if f.Now.Sub(cmp.Or(a.LastUsed, a.Created)) > secretIdle {
			found(aboutApplication(a), "its secret has not been used for 90 days", "meet-gateway meet app disable "+a.ID)
		}
	})},
	{name: "application_alias_lost", needsRedis: true, look: func(f *Facts, found finder) {
		for _, a := range f.Applications {
			for _, alias := range a.LostAliases {
				found(aboutApplication(a), "it lists the client id "+alias+", which does not lead to it", "meet-gateway meet app edit "+a.ID+" --remove-alias "+alias+", then --add-alias "+alias)
			}
		}
	}},
	{name: "application_backend_unreadable", needsRedis: true, look: eachApplication(func(a Application, _ *Facts, found finder) {
		if a.BackendUnreadable() {
			found(aboutApplication(a), "its credentials at Meet were encrypted with a secret that is not configured here", "meet-gateway meet app edit "+a.ID+" --backend-client-id ID --backend-client-secret-stdin, or add the former secret line")
		}
	})},
	{name: "application_denied_unreadable", needsRedis: true, look: eachApplication(func(a Application, _ *Facts, found finder) {
		if a.DeniedUnreadable() {
			found(aboutApplication(a), "its denied mail addresses were encrypted with a secret that is not configured here", "meet-gateway meet app edit "+a.ID+" --deny MAIL for each of them, or add the former secret line")
		}
	})},
}
