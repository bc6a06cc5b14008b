// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/tokens/internal/failure"
)

// Settings is what Redis says of itself with INFO. What it does not say is
// empty or zero; Known is false if it says nothing, as the embedded store does.
type Settings struct {
	Known   bool
	Version string
	// AppendOnly tells whether it keeps a file of every change.
	AppendOnly bool
	// Policy is maxmemory-policy: what it does when it is full.
	Policy string
	// MaxMemory and UsedMemory are in bytes; MaxMemory 0 is no bound.
	MaxMemory, UsedMemory int64
	// Replicas are those connected; MinReplicas how many it wants for a write.
	Replicas, MinReplicas int
}

// Settings asks every primary and returns the worst of what they say. The error is
// ErrUnavailable; a user that may not ask is no error.
func (s *DB) Settings(ctx context.Context) (Settings, error) {
	var mu sync.Mutex
	var worst Settings
	err := s.onPrimaries(ctx, func(ctx context.Context, c redis.Cmdable) error {
		one, err := settingsOf(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		worst = worst.orWorse(one)
		return err
	})
	return worst, err
}

func settingsOf(ctx context.Context, c redis.Cmdable) (Settings, error) {
	info, err := c.Info(ctx, "server", "persistence", "memory", "replication").Result()
	if redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "wrong number") || redis.HasErrorPrefix(err, "section") ||
		redis.HasErrorPrefix(err, "syntax") {
		return Settings{}, nil
	}
	if err != nil {
		return Settings{}, failure.Unavailable("asking Redis for its settings", err)
	}
	return readSettings(info), nil
}

func readSettings(info string) Settings {
	var s Settings
	number := func(text string) int64 {
		n, _ := strconv.ParseInt(text, 10, 64) // a number, or another server's notion of one
		return n
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "redis_version":
			s.Version = value
		case "aof_enabled":
			s.Known, s.AppendOnly = true, value == "1"
		case "maxmemory_policy":
			s.Policy = value
		case "maxmemory":
			s.MaxMemory = number(value)
		case "used_memory":
			s.UsedMemory = number(value)
		case "connected_slaves":
			s.Replicas = int(number(value))
		case "min_slaves_good_slaves":
			// It is there only if min-replicas-to-write is set; it is the number of good ones.
			s.MinReplicas = 1
		}
	}
	return s
}

// orWorse is what is to be said of two servers together.
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
	if versionLess(o.Version, s.Version) {
		s.Version = o.Version
	}
	s.Replicas, s.MinReplicas = min(s.Replicas, o.Replicas), min(s.MinReplicas, o.MinReplicas)
	return s
}

// fill is how much of the memory that it may use is used, from 0 to 1; 0 without a
// bound.
func (s Settings) fill() float64 {
	if s.MaxMemory == 0 {
		return 0
	}
	return float64(s.UsedMemory) / float64(s.MaxMemory)
}

// policyKeep is the maxmemory-policy that removes nothing.
const policyKeep = "noeviction"

// versionLess compares versions such as 7.0.15 number by number.
func versionLess(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		m, _ := strconv.Atoi(x[i]) // what is no number is 0
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return m < n
		}
	}
	return len(x) < len(y)
}

// Warnings says which settings of Redis lose state, each with the line of
// redis.conf that fixes it.
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
