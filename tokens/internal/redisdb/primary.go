// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// ErrNotPrimary means that the server is a replica: it may lack data of the primary, and
// takes no writes.
var ErrNotPrimary = errors.New("the server that is asked is not the primary")

// ErrUnfollowed means that the primary may have been replaced.
var ErrUnfollowed = errors.New("most Sentinels do not answer, and a replica of the primary that they knew is missing")

// Servers returns the identities of the current primaries. A primary that was restarted or
// promoted has a new identity, even if it was the primary before: it may have lost what
// was acknowledged. Servers without an identity (the embedded one; INFO forbidden) are
// left out, as are servers of a Cluster that do not answer.
//
// If Redis is a replica, its connections are dropped, so that the next ones may lead to
// the primary, and the error is ErrNotPrimary. It is also an error if the Sentinels
// disagree, or if too few of them answer and the primary cannot prove itself.
func (db *DB) Servers(ctx context.Context) ([]string, error) {
	if db.conns == nil {
		var mu sync.Mutex
		var ids []string
		_ = db.onPrimaries(ctx, func(ctx context.Context, c redis.Cmdable) error {
			if server, err := identify(ctx, c); err == nil && server.id != "" {
				mu.Lock()
				defer mu.Unlock()
				ids = append(ids, server.id)
			}
			return nil
		})
		return ids, nil
	}
	quorum := true
	if db.sentinels != nil {
		var err error
		if quorum, err = db.sentinels.update(ctx); err != nil {
			return nil, err
		}
	}
	server, err := identify(ctx, db.rdb)
	if err != nil {
		return nil, err
	}
	if server.role == "slave" {
		db.conns.drop(func(n *connection) bool { return !n.feed })
		return nil, ErrNotPrimary
	}
	if db.sentinels != nil {
		db.sentinels.noteReplicas(len(server.replicas))
	}
	if !quorum {
		if err := db.followed(ctx, server); err != nil {
			return nil, err
		}
	}
	if server.id == "" {
		return nil, nil
	}
	return []string{server.id}, nil
}

// followed proves without the Sentinels that the primary was not replaced before this
// call. It publishes something, and all replicas must confirm it: as many as the Sentinels
// knew. A replica that was promoted no longer follows this primary. A group without
// replicas cannot fail over.
func (db *DB) followed(ctx context.Context, before serverInfo) error {
	known := db.sentinels.current().replicas
	want := max(known-1, len(before.replicas))
	switch {
	case known == 0, len(before.replicas) < want:
		return ErrUnfollowed
	case want == 0:
		return nil
	}
	pipe := db.rdb.Pipeline()
	// A message is replicated as a write is, but accepted by a server that is full.
	pipe.Publish(ctx, ChannelNode, "-")
	pipe.Do(ctx, "WAIT", want, db.replicaTimeout().Milliseconds())
	info := pipe.Info(ctx, "server", "replication")
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("asking replicas whom they follow: %w", err)
	}
	after := readServer(parseInfo(info.Val()))
	if after.id != before.id || len(after.replicas) < want ||
		slices.ContainsFunc(after.replicas, func(r replica) bool { return r.confirmed <= before.offset }) {
		return ErrUnfollowed
	}
	return nil
}

// serverInfo is what a server says of itself. Fields that it does not tell are empty.
type serverInfo struct {
	// id is the process (run_id) and its history of data (master_replid), which changes
	// when a replica is promoted.
	id       string
	role     string
	offset   int64 // of its replication stream
	replicas []replica
}

// replica is a replica that is connected to a primary.
type replica struct {
	addr      string // host:port
	confirmed int64  // the offset that it has confirmed; -1 if it is not in step
}

// identify asks a server for its identity. The error means that it did not answer.
func identify(ctx context.Context, c redis.Cmdable) (serverInfo, error) {
	info, err := askInfo(ctx, c, "server", "replication")
	return readServer(info), err
}

func readServer(info map[string]string) serverInfo {
	s := serverInfo{role: info["role"], offset: parseInt(info["master_repl_offset"])}
	if process := info["run_id"]; process != "" {
		s.id = process + "/" + info["master_replid"]
	}
	for i := range parseInt(info["connected_slaves"]) {
		// ip=127.0.0.1,port=6380,state=online,offset=42,lag=1
		fields := map[string]string{}
		for field := range strings.SplitSeq(info["slave"+strconv.FormatInt(i, 10)], ",") {
			name, value, _ := strings.Cut(field, "=")
			fields[name] = value
		}
		r := replica{addr: net.JoinHostPort(fields["ip"], fields["port"]), confirmed: -1}
		if fields["state"] == "online" {
			r.confirmed = parseInt(fields["offset"])
		}
		s.replicas = append(s.replicas, r)
	}
	return s
}
