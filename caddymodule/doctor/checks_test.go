// SPDX-License-Identifier: MIT

package doctor

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// healthy returns the facts of an installation without faults.
func healthy() *Facts {
	return &Facts{
		Now: now,
		Configuration: Configuration{
			Secrets: []Secret{{Distinct: 28, Length: 44}}, AdminAddress: "localhost:2019", GatewaysExpected: 2,
			Sites: []Site{{Address: ":443"}, {Address: "127.0.0.1:8080", Plain: true}, {Address: ":8080", Plain: true, Proxied: true}},
		},
		Redis: Redis{
			Mode: "sentinel", Latency: time.Millisecond, FeedFresh: true, WaitReplicas: 1,
			Servers: []tokens.StoreSettings{{Known: true, Version: "7.2.4", AppendOnly: true, Policy: "noeviction", MaxMemory: 100, UsedMemory: 50, Replicas: 2, MinReplicas: 1}},
		},
		Gateways: []tokens.Gateway{
			{ID: "one", Self: true, Version: "v1", Keys: []string{"a", "b"}}, {ID: "two", Version: "v1", Keys: []string{"b", "a"}},
		},
		Keys: []tokens.KeyStatus{{ID: "a", Signs: true}},
		Meets: []Meet{{
			Host: "meet.example.org", Status: 400, JSON: true, AsRecorded: true, Date: now, TLSExpires: now.AddDate(0, 2, 0), Credentials: true,
			Issued: true, TokenLifetime: time.Hour, PageSize: 20,
		}},
		Applications: []Application{{Application: &tokens.Application{
			ID: "id", Name: "Calendar", Active: true, Domains: []string{"example.org"}, Scopes: tokens.Scopes{"rooms:list"},
			Created: now.AddDate(-1, 0, 0), LastUsed: now, Secrets: []tokens.SecretInfo{{ID: "s", LastUsed: now}},
		}}},
	}
}

// Each fault leads to exactly one finding, with a cause and a fix.
func TestDiagnose_EachFault(t *testing.T) {
	faults := map[string]func(*Facts){
		"store_embedded":          func(f *Facts) { f.Configuration.Embedded = true },
		"secret_weak":             func(f *Facts) { f.Configuration.Secrets[0].Distinct = 3 },
		"secret_in_configuration": func(f *Facts) { f.Configuration.Secrets[0].Literal = true },
		"admin_open":              func(f *Facts) { f.Configuration.AdminAddress = "0.0.0.0:2019" },
		"http_plain":              func(f *Facts) { f.Configuration.Sites[2].Proxied = false },
		"limits_gateways":         func(f *Facts) { f.Configuration.GatewaysExpected = 1 },
		"redis_unusable": func(f *Facts) {
			f.Redis = Redis{Problem: "redis does not answer: connection refused"}
			f.Gateways = nil
		},
		"redis_replica": func(f *Facts) {
			f.Redis = Redis{Problem: "redis answers, and is a replica", Replica: true}
		},
		"redis_permissions": func(f *Facts) {
			f.Redis.Permissions = tokens.Permissions{{Commands: []string{"EVAL"}}}
			f.Redis.FeedFresh = false
		},
		"redis_version":  func(f *Facts) { f.Redis.Servers[0].Version = "6.2.14" },
		"redis_no_aof":   func(f *Facts) { f.Redis.Servers[0].AppendOnly = false },
		"redis_eviction": func(f *Facts) { f.Redis.Servers[0].Policy = "allkeys-lru" },
		"redis_memory":   func(f *Facts) { f.Redis.Servers[0].UsedMemory = 90 },
		"redis_replicas": func(f *Facts) { f.Redis.WaitReplicas = 3 },
		"redis_failover": func(f *Facts) {
			f.Redis.Replicas = []tokens.Replica{{Server: "10.0.0.2:6379", Problem: "redis refuses: WRONGPASS", Forbidden: true}}
		},
		"redis_min_replicas":      func(f *Facts) { f.Redis.Servers[0].MinReplicas = 0 },
		"redis_latency":           func(f *Facts) { f.Redis.Latency = 80 * time.Millisecond },
		"redis_feed":              func(f *Facts) { f.Redis.FeedFresh = false },
		"keys_missing":            func(f *Facts) { f.MissingKeys = []string{"c"} },
		"keys_differ":             func(f *Facts) { f.Gateways[1].Keys = []string{"a"} },
		"gateways_versions":       func(f *Facts) { f.Gateways[1].Version = "v2" },
		"gateways_silent":         func(f *Facts) { f.Gateways[1].Silent = true },
		"clock":                   func(f *Facts) { f.Gateways[1].ClockAheadSeconds = -30 },
		"secret_old":              func(f *Facts) { f.Keys = append(f.Keys, tokens.KeyStatus{ID: "b", SafeToRemove: true}) },
		"meet_unreachable":        func(f *Facts) { f.Meets[0] = Meet{Host: "meet.example.org", Problem: "refused", Credentials: true} },
		"meet_host":               func(f *Facts) { f.Meets[0].JSON = false },
		"meet_https":              func(f *Facts) { f.Meets[0].Status, f.Meets[0].Location = 301, "https://meet.example.org/" },
		"meet_redirects":          func(f *Facts) { f.Meets[0].Status, f.Meets[0].Location = 301, "/x" },
		"meet_api_off":            func(f *Facts) { f.Meets[0].Status, f.Meets[0].JSON = 404, false },
		"meet_broken":             func(f *Facts) { f.Meets[0].Status = 502 },
		"meet_another_server":     func(f *Facts) { f.Meets[0].Status = 200 },
		"meet_clock":              func(f *Facts) { f.Meets[0].Date = now.Add(-time.Minute) },
		"meet_certificate":        func(f *Facts) { f.Meets[0].TLSExpires = now.AddDate(0, 0, 3) },
		"meet_plain":              func(f *Facts) { f.Meets[0].Plain = true },
		"meet_credentials":        func(f *Facts) { f.Meets[0].Credentials = false },
		"meet_contract":           func(f *Facts) { f.Meets[0].AsRecorded = false },
		"meet_audience":           func(f *Facts) { f.Meets[0].NoAudience = true },
		"meet_token_lifetime":     func(f *Facts) { f.Meets[0].TokenLifetime = time.Minute },
		"meet_provisioning":       func(f *Facts) { f.Meets[0].UnknownUsers = true },
		"meet_duplicate_mails":    func(f *Facts) { f.Meets[0].DuplicateMails = true },
		"meet_page_size":          func(f *Facts) { f.Meets[0].PageSize = 5 },
		"meet_refusals":           func(f *Facts) { f.Meets[0].Hints = []string{"several users have this mail"} },
		"application_any_domain":  func(f *Facts) { f.Applications[0].Domains = []string{"*"} },
		"application_powerless":   func(f *Facts) { f.Applications[0].Scopes = nil },
		"application_secret_ends": func(f *Facts) { f.Applications[0].Secrets[0].Expires = now.AddDate(0, 0, 3) },
		"application_idle":        func(f *Facts) { f.Applications[0].LastUsed = now.AddDate(0, 0, -91) },
		"application_alias_lost":  func(f *Facts) { f.Applications[0].LostAliases = []string{"calendar"} },
	}
	require.GreaterOrEqual(t, len(faults), 25)
	require.Empty(t, Diagnose(healthy()), "a healthy installation has no findings")
	demo := healthy()
	demo.Configuration.Embedded, demo.Meets, demo.Applications[0].Domains = true, []Meet{{Sandbox: true}}, []string{"*"}
	require.Empty(t, Diagnose(demo), "a demo has no findings")
	for name, inject := range faults {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			inject(f)
			findings := Diagnose(f)
			require.Len(t, findings, 1, findings)
			require.Equal(t, name, findings[0].Check)
			require.NotEmpty(t, findings[0].Cause)
			require.NotEmpty(t, findings[0].Fix)
			_, err := json.Marshal(findings)
			require.NoError(t, err)
		})
	}
	for _, name := range Names() {
		// These need an encrypted record; see the tests of package tokens.
		if name != "application_backend_unreadable" && name != "application_denied_unreadable" {
			require.Contains(t, faults, name, "a check without a fault")
		}
	}
}

// Each primary of a Cluster needs a replica.
func TestDiagnose_PrimaryOfAClusterWithoutReplica(t *testing.T) {
	f := healthy()
	f.Redis.Mode, f.Redis.WaitReplicas = "cluster", 0
	alone := f.Redis.Servers[0]
	alone.Server, alone.Replicas = "10.0.0.2:6379", 0
	f.Redis.Servers = append(f.Redis.Servers, alone)
	findings := Diagnose(f)
	require.Len(t, findings, 1)
	require.Equal(t, "redis_replicas", findings[0].Check)
	require.Equal(t, "10.0.0.2:6379", findings[0].About)
	f.Redis.Mode = "standalone"
	require.Empty(t, Diagnose(f))
}

// A Cluster lists the channels of the feed apart from others.
func TestDiagnose_FeedOfACluster(t *testing.T) {
	f := healthy()
	f.Redis.FeedFresh = false
	require.Contains(t, Diagnose(f)[0].Fix, "PUBSUB CHANNELS")
	f.Redis.Mode = "cluster"
	require.Contains(t, Diagnose(f)[0].Fix, "PUBSUB SHARDCHANNELS")
}

// A store that is a single node of a Cluster needs the option cluster. PING would succeed.
func TestDiagnose_NodeOfACluster(t *testing.T) {
	for _, harm := range []func(*Facts){
		func(f *Facts) { f.Redis.Problem = tokens.ProblemElsewhere },
		func(f *Facts) { f.Redis.FeedFresh, f.Redis.FeedProblem = false, tokens.ProblemElsewhere },
	} {
		f := healthy()
		f.Redis.Mode = "standalone"
		harm(f)
		findings := Diagnose(f)
		require.Len(t, findings, 1)
		require.Contains(t, findings[0].Fix, "cluster, in the block of store redis")
		f.Redis.Mode = "cluster"
		require.NotContains(t, Diagnose(f)[0].Fix, "in the block")
	}
}

func TestNames_AreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/doctor.md")
	require.NoError(t, err)
	for _, name := range Names() {
		require.Contains(t, string(doc), "| `"+name+"` |")
	}
}

func TestOpen(t *testing.T) {
	for address, want := range map[string]bool{
		"localhost:2019": false, "127.0.0.1:2019": false, "[::1]:2019": false, "unix//run/admin.sock": false, "tcp/localhost:2019": false,
		":2019": true, "0.0.0.0:2019": true, "10.0.0.1:2019": true, "tcp/:2019": true, "": false,
	} {
		require.Equal(t, want, open(address), address)
	}
}
