// SPDX-License-Identifier: MIT

package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	adminwire "github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// limited is a gateway whose Redis user loses permissions, and a second one with all permissions.
type limited struct {
	*gatewaytest.Gateway
	redis    *redistest.Server
	meet     *gatewaytest.Meet
	app      *gatewaytest.Client
	another  *tokens.Authority
	requests int
	refresh  string
}

func startLimited(t *testing.T) *limited {
	t.Helper()
	l := &limited{redis: redistest.Standalone(t, "--appendonly", "yes"), meet: strictMeet(t, nil)}
	require.NoError(t, l.redis.Client().Do(t.Context(), redistest.DocumentedUser(t, "meet-gateway")...).Err())
	l.Gateway = gatewaytest.Start(t, gatewaytest.Config{
		Global: "store redis redis://meet-gateway:" + redistest.ACLPassword + "@" + l.redis.Addr() +
			"\nsecret {file." + secretFile(t, doctorSecret) + "}\nstaleness 1s\nlimit adopt off",
		Gate: l.meet.Backend() + "\nunknown_applications adopt",
	})
	l.app = l.AddApplication(func(a *tokens.Application) { a.Refresh = true })
	s, err := tokens.OpenRedis(tokens.RedisOptions{Addresses: []string{l.redis.Addr()}, Timeout: 10 * time.Second})
	require.NoError(t, err)
	l.another, err = tokens.New(tokens.Options{Store: s, Secrets: [][]byte{[]byte(doctorSecret)}})
	require.NoError(t, err)
	l.another.Start()
	t.Cleanup(func() {
		require.NoError(t, l.another.Close())
		require.NoError(t, s.Close())
	})
	l.served(t)
	return l
}

func (l *limited) acl(t *testing.T, rules ...any) {
	t.Helper()
	require.NoError(t, l.redis.Client().Do(t.Context(), append([]any{"ACL", "SETUSER", "meet-gateway"}, rules...)...).Err())
}

// refused makes one uncached request of each kind and returns those that got 503.
func (l *limited) refused(t *testing.T) (list []string) {
	t.Helper()
	l.requests++
	user := l.meet.AddUser(sandbox.User{Sub: fmt.Sprint("user-", l.requests), Email: fmt.Sprintf("u%d@example.org", l.requests), Active: true})
	base := "/external-api/v1.0"
	done := func(what string, a *gatewaytest.Answer, want int) {
		switch a.Status {
		case want:
		case http.StatusServiceUnavailable:
			list = append(list, what)
		default:
			t.Fatalf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	a := l.TokenRequest(l.app, user.Email)
	done("token", a, http.StatusOK)
	if a.Status == http.StatusOK && l.refresh == "" {
		l.refresh, _ = a.JSON(t)["refresh_token"].(string)
	}
	tok := func() string {
		return storetest.Issue(t, l.another, l.app.Application, tokens.Mail(user.Email)).Value
	}
	auth := func(token string) []string { return []string{"Authorization", gatewaytest.Bearer(token)} }
	done("list", l.Do("GET", roomsPath, "", auth(tok())...), http.StatusOK)
	done("create", l.Do("POST", roomsPath, `{}`, append(auth(tok()), "Content-Type", "application/json", "Idempotency-Key", fmt.Sprint("key-", l.requests))...), http.StatusCreated)
	done("identity", l.Do("GET", identityPath, "", auth(tok())...), http.StatusOK)
	client := []string{"Content-Type", formType, "Authorization", basicOf(l.app.ID, l.app.Secret)}
	done("introspect", l.Do("POST", base+"/application/introspect", "token="+tok(), client...), http.StatusOK)
	done("revoke", l.Do("POST", base+"/application/revoke", "token="+tok(), client...), http.StatusOK)
	if l.refresh != "" {
		a := l.Do("POST", base+"/application/token", "grant_type=refresh_token&refresh_token="+l.refresh, client...)
		done("refresh", a, http.StatusOK)
		if a.Status == http.StatusOK {
			l.refresh, _ = a.JSON(t)["refresh_token"].(string)
		}
	}
	id := fmt.Sprint("adopted-", l.requests)
	l.meet.AddApplication(sandbox.Application{ClientID: id, Secret: "secret-of-it", Active: true, Scopes: []string{"rooms:list"}})
	done("adopt", l.Do("POST", base+"/application/token", gatewaytest.TokenBody(id, "secret-of-it", user.Email), "Content-Type", "application/json"), http.StatusOK)
	return list
}

// served waits until all requests are served.
func (l *limited) served(t *testing.T) {
	t.Helper()
	var refused []string
	for deadline := time.Now().Add(30 * time.Second); ; {
		if ready, _ := l.ready(t); ready {
			if refused = l.refused(t); len(refused) == 0 {
				return
			}
		}
		require.True(t, time.Now().Before(deadline), "refused: %q", refused)
		time.Sleep(20 * time.Millisecond)
	}
}

// ready returns the readiness of the admin API, which load balancers and `meet status`
// use.
func (l *limited) ready(t *testing.T) (bool, adminwire.Status) {
	t.Helper()
	var s adminwire.Status
	require.NoError(t, json.Unmarshal([]byte(l.Do("GET", "http://"+l.Admin+"/meet-gateway/status", "").Body), &s))
	a := l.Do("GET", "http://"+l.Admin+"/meet-gateway/health/ready", "")
	require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, a.Status)
	return s.Ready && a.Status == http.StatusOK, s
}

// findings returns the doctor's findings about permissions.
func (l *limited) findings(t *testing.T) string {
	t.Helper()
	var d adminwire.Diagnosis
	require.NoError(t, json.Unmarshal([]byte(l.Do("GET", "http://"+l.Admin+"/meet-gateway/doctor", "").Body), &d))
	for _, f := range d.Findings {
		if f.Check == "redis_permissions" {
			return f.Cause
		}
	}
	return ""
}

// A gateway whose Redis user loses a permission either serves every kind of request and reports the
// missing permission, or is not ready and gives the reason in status, log, metrics and doctor.
// Package tokens tests each permission.
func TestPermissions_ReadyGatewayServes(t *testing.T) {
	l := startLimited(t)
	keys, channels := []any{"resetkeys", "~mg1:*"}, []any{"resetchannels", "&mg1:*"}
	for _, c := range []struct {
		name       string
		take, give []any
		served     bool
	}{
		{"SCAN", []any{"-scan"}, []any{"+scan"}, true},
		{"WAIT", []any{"-wait"}, []any{"+wait"}, true},
		{"SUBSCRIBE", []any{"-subscribe"}, []any{"+subscribe"}, true},
		{"mg1:rekeyed", []any{"resetkeys", "~mg1:[^r]*", "~mg1:r:*"}, keys, true},
		{"EVAL", []any{"-eval"}, []any{"+eval"}, false},
		{"PUBLISH", []any{"-publish"}, []any{"+publish"}, false},
		{"mg1:t:* (to write)", []any{"resetkeys", "%R~mg1:*", "~mg1:[^t]*"}, keys, false},
		{"mg1:t:*", []any{"resetkeys", "~mg1:a:*"}, keys, false},
		{"channels mg1:*", []any{"resetchannels"}, channels, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, l.redis.Client().ScriptFlush(t.Context()).Err())
			logged := len(l.Logs())
			l.acl(t, c.take...)
			var s adminwire.Status
			eventually(t, func() bool {
				var ready bool
				ready, s = l.ready(t)
				said := s.Reason
				if c.served {
					said = strings.Join(s.Store.Warnings, " ")
				}
				return ready == c.served && strings.Contains(said, "NOPERM") && strings.Contains(said, c.name)
			})
			require.Contains(t, l.findings(t), c.name)
			require.Contains(t, l.Metrics(), `caddy_meet_gateway_store_problem{problem="refused"} `+map[bool]string{true: "0", false: "1"}[c.served])
			eventually(t, func() bool {
				return strings.Contains(l.Logs()[logged:], "NOPERM: the user may not use the ") && strings.Contains(l.Logs()[logged:], c.name)
			})
			if refused := l.refused(t); c.served {
				require.Empty(t, refused)
			} else {
				time.Sleep(1500 * time.Millisecond) // longer than the staleness bound
				ready, s := l.ready(t)
				require.False(t, ready)
				require.Contains(t, s.Reason, c.name)
			}
			l.acl(t, c.give...)
			l.served(t)
			require.Empty(t, l.findings(t))
		})
	}
}

// With wait_replicas, WAIT is required.
func TestPermissions_WaitReplicas(t *testing.T) {
	redis := redistest.SentinelGroup(t, 1)
	for _, s := range redis.Data {
		require.NoError(t, s.Client().Do(t.Context(), append(redistest.DocumentedUser(t, "meet-gateway"), "-wait")...).Err())
	}
	server := redis.Master(t)
	g := gatewaytest.Start(t, gatewaytest.Config{
		Global: "store redis redis://meet-gateway:" + redistest.ACLPassword + "@" + server.Addr() + " {\nwait_replicas 1\n}\nsecret {file." + secretFile(t, doctorSecret) + "}",
		Gate:   "backend sandbox",
	})
	l := &limited{Gateway: g, redis: server}
	eventually(t, func() bool {
		ready, s := l.ready(t)
		return !ready && strings.Contains(s.Reason, "NOPERM: the user may not use the command WAIT")
	})
	l.acl(t, "+wait")
	eventually(t, func() bool {
		ready, _ := l.ready(t)
		return ready
	})
}

// A list of commands from before the feed was sharded lacks SSUBSCRIBE, or both commands. With
// SPUBLISH alone, the gateway is ready and asks Redis for each request.
func TestPermissions_ShardedFeed(t *testing.T) {
	cluster := redistest.Cluster(t)
	acl := func(rules ...any) {
		for _, n := range cluster.Nodes {
			require.NoError(t, n.Client().Do(t.Context(), append([]any{"ACL", "SETUSER", "meet-gateway"}, rules...)...).Err())
		}
	}
	for _, n := range cluster.Nodes {
		require.NoError(t, n.Client().Do(t.Context(), redistest.DocumentedUser(t, "meet-gateway")...).Err())
	}
	acl("-spublish", "-ssubscribe")
	g := gatewaytest.Start(t, gatewaytest.Config{
		Global: "store redis {\naddress " + strings.Join(cluster.Addrs(), " ") + "\nusername meet-gateway\npassword " + redistest.ACLPassword +
			"\ncluster\n}\nsecret {file." + secretFile(t, doctorSecret) + "}\nstaleness 1s",
		Gate: "backend sandbox",
	})
	l := &limited{Gateway: g}
	eventually(t, func() bool {
		ready, s := l.ready(t)
		return !ready && strings.Contains(s.Reason, "SPUBLISH")
	})
	acl("+spublish")
	eventually(t, func() bool {
		ready, s := l.ready(t)
		return ready && strings.Contains(s.Reason, "NOPERM: the user may not use the command SSUBSCRIBE") && !s.Feed.Fresh
	})
	require.Contains(t, g.Metrics(), "caddy_meet_gateway_feed_refused 1")
	app := g.AddApplication(nil)
	token := g.Token(app, "ada@example.org")
	require.Equal(t, http.StatusOK, g.Do("GET", roomsPath, "", "Authorization", gatewaytest.Bearer(token)).Status)
	acl("+ssubscribe")
	eventually(t, func() bool {
		ready, s := l.ready(t)
		return ready && s.Feed.Fresh
	})
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 30*time.Second, 20*time.Millisecond)
}
