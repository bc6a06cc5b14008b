// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// Settings is what a server tells of itself with INFO. Fields that it does not tell are empty.
// Known is false if it tells nothing, as the embedded store.
type Settings struct {
	// Server is its host:port; "" for a single server.
	Server  string
	Known   bool
	Version string
	// AppendOnly means that Redis writes every change to a file.
	AppendOnly bool
	// Policy is maxmemory-policy: what Redis does when it is full.
	Policy string
	// MaxMemory and UsedMemory are in bytes; MaxMemory 0 is no bound.
	MaxMemory, UsedMemory int64
	// Replicas is how many confirm changes, which tools that copy the data as a replica do not.
	// MinReplicas is 1 if writes need replicas.
	Replicas, MinReplicas int
}

// policyKeep is the maxmemory-policy that evicts nothing.
const policyKeep = "noeviction"

// Settings asks every primary. The error is ErrUnavailable; a user that may not ask is not
// an error.
func (db *DB) Settings(ctx context.Context) ([]Settings, error) {
	var mu sync.Mutex
	var all []Settings
	err := db.onPrimaries(ctx, func(ctx context.Context, c redis.Cmdable) error {
		info, err := askInfo(ctx, c, "server", "persistence", "memory", "replication")
		if err != nil {
			return failure.Unavailable("asking Redis for its settings", err)
		}
		s := readSettings(info)
		s.Server = db.nameOf(c)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, s)
		return nil
	})
	slices.SortFunc(all, func(x, y Settings) int { return strings.Compare(x.Server, y.Server) })
	return all, err
}

func readSettings(info map[string]string) Settings {
	aof, known := info["aof_enabled"]
	s := Settings{
		Known: known, Version: info["redis_version"], AppendOnly: aof == "1", Policy: info["maxmemory_policy"],
		MaxMemory: parseInt(info["maxmemory"]), UsedMemory: parseInt(info["used_memory"]),
	}
	for _, r := range readServer(info).replicas {
		if r.confirmed > 0 {
			s.Replicas++
		}
	}
	if _, needed := info["min_slaves_good_slaves"]; needed { // told only if min-replicas-to-write is set
		s.MinReplicas = 1
	}
	return s
}

// Warnings lists the settings that lose data, each with the servers and the line of redis.conf
// that fixes it.
func Warnings(all []Settings) (list []string) {
	known := slices.DeleteFunc(slices.Clone(all), func(s Settings) bool { return !s.Known })
	for _, fault := range []func(Settings) string{
		func(s Settings) string {
			if s.AppendOnly {
				return ""
			}
			return " keeps no append-only file: when it restarts, tokens, revocations and applications are lost; set `appendonly yes`"
		},
		func(s Settings) string {
			if s.Policy == "" || s.Policy == policyKeep {
				return ""
			}
			return " may evict keys (maxmemory-policy " + s.Policy + "): an evicted application is a deleted one; set `maxmemory-policy noeviction`"
		},
	} {
		for _, s := range sayings(known, func(s Settings) (string, string) { return s.Server, fault(s) }) {
			list = append(list, redisAt(s.servers)+s.what)
		}
	}
	return list
}

// askInfo returns sections of INFO. They are empty if Redis refuses, because the user
// may not ask or the command has another name, and for the embedded server.
func askInfo(ctx context.Context, c redis.Cmdable, sections ...string) (map[string]string, error) {
	text, err := c.Info(ctx, sections...).Result()
	if refusal, ok := errors.AsType[redis.Error](err); ok {
		if word, _, _ := strings.Cut(refusal.Error(), " "); word == "NOPERM" || word == "ERR" {
			return nil, nil
		}
	}
	return parseInfo(text), err
}

// parseInfo parses an answer to INFO.
func parseInfo(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// parseInt parses a number; a missing or malformed one is 0.
func parseInt(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}
