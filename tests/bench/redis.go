// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// redisServer is the Redis of the lab, without persistence.
type redisServer struct {
	*process
	address string
	client  *redis.Client
}

func startRedis(ctx context.Context, l *lab) (*redisServer, error) {
	s, err := l.serve(ctx, "redis", func(address string) (*process, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return l.start("redis", nil, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", l.dir)
	})
	if err != nil {
		return nil, err
	}
	return &redisServer{process: s.processes[0], address: s.address, client: redis.NewClient(&redis.Options{Addr: s.address})}, nil
}

// counters are Redis's own counts since it started.
type counters struct {
	// commands counts commands by name, without those that this program sends to measure.
	commands map[string]int64
	// in and out are bytes on the network.
	in, out int64
	// memory is the size of all data, in bytes.
	memory int64
}

// total is the number of commands.
func (c counters) total() (n int64) {
	for _, v := range c.commands {
		n += v
	}
	return n
}

// since returns the difference to an earlier count.
func (c counters) since(earlier counters) counters {
	d := counters{commands: map[string]int64{}, in: c.in - earlier.in, out: c.out - earlier.out, memory: c.memory - earlier.memory}
	for name, n := range c.commands {
		if n -= earlier.commands[name]; n > 0 {
			d.commands[name] = n
		}
	}
	return d
}

func (r *redisServer) counters(ctx context.Context) (counters, error) {
	info, err := r.client.InfoMap(ctx, "everything").Result()
	if err != nil {
		return counters{}, fmt.Errorf("asking Redis for its counters: %w", err)
	}
	return countersOf(info), nil
}

// countersOf reads the answer to INFO, by section and name. Numbers that are missing
// count as 0.
func countersOf(info map[string]map[string]string) counters {
	number := func(text string) int64 {
		n, _ := strconv.ParseInt(text, 10, 64)
		return n
	}
	c := counters{
		commands: map[string]int64{}, memory: number(info["Memory"]["used_memory"]),
		in: number(info["Stats"]["total_net_input_bytes"]), out: number(info["Stats"]["total_net_output_bytes"]),
	}
	for name, value := range info["Commandstats"] {
		command := strings.TrimPrefix(name, "cmdstat_")
		if command != "info" && !strings.HasPrefix(command, "memory") && !strings.HasPrefix(command, "config") {
			calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
			c.commands[command] = number(calls)
		}
	}
	return c
}

// memoryUsage returns the mean MEMORY USAGE of keys with a prefix, in bytes, and how many keys it
// sampled.
func (r *redisServer) memoryUsage(ctx context.Context, prefix string, most int) (mean float64, sampled int, err error) {
	var sum int64
	var cursor uint64
	for {
		var keys []string
		if keys, cursor, err = r.client.Scan(ctx, cursor, prefix+"*", 10_000).Result(); err != nil {
			return 0, 0, err
		}
		pipe := r.client.Pipeline()
		var sizes []*redis.IntCmd
		for _, key := range keys[:min(len(keys), most-sampled)] {
			sizes = append(sizes, pipe.MemoryUsage(ctx, key))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return 0, 0, err
		}
		for _, size := range sizes {
			sum += size.Val()
		}
		sampled += len(sizes)
		if cursor == 0 || sampled >= most {
			return float64(sum) / float64(max(sampled, 1)), sampled, nil
		}
	}
}
