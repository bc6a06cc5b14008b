// SPDX-License-Identifier: MIT

package redistest

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// MasterName is the name under which the sentinels know the master.
const MasterName = "mymaster"

const sentinels = 3

// sentinelConfig is the configuration of a sentinel, which also writes to it. Its arguments
// are the lines about listening, and the port of the master.
//
// Two sentinels must agree that the master has not answered for two seconds: quick for a
// test, slow enough for a busy machine. After a failover they wait for twice the failover
// timeout before they start another one.
const sentinelConfig = `%s
bind 127.0.0.1
protected-mode no
sentinel monitor ` + MasterName + ` 127.0.0.1 %d 2
sentinel down-after-milliseconds ` + MasterName + ` 2000
sentinel failover-timeout ` + MasterName + ` 3000
`

// SentinelServers is a master with replicas, watched by three sentinels.
type SentinelServers struct {
	// Data are the data servers, one of which is the master.
	Data      []*Server
	Sentinels []*Server

	client *redis.Client
}

// Passwords of the default users of SentinelSecure.
const (
	DataPassword     = "redistest-data"
	SentinelPassword = "redistest-sentinels"
)

// Sentinel starts a master, one replica and three sentinels, and returns when the sentinels
// know each other and the replica is in step.
func Sentinel(t testing.TB) *SentinelServers {
	t.Helper()
	return SentinelGroup(t, 1)
}

// SentinelGroup is Sentinel with a number of replicas. Further arguments are options of the
// data servers.
func SentinelGroup(t testing.TB, replicas int, extraArgs ...string) *SentinelServers {
	t.Helper()
	data := func(args ...string) *Server { return Standalone(t, append(args, extraArgs...)...) }
	return startSentinels(t, replicas, data, func(n *Server) string { return "port " + strconv.Itoa(n.claim.Port) })
}

// SentinelSecure is Sentinel with TLS and passwords: DataPassword and SentinelPassword. All
// servers have the same certificate.
func SentinelSecure(t testing.TB) *SentinelServers {
	t.Helper()
	dir := t.TempDir()
	certificate, err := writeCertificate(dir)
	if err != nil {
		t.Fatal("redistest:", err)
	}
	secure := func(n *Server, password string) {
		n.certificates, n.password = dir, password
		n.roots = x509.NewCertPool()
		n.roots.AddCert(certificate)
	}
	files := [][2]string{
		{"tls-cert-file", filepath.Join(dir, certificateFile)},
		{"tls-key-file", filepath.Join(dir, keyFile)},
		{"tls-ca-cert-file", filepath.Join(dir, certificateFile)},
		{"tls-auth-clients", "no"},
		{"tls-replication", "yes"},
	}
	data := func(args ...string) *Server {
		return launch(t, func(n *Server) error {
			secure(n, DataPassword)
			n.args = append(n.serverArgs(), "--port", "0", "--tls-port", strconv.Itoa(n.claim.Port), "--masterauth", DataPassword)
			for _, f := range files {
				n.args = append(n.args, "--"+f[0], f[1])
			}
			n.configure(append([]string{"--requirepass", DataPassword}, args...))
			return nil
		})
	}
	return startSentinels(t, 1, data, func(n *Server) string {
		secure(n, SentinelPassword)
		lines := []string{"port 0", "tls-port " + strconv.Itoa(n.claim.Port), "requirepass " + SentinelPassword, "sentinel sentinel-pass " + SentinelPassword}
		for _, f := range files {
			lines = append(lines, f[0]+" "+f[1])
		}
		return strings.Join(lines, "\n")
	})
}

// startSentinels starts data servers and sentinels. listen returns the lines of the
// configuration of a sentinel about listening.
func startSentinels(t testing.TB, replicas int, data func(args ...string) *Server, listen func(*Server) string) *SentinelServers {
	t.Helper()
	master := data()
	s := &SentinelServers{Data: []*Server{master}}
	for range replicas {
		replica := data("--replicaof", "127.0.0.1 "+strconv.Itoa(master.claim.Port))
		s.Data = append(s.Data, replica)
		eventually(t, "the replica to follow the master", func() bool {
			info, _ := replica.client.Info(context.Background(), "replication").Result()
			return infoField(info, "master_link_status") == "up"
		})
	}

	for range sentinels {
		s.Sentinels = append(s.Sentinels, startSentinel(t, master, listen, ""))
	}
	for _, n := range s.Sentinels {
		// By default they poll the servers every ten seconds and publish every two. They
		// correct the role of a server after four publish periods, which must be longer
		// than a promotion (a second), or they undo it. A sentinel that did not run for two
		// seconds goes into TILT mode, which lasts longer than a test waits.
		n.do(t, "SENTINEL", "DEBUG", "INFO-PERIOD", 500, "PUBLISH-PERIOD", 1000, "TILT-PERIOD", 3000)
	}
	s.awaitWatch(t)

	s.client = redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: MasterName, SentinelAddrs: s.Addrs(), TLSConfig: master.TLSConfig(),
		Password: master.password, SentinelPassword: s.Sentinels[0].password,
	})
	t.Cleanup(func() { _ = s.client.Close() })
	return s
}

// startSentinel starts one sentinel. more are further lines of its configuration.
func startSentinel(t testing.TB, master *Server, listen func(*Server) string, more string) *Server {
	t.Helper()
	return launch(t, func(n *Server) error {
		n.args = []string{"sentinel.conf", "--sentinel"}
		config := fmt.Sprintf(sentinelConfig, listen(n), master.claim.Port)
		if master.password != "" {
			config += "sentinel auth-pass " + MasterName + " " + master.password + "\n"
		}
		return os.WriteFile(filepath.Join(n.dir, n.args[0]), []byte(config+more), 0o600)
	})
}

// Deaf starts another sentinel that is cut off from the others: for it the current master
// stays the master.
func (s *SentinelServers) Deaf(t testing.TB) *Server {
	t.Helper()
	master := s.Master(t)
	for _, d := range s.Data {
		d.do(t, "ACL", "SETUSER", "deaf", "on", ">deaf", "~*", "&*", "+@all", "-subscribe", "-psubscribe", "-publish", "-replicaof", "-slaveof")
	}
	deaf := startSentinel(t, master, func(n *Server) string { return "port " + strconv.Itoa(n.claim.Port) },
		"sentinel auth-user "+MasterName+" deaf\nsentinel auth-pass "+MasterName+" deaf\n")
	eventually(t, "the deaf sentinel to know the replica", func() bool {
		info, err := deaf.client.Info(context.Background(), "sentinel").Result()
		return err == nil && strings.HasSuffix(infoField(info, "master0"), ",slaves=1,sentinels=1")
	})
	return deaf
}

// Addrs are the host:port of the sentinels.
func (s *SentinelServers) Addrs() []string {
	addrs := make([]string, 0, len(s.Sentinels))
	for _, n := range s.Sentinels {
		addrs = append(addrs, n.Addr())
	}
	return addrs
}

// URL is for redis.ParseFailoverURL.
func (s *SentinelServers) URL() string {
	addrs := s.Addrs()
	query := url.Values{"master_name": {MasterName}, "addr": addrs[1:]}
	u := url.URL{Scheme: "redis", Host: addrs[0], RawQuery: query.Encode()}
	return u.String()
}

// Client is a client that asks the sentinels for the master. It is closed at the end of the
// test.
func (s *SentinelServers) Client() *redis.Client { return s.client }

// Master waits until all sentinels agree on a master, and returns it.
func (s *SentinelServers) Master(t testing.TB) *Server {
	t.Helper()
	var master *Server
	eventually(t, "the sentinels to agree on a master", func() bool {
		master = s.agreedMaster()
		return master != nil
	})
	return master
}

// FlushAll empties the master and, through it, the replicas.
func (s *SentinelServers) FlushAll(t testing.TB) {
	t.Helper()
	s.Master(t).FlushAll(t)
}

// Failover orders a failover, waits until the former master follows the new one, and returns
// the new one. Writes to the former master in between are lost.
func (s *SentinelServers) Failover(t testing.TB) *Server {
	t.Helper()
	master := s.order(t, s.Master(t))
	s.AwaitReplica(t)
	return master
}

// Depose orders a failover and keeps the former master from becoming a replica, as if the
// sentinels could not reach it, until demote is called.
func (s *SentinelServers) Depose(t testing.TB) (former, master *Server, demote func()) {
	t.Helper()
	former = s.Master(t)
	former.do(t, "ACL", "SETUSER", "default", "-replicaof", "-slaveof")
	master = s.order(t, former)
	return former, master, func() {
		former.do(t, "ACL", "SETUSER", "default", "+replicaof", "+slaveof")
		s.AwaitReplica(t)
	}
}

// order orders a failover and returns the new master.
func (s *SentinelServers) order(t testing.TB, former *Server) *Server {
	t.Helper()
	s.AwaitReplica(t)
	leader := s.Sentinels[0].client
	eventually(t, "a sentinel to carry out the failover", func() bool {
		ctx := context.Background()
		watched := redis.NewMapStringStringCmd(ctx, "SENTINEL", "MASTER", MasterName)
		if leader.Process(ctx, watched) != nil || strings.Contains(watched.Val()["flags"], "failover_in_progress") {
			return false
		}
		if watched.Val()["port"] == strconv.Itoa(former.claim.Port) {
			// The sentinel refuses while the replica is not in step.
			_ = leader.Do(ctx, "SENTINEL", "FAILOVER", MasterName)
			return false
		}
		return true
	})
	return s.AwaitFailover(t, former)
}

// AwaitFailover waits until the sentinels have replaced the former master, and returns the new
// one.
func (s *SentinelServers) AwaitFailover(t testing.TB, former *Server) *Server {
	t.Helper()
	var master *Server
	eventually(t, "the failover", func() bool {
		master = s.agreedMaster()
		return master != nil && master != former && role(master) == "master"
	})
	return master
}

// awaitWatch waits until the sentinels know each other and the replicas.
func (s *SentinelServers) awaitWatch(t testing.TB) {
	t.Helper()
	for _, n := range s.Sentinels {
		eventually(t, "the sentinels to know each other", func() bool {
			info, err := n.client.Info(context.Background(), "sentinel").Result()
			return err == nil && strings.HasSuffix(infoField(info, "master0"), fmt.Sprintf(",slaves=%d,sentinels=", len(s.Data)-1)+strconv.Itoa(sentinels))
		})
	}
	s.AwaitReplica(t)
}

// AwaitReplica waits until every running sentinel has seen that the replicas follow the
// master. Otherwise a sentinel could undo the next promotion.
func (s *SentinelServers) AwaitReplica(t testing.TB) {
	t.Helper()
	for _, n := range s.Sentinels {
		eventually(t, "the sentinels to see the replica in step", func() bool {
			if !n.Running() {
				return true
			}
			ctx := context.Background()
			replicas := redis.NewMapStringStringSliceCmd(ctx, "SENTINEL", "REPLICAS", MasterName)
			return n.client.Process(ctx, replicas) == nil && len(replicas.Val()) == len(s.Data)-1 &&
				!slices.ContainsFunc(replicas.Val(), func(r map[string]string) bool {
					return r["flags"] != "slave" || r["role-reported"] != "slave" || r["master-link-status"] != "ok"
				})
		})
	}
}

// agreedMaster returns the master according to all running sentinels, or nil.
func (s *SentinelServers) agreedMaster() *Server {
	agreed := ""
	for _, n := range s.Sentinels {
		if !n.Running() {
			continue
		}
		addr := ""
		at, ok := n.client.Do(context.Background(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName).Val().([]any)
		if ok && len(at) == 2 {
			addr = net.JoinHostPort(fmt.Sprint(at[0]), fmt.Sprint(at[1]))
		}
		if addr == "" || (agreed != "" && agreed != addr) {
			return nil
		}
		agreed = addr
	}
	for _, n := range s.Data {
		if n.Addr() == agreed {
			return n
		}
	}
	return nil
}

func role(s *Server) string {
	info, _ := s.client.Info(context.Background(), "replication").Result()
	return infoField(info, "role")
}
