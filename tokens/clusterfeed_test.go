// SPDX-License-Identifier: MIT

package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/redistest"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/storetest"
)

// never is a staleness bound with which no heartbeat is due during a test. Then nothing but its
// message tells a gateway of a change.
const never = 10 * time.Minute

type clusterFeed struct {
	*redistest.ClusterServers
	t        *testing.T
	gateways []*tokens.Authority
	app      *tokens.Application
}

func newClusterFeed(t *testing.T, cluster *redistest.ClusterServers, staleness time.Duration) *clusterFeed {
	t.Helper()
	f := &clusterFeed{ClusterServers: cluster, t: t}
	open := opener(tokens.RedisOptions{Addresses: cluster.Addrs(), Cluster: true, Timeout: 2 * time.Second})
	for range 3 {
		f.gateways = append(f.gateways, storetest.Node(t, open, func(o *tokens.Options) { o.Staleness = staleness }))
	}
	f.app, _ = storetest.App(t, f.gateways[0])
	return f
}

// slot is that of the feed.
func (f *clusterFeed) slot() int { return f.Slot(f.t, redisdb.KeyFeed) }

// known issues tokens that all gateways have in memory.
func (f *clusterFeed) known(n int) (list []*tokens.Token) {
	f.t.Helper()
	for i := range n {
		var tok *tokens.Token
		retry(f.t, "a token is issued", func() (err error) {
			tok, err = f.gateways[i%len(f.gateways)].Issue(f.t.Context(), tokens.Grant{Application: f.app, Mail: "ada@example.org", Scopes: f.app.Scopes})
			return err
		})
		for _, g := range f.gateways {
			retry(f.t, "the token is accepted", func() error { _, err := g.Verify(f.t.Context(), tok.Value); return err })
		}
		list = append(list, tok)
	}
	return list
}

// refused waits until all gateways refuse a token.
func (f *clusterFeed) refused(tok *tokens.Token) {
	f.t.Helper()
	for i, g := range f.gateways {
		storetest.Eventually(f.t, fmt.Sprintf("gateway %d refuses a revoked token", i), func() bool {
			_, err := g.Verify(f.t.Context(), tok.Value)
			return errors.Is(err, tokens.ErrTokenInvalid)
		})
	}
}

// heard requires that every gateway answers from memory again, and hears what each of the others
// changes.
func (f *clusterFeed) heard() {
	f.t.Helper()
	for _, g := range f.gateways {
		storetest.Eventually(f.t, "the feed is fresh", g.Fresh)
	}
	for i, tok := range f.known(len(f.gateways)) {
		retry(f.t, "the token is revoked", func() error { return f.gateways[i].RevokeToken(f.t.Context(), tok.Value) })
		f.refused(tok)
	}
}

// subscribed waits until a server counts all gateways as subscribers of the feed.
func (f *clusterFeed) subscribed(at *redistest.Server) {
	f.t.Helper()
	storetest.Eventually(f.t, "all gateways have subscribed", func() bool {
		count := at.Client().PubSubShardNumSub(f.t.Context(), redisdb.ChannelFeed).Val()
		return count[redisdb.ChannelFeed] == int64(len(f.gateways))
	})
}

// during revokes tokens one after the other while the fault happens, and requires that every
// gateway refuses each of them afterwards.
func (f *clusterFeed) during(fault func()) {
	f.t.Helper()
	list := f.known(60)
	done := make(chan struct{})
	var revoking sync.WaitGroup
	revoked := 0
	revoking.Go(func() {
		for i, tok := range list {
			select {
			case <-done:
				return
			default:
			}
			for f.gateways[i%len(f.gateways)].RevokeToken(context.WithoutCancel(f.t.Context()), tok.Value) != nil {
				time.Sleep(time.Millisecond)
			}
			revoked++
			time.Sleep(time.Millisecond)
		}
	})
	fault()
	close(done)
	revoking.Wait()
	require.Positive(f.t, revoked)
	for _, tok := range list[:revoked] {
		f.refused(tok)
	}
}

// calls is how often the primaries ran a command.
func (f *clusterFeed) calls(command string) (sum int) {
	for _, n := range f.Nodes {
		stats := n.Client().Info(f.t.Context(), "commandstats").Val()
		if _, after, ok := strings.Cut(stats, "cmdstat_"+command+":calls="); ok {
			var calls int
			_, err := fmt.Sscanf(after, "%d", &calls)
			require.NoError(f.t, err)
			sum += calls
		}
	}
	return sum
}

// Changes and heartbeats reach the gateways, and do not leave the shard that has the feed.
func TestClusterFeed_StaysInItsShard(t *testing.T) {
	f := newClusterFeed(t, redistest.Cluster(t), never)
	f.heard()
	owner := f.Owner(t, f.slot())
	f.subscribed(owner)
	channels := owner.Client().PubSubShardChannels(t.Context(), "mg1:*").Val()
	require.Len(t, channels, 1+len(f.gateways), "one of all gateways, and one of each")
	require.Contains(t, channels, "mg1:feed")
	require.GreaterOrEqual(t, f.calls("spublish"), 2*len(f.gateways))
	require.Zero(t, f.calls("publish"))
	for _, n := range f.Nodes {
		require.NotContains(t, n.Client().ClusterInfo(t.Context()).Val(), "messages_publish", "published to other servers")
		require.Equal(t, n == owner, strings.Contains(n.Client().Info(t.Context(), "commandstats").Val(), "cmdstat_spublish"))
	}
}

// The channels of the feed are in the slot of its key.
func TestClusterFeed_Slots(t *testing.T) {
	cluster := redistest.Cluster(t)
	slot := cluster.Slot(t, redisdb.KeyFeed)
	require.Equal(t, slot, cluster.Slot(t, redisdb.ChannelFeed))
	require.Equal(t, slot, cluster.Slot(t, redisdb.ChannelNode+"4f2c"))
}

// The slot of the feed moves to another server with its keys, and back. Redis ends the
// subscriptions; the gateways subscribe at the new server and miss nothing.
func TestClusterFeed_SlotMoves(t *testing.T) {
	f := newClusterFeed(t, redistest.Cluster(t), never)
	f.heard()
	for range 3 {
		f.during(func() {
			move := f.BeginSlotMove(t, f.slot())
			time.Sleep(5 * time.Millisecond) // for some changes; none need happen
			move.MoveKeys(t, 1)
			time.Sleep(5 * time.Millisecond)
			move.Finish(t)
		})
		f.subscribed(f.Owner(t, f.slot()))
		f.heard()
	}
}

// Resharding stops when the key of the feed has moved and its slot has not. Nobody can subscribe
// where messages are published, so the gateways ask Redis once the bound has passed.
func TestClusterFeed_SlotLeftOpen(t *testing.T) {
	f := newClusterFeed(t, redistest.Cluster(t), bound)
	f.heard()
	move := f.BeginSlotMove(t, f.slot())
	move.MoveKeys(t, 1)
	for i, tok := range f.known(len(f.gateways)) {
		require.NoError(t, f.gateways[i].RevokeToken(t.Context(), tok.Value))
		f.refused(tok)
	}
	for _, g := range f.gateways {
		storetest.Eventually(t, "no gateway trusts its memory", func() bool { return !g.Fresh() })
		require.NoError(t, g.Ready(t.Context()))
	}
	move.Finish(t)
	f.heard()
}

// The primary of the feed is replaced by its replica, and replaces that again. A gateway that
// subscribes at the replica receives what is published in its shard.
func TestClusterFeed_Failover(t *testing.T) {
	cluster := redistest.Cluster(t)
	former := cluster.Owner(t, cluster.Slot(t, redisdb.KeyFeed))
	replica := cluster.AddReplica(t, former)
	f := newClusterFeed(t, cluster, 5*time.Second)
	f.heard()
	f.during(func() { cluster.Failover(t, replica) })
	f.heard()
	f.during(func() { cluster.Failover(t, former) })
	f.heard()
}

// The primary of the feed fails, and its replica is elected.
func TestClusterFeed_PrimaryKilled(t *testing.T) {
	cluster := redistest.Cluster(t)
	former := cluster.Owner(t, cluster.Slot(t, redisdb.KeyFeed))
	replica := cluster.AddReplica(t, former)
	f := newClusterFeed(t, cluster, 2*time.Second)
	f.heard()
	f.during(func() {
		former.Kill(t)
		cluster.AwaitPromotion(t, replica)
	})
	f.subscribed(replica)
	f.heard()
}

// A gateway of version 0.1 publishes its changes with PUBLISH. Later versions hear them.
func TestClusterFeed_FormerVersion(t *testing.T) {
	f := newClusterFeed(t, redistest.Cluster(t), never)
	tok := f.known(1)[0]
	require.NoError(t, f.Client().SetRange(t.Context(), redisdb.KeyToken(tok.ID), 0, "\x00").Err())
	require.NoError(t, f.Client().Eval(t.Context(), `
		local seq = redis.call('INCR', KEYS[1])
		return redis.call('PUBLISH', KEYS[1], seq .. ' in the form of 0.1')`, []string{redisdb.KeyFeed}).Err())
	f.refused(tok)
}

// BenchmarkClusterFeed measures what a change costs a primary that has neither the feed nor what
// changes: the messages that reach it on the cluster bus, and its CPU.
func BenchmarkClusterFeed(b *testing.B) {
	for _, gateways := range []int{1, 16} {
		b.Run(fmt.Sprint(gateways, " gateways"), func(b *testing.B) {
			cluster := redistest.Cluster(b)
			var first *tokens.Authority
			for range gateways {
				s, err := tokens.OpenRedis(tokens.RedisOptions{Addresses: cluster.Addrs(), Cluster: true, Timeout: 10 * time.Second})
				require.NoError(b, err)
				a, err := tokens.New(tokens.Options{Store: s, Secrets: [][]byte{storetest.Secret}, Staleness: never})
				require.NoError(b, err)
				a.Start()
				b.Cleanup(func() {
					require.NoError(b, a.Close())
					require.NoError(b, s.Close())
				})
				require.Eventually(b, a.Fresh, 20*time.Second, time.Millisecond)
				first = a
			}
			app, _, err := first.CreateApplication(b.Context(), tokens.Application{Name: "Calendar", Active: true, Domains: []string{"*"}})
			require.NoError(b, err)
			feed := cluster.Owner(b, cluster.Slot(b, redisdb.KeyFeed))
			record := cluster.Owner(b, cluster.Slot(b, redisdb.KeyApplication(app.ID)))
			i := slices.IndexFunc(cluster.Nodes, func(s *redistest.Server) bool { return s != feed && s != record })
			uninvolved := cluster.Nodes[i].Client()
			read := func() (messages, cpu float64) {
				info := uninvolved.ClusterInfo(b.Context()).Val() + uninvolved.Info(b.Context(), "cpu").Val()
				return number(info, "cluster_stats_messages_publish_received"), number(info, "used_cpu_user") + number(info, "used_cpu_sys")
			}
			messages, cpu := read()
			for b.Loop() {
				require.NoError(b, first.RevokeApplication(b.Context(), app.ID))
			}
			after, spent := read()
			b.ReportMetric((after-messages)/float64(b.N), "messages/op")
			b.ReportMetric((spent-cpu)/float64(b.N)*1e6, "cpu-µs/op")
		})
	}
}

// number reads a field of INFO; 0 if there is none.
func number(info, field string) (n float64) {
	if _, after, ok := strings.Cut(info, "\n"+field+":"); ok {
		_, _ = fmt.Sscanf(after, "%g", &n)
	}
	return n
}
