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

// Settings is what Redis tells of itself with INFO. Fields that it does not tell are empty.
// Known is false if it tells nothing, as the embedded store.
type Settings struct {
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

// Settings asks every primary and combines the worst answers. The error is
// ErrUnavailable; a user that may not ask is not an error.
func (db *DB) Settings(ctx context.Context) (Settings, error) {
	var mu sync.Mutex
	var worst Settings
	err := db.onPrimaries(ctx, func(ctx context.Context, c redis.Cmdable) error {
		info, err := askInfo(ctx, c, "server", "persistence", "memory", "replication")
		if err != nil {
			return failure.Unavailable("asking Redis for its settings", err)
		}
		mu.Lock()
		defer mu.Unlock()
		worst = worst.orWorse(readSettings(info))
		return nil
	})
	return worst, err
}

func readSettings(info map[string]string) Settings {
	aof, known := info["aof_enabled"]
	s := Settings{
		Known: known, Version: info["redis_version"], AppendOnly: aof == "1", Policy: info["maxmemory_policy"],
		MaxMemory: parseInt(info["maxmemory"]), UsedMemory: parseInt(info["used_memory"]),
	}
	for _, confirmed := range readServer(info).replicas {
		if confirmed > 0 {
			s.Replicas++
		}
	}
	if _, needed := info["min_slaves_good_slaves"]; needed { // told only if min-replicas-to-write is set
		s.MinReplicas = 1
	}
	return s
}

// orWorse combines the settings of two servers.
func (s Settings) orWorse(o Settings) Settings {
	switch {
	case !s.Known:
		return o
	case !o.Known:
		return s
	}
	s.AppendOnly = s.AppendOnly && o.AppendOnly
	if s.Policy == policyKeep {
		s.Policy = o.Policy
	}
	if o.fill() > s.fill() {
		s.MaxMemory, s.UsedMemory = o.MaxMemory, o.UsedMemory
	}
	if slices.Compare(versionNumbers(o.Version), versionNumbers(s.Version)) < 0 {
		s.Version = o.Version
	}
	s.Replicas, s.MinReplicas = min(s.Replicas, o.Replicas), min(s.MinReplicas, o.MinReplicas)
	return s
}

// fill is the share of the memory that is used, from 0 to 1; 0 without a bound.
func (s Settings) fill() float64 {
	if s.MaxMemory == 0 {
		return 0
	}
	return float64(s.UsedMemory) / float64(s.MaxMemory)
}

// versionNumbers splits a version such as 7.0.15.
func versionNumbers(version string) (numbers []int64) {
	for part := range strings.SplitSeq(version, ".") {
		numbers = append(numbers, parseInt(part))
	}
	return numbers
}

// Warnings lists the settings that lose data, each with the line of redis.conf that fixes
// it.
func (s Settings) Warnings() []string {
	if !s.Known {
		return nil
	}
	var list []string
	if !s.AppendOnly {
		list = append(list, "redis keeps no append-only file: when it restarts, tokens, revocations and applications are lost; set `appendonly yes`")
	}
	if s.Policy != "" && s.Policy != policyKeep {
		list = append(list, "redis may evict keys (maxmemory-policy "+s.Policy+"): an evicted application is a deleted one; set `maxmemory-policy noeviction`")
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
