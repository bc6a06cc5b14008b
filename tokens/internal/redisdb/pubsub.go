// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// PublishCommand is the command with which scripts publish. A Cluster sends what is published
// with PUBLISH to all its servers, so SPUBLISH is used there. It stays within the shard that
// has the slot of the channel. A script may only use channels in the slot of its key.
func (db *DB) PublishCommand() string {
	if db.cluster() != nil {
		return "SPUBLISH"
	}
	return "PUBLISH"
}

// Subscribe listens on channels in the slot of KeyFeed. The connection stays open when the
// primary is replaced: what was proven through it before is still true.
//
// In a Cluster, the slot may move to another shard. Redis then ends the subscription:
// [SlotLost] is true for the next event.
func (db *DB) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	cluster := db.cluster()
	if cluster == nil {
		return db.rdb.Subscribe(context.WithValue(ctx, forFeed{}, true), channels...)
	}
	// Load again which server has the slot. ReloadState would not wait for it.
	_ = cluster.ForEachMaster(ctx, func(context.Context, *redis.Client) error { return nil })
	// Gateways of version 0.1 publish with PUBLISH. Drop this in 0.3.
	ps := cluster.Subscribe(ctx, ChannelFeed)
	_ = ps.SSubscribe(ctx, channels...) // after an error the feed hears no heartbeat and starts over
	return ps
}

// SlotLost reports whether an event means that the server no longer has the slot of a channel,
// so that nothing more is heard of it.
func SlotLost(event *redis.Subscription) bool { return event.Kind == "sunsubscribe" }

// cluster is the client of a Cluster, or nil.
func (db *DB) cluster() *redis.ClusterClient {
	c, _ := db.rdb.(*redis.ClusterClient)
	return c
}
