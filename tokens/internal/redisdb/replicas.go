// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Replica is a replica that this gateway could not use if it became the primary.
type Replica struct {
	// Server is its host:port.
	Server  string
	Problem string
	// Forbidden means that the problem is the user: Redis does not replicate users.
	Forbidden bool
}

// UnusableReplicas asks each replica to which a Cluster or Sentinels may fail over what the user
// may do. For each it opens a connection, which is in no statistics, and closes it again.
func (db *DB) UnusableReplicas(ctx context.Context) (list []Replica) {
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, addr := range db.replicas(ctx) {
		asked.Go(func() {
			if r := db.tryReplica(ctx, addr); r.Problem != "" {
				mu.Lock()
				defer mu.Unlock()
				list = append(list, r)
			}
		})
	}
	asked.Wait()
	slices.SortFunc(list, func(x, y Replica) int { return strings.Compare(x.Server, y.Server) })
	return list
}

// replicas returns the addresses of the replicas. None is returned if Redis does not tell.
func (db *DB) replicas(ctx context.Context) (addrs []string) {
	if cluster := db.cluster(); cluster != nil {
		var mu sync.Mutex
		_ = cluster.ForEachSlave(ctx, func(_ context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			addrs = append(addrs, c.Options().Addr)
			return nil
		})
		return addrs
	}
	if db.sentinels == nil {
		return nil
	}
	info, _ := askInfo(ctx, db.rdb, "replication")
	for _, r := range readServer(info).replicas {
		if r.confirmed > 0 {
			addrs = append(addrs, r.addr)
		}
	}
	return addrs
}

func (db *DB) tryReplica(ctx context.Context, addr string) Replica {
	options := db.options.Simple()
	options.Addr, options.OnConnect, options.MaxRetries = addr, nil, -1
	c := redis.NewClient(options)
	defer c.Close()
	r := Replica{Server: printable(addr)}
	lack, err := db.permissionsAt(ctx, c)
	switch problem, _ := answerProblem(err); {
	case ctx.Err() != nil, problem == "loading", problem == "readonly": // not known, or not yet in step
	case err != nil:
		r.Problem, r.Forbidden = Problem(err), IsForbidden(err)
	case lack.String() != "":
		r.Problem, r.Forbidden = "NOPERM: the Redis user may not use "+lack.String(), true
	}
	return r
}
