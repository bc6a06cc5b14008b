// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// ErrNotPrimary means that a server is a replica: it may lack what the primary
// has, and takes no writes.
var ErrNotPrimary = errors.New("the server that is asked is not the primary")

// ErrUnfollowed means that the primary may have been replaced.
var ErrUnfollowed = errors.New("most Sentinels do not answer, and a replica of the primary that they knew is missing")

// Servers returns what tells apart the primaries there are now. One that was
// restarted or promoted, also if it had been the primary before, is another one,
// and may have lost what its predecessor acknowledged. Servers that do not tell
// their run id (the embedded one; INFO forbidden) are left out, as are those of a
// Cluster that do not answer: nothing can be found out about them.
//
// If Redis turns out to be a replica, its connections are dropped, so that the
// next ones may lead to the primary, and the error is ErrNotPrimary. If the
// Sentinels cannot agree who the primary is, or too few answer and the primary
// cannot be proven otherwise, that is an error as well.
func (s *DB) Servers(ctx context.Context) ([]string, error) {
	if c, ok := s.rdb.(*redis.ClusterClient); ok {
		var mu sync.Mutex
		var ids []string
		_ = c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			if server, err := whois(ctx, c); err == nil && server.id != "" {
				mu.Lock()
				defer mu.Unlock()
				ids = append(ids, server.id)
			}
			return nil
		})
		return ids, nil
	}
	quorum := true
	if s.sentinels != nil {
		var err error
		if quorum, err = s.sentinels.ask(ctx); err != nil {
			return nil, err
		}
	}
	server, err := whois(ctx, s.rdb)
	if err != nil {
		return nil, err
	}
	if server.role == "slave" {
		s.conns.drop(func(n *connection) bool { return !n.feed })
		return nil, ErrNotPrimary
	}
	if s.sentinels != nil {
		s.sentinels.saw(len(server.replicas))
	}
	if !quorum {
		if err := s.followed(ctx, server); err != nil {
			return nil, err
		}
	}
	if server.id == "" {
		return nil, nil
	}
	return []string{server.id}, nil
}

// followed proves, without the Sentinels, that a primary was not replaced before
// this call: it says something to its replicas, and all of them, as many as the
// Sentinels knew, must have heard it. One that was promoted follows it no longer.
// A group without replicas cannot fail over.
func (s *DB) followed(ctx context.Context, before serverInfo) error {
	known := s.sentinels.current().replicas
	want := max(known-1, len(before.replicas))
	switch {
	case known == 0, len(before.replicas) < want:
		return ErrUnfollowed
	case want == 0:
		return nil
	}
	pipe := s.rdb.Pipeline()
	// It is passed on to replicas as a write is, and a server that is full takes it.
	pipe.Publish(ctx, ChannelNode, "-")
	pipe.Do(ctx, "WAIT", want, s.replicaPatience().Milliseconds())
	info := pipe.Info(ctx, "server", "replication")
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("asking replicas whom they follow: %w", err)
	}
	after := readInfo(info.Val())
	if after.id != before.id || len(after.replicas) < want {
		return ErrUnfollowed
	}
	for _, heard := range after.replicas {
		if heard <= before.offset {
			return ErrUnfollowed
		}
	}
	return nil
}

// serverInfo is what a server says of itself, empty for what it does not tell.
type serverInfo struct {
	// id is the process (run_id) and the history of its data (master_replid), which
	// begins anew when a replica is promoted.
	id   string
	role string
	// offset counts what it has said to its replicas.
	offset int64
	// replicas are those connected, each by what it has confirmed of that.
	replicas []int64
}

// whois asks a server who it is. An error means that it did not answer.
func whois(ctx context.Context, c redis.Cmdable) (serverInfo, error) {
	info, err := c.Info(ctx, "server", "replication").Result()
	if refusal, ok := errors.AsType[redis.Error](err); ok {
		if text := refusal.Error(); strings.HasPrefix(text, "NOPERM") || strings.HasPrefix(text, "ERR") {
			return serverInfo{}, nil // it does not tell
		}
	}
	if err != nil {
		return serverInfo{}, err
	}
	return readInfo(info), nil
}

func readInfo(info string) serverInfo {
	var s serverInfo
	var process, data string
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "run_id":
			process = value
		case "role":
			s.role = value
		case "master_replid":
			data = value
		case "master_repl_offset":
			s.offset, _ = strconv.ParseInt(value, 10, 64)
		default:
			if number, ok := strings.CutPrefix(name, "slave"); ok && isNumber(number) {
				s.replicas = append(s.replicas, confirmed(value))
			}
		}
	}
	if process != "" {
		s.id = process + "/" + data
	}
	return s
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// confirmed returns what a replica has confirmed, from a line of INFO such as
// ip=127.0.0.1,port=6380,state=online,offset=42,lag=1; -1 if it is not in step.
func confirmed(line string) int64 {
	offset, online := int64(-1), false
	for field := range strings.SplitSeq(line, ",") {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "state":
			online = value == "online"
		case "offset":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				offset = n
			}
		}
	}
	if !online {
		return -1
	}
	return offset
}
