// SPDX-License-Identifier: MIT

package redistest

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	clusterMasters = 3
	clusterSlots   = 16384
)

// ClusterServers is a Redis Cluster of three masters, without replicas unless a test adds one.
// If a master without a replica is down, the others answer CLUSTERDOWN.
type ClusterServers struct {
	// Nodes are the masters.
	Nodes []*Server

	replicas []*Server
	client   *redis.ClusterClient
}

// Cluster starts a cluster and returns when every node is ready. A new master refuses to
// serve for two seconds.
func Cluster(t testing.TB) *ClusterServers {
	t.Helper()
	c := new(ClusterServers)
	for range clusterMasters {
		c.Nodes = append(c.Nodes, launchNode(t))
	}
	for i, n := range c.Nodes {
		first, last := i*clusterSlots/clusterMasters, (i+1)*clusterSlots/clusterMasters-1
		// With different epochs the nodes need not resolve a conflict first.
		n.do(t, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		n.do(t, "CLUSTER", "ADDSLOTSRANGE", first, last)
		for _, other := range c.Nodes[:i] {
			n.do(t, "CLUSTER", "MEET", "127.0.0.1", other.claim.Port)
		}
	}
	c.await(t)
	c.client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	t.Cleanup(func() { _ = c.client.Close() })
	return c
}

func launchNode(t testing.TB) *Server {
	t.Helper()
	return launch(t, func(s *Server) error {
		s.args = append(s.serverArgs(),
			"--cluster-enabled", "yes",
			"--cluster-config-file", "nodes.conf",
			// Long enough that a busy machine does not look like a dead node.
			"--cluster-node-timeout", "5000")
		return nil
	})
}

// AddReplica starts a replica of a master and returns when it can be promoted.
func (c *ClusterServers) AddReplica(t testing.TB, master *Server) *Server {
	t.Helper()
	replica := launchNode(t)
	replica.do(t, "CLUSTER", "MEET", "127.0.0.1", master.claim.Port)
	c.replicas = append(c.replicas, replica)
	c.await(t)
	replica.do(t, "CLUSTER", "REPLICATE", master.do(t, "CLUSTER", "MYID"))
	c.awaitReplica(t, replica)
	return replica
}

// Failover promotes a replica, as an operator does, and returns when all nodes know of it.
func (c *ClusterServers) Failover(t testing.TB, replica *Server) {
	t.Helper()
	c.awaitReplica(t, replica)
	replica.do(t, "CLUSTER", "FAILOVER")
	c.AwaitPromotion(t, replica)
}

// AwaitPromotion waits until all running nodes know that a replica is a master.
func (c *ClusterServers) AwaitPromotion(t testing.TB, replica *Server) {
	t.Helper()
	c.awaitRole(t, replica, "master")
}

// awaitReplica waits until a replica is in step and all nodes would vote for it.
func (c *ClusterServers) awaitReplica(t testing.TB, replica *Server) {
	t.Helper()
	c.awaitRole(t, replica, "slave")
	eventually(t, "the replica to be in step", func() bool {
		info, err := replica.client.Info(context.Background(), "replication").Result()
		return err == nil && infoField(info, "master_link_status") == "up"
	})
}

// awaitRole waits until all running nodes know the role of a node.
func (c *ClusterServers) awaitRole(t testing.TB, of *Server, role string) {
	t.Helper()
	known := regexp.MustCompile(fmt.Sprintf(`(?m)^%s .*[ ,]%s `, of.do(t, "CLUSTER", "MYID"), role))
	for _, n := range c.servers() {
		eventually(t, "all nodes to know that the node is a "+role, func() bool {
			return !n.Running() || known.MatchString(n.client.ClusterNodes(context.Background()).Val())
		})
	}
}

// servers are the masters and the replicas.
func (c *ClusterServers) servers() []*Server { return slices.Concat(c.Nodes, c.replicas) }

// Addrs are the host:port of all nodes.
func (c *ClusterServers) Addrs() []string {
	addrs := make([]string, 0, len(c.Nodes))
	for _, n := range c.Nodes {
		addrs = append(addrs, n.Addr())
	}
	return addrs
}

// URL is for redis.ParseClusterURL.
func (c *ClusterServers) URL() string {
	addrs := c.Addrs()
	u := url.URL{Scheme: "redis", Host: addrs[0], RawQuery: url.Values{"addr": addrs[1:]}.Encode()}
	return u.String()
}

// Client is a client of the cluster. It is closed at the end of the test.
func (c *ClusterServers) Client() *redis.ClusterClient { return c.client }

// FlushAll empties every node.
func (c *ClusterServers) FlushAll(t testing.TB) {
	t.Helper()
	for _, n := range c.Nodes {
		n.FlushAll(t)
	}
}

// Slot returns the slot of a key.
func (c *ClusterServers) Slot(t testing.TB, key string) int {
	t.Helper()
	slot, ok := c.Nodes[0].do(t, "CLUSTER", "KEYSLOT", key).(int64)
	if !ok {
		t.Fatal("redistest: CLUSTER KEYSLOT did not answer a number")
	}
	return int(slot)
}

// Owner returns the node that serves a slot.
func (c *ClusterServers) Owner(t testing.TB, slot int) *Server {
	t.Helper()
	var owner *Server
	eventually(t, "all nodes to agree who owns slot "+strconv.Itoa(slot), func() bool {
		owner = c.agreedOwner(slot)
		return owner != nil
	})
	return owner
}

// await waits until every node knows all others and serves.
func (c *ClusterServers) await(t testing.TB) {
	t.Helper()
	for _, n := range c.servers() {
		eventually(t, "the cluster to be whole", func() bool {
			info, err := n.client.ClusterInfo(context.Background()).Result()
			return err == nil &&
				infoField(info, "cluster_state") == "ok" &&
				infoField(info, "cluster_slots_ok") == strconv.Itoa(clusterSlots) &&
				infoField(info, "cluster_known_nodes") == strconv.Itoa(len(c.servers()))
		})
	}
}

// agreedOwner returns the node that serves a slot according to all nodes, or nil.
func (c *ClusterServers) agreedOwner(slot int) *Server {
	var agreed *Server
	for _, n := range c.Nodes {
		shards, err := n.client.ClusterShards(context.Background()).Result()
		if err != nil {
			return nil
		}
		owner := c.ownerIn(shards, slot)
		if owner == nil || (agreed != nil && agreed != owner) {
			return nil
		}
		agreed = owner
	}
	return agreed
}

func (c *ClusterServers) ownerIn(shards []redis.ClusterShard, slot int) *Server {
	for _, shard := range shards {
		for _, slots := range shard.Slots {
			if int64(slot) < slots.Start || int64(slot) > slots.End || len(shard.Nodes) == 0 {
				continue
			}
			for _, n := range c.Nodes {
				if int64(n.claim.Port) == shard.Nodes[0].Port {
					return n
				}
			}
		}
	}
	return nil
}
