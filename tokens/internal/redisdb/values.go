// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// What follows are the commands that are neither a read that somebody is turned away
// for (feed.Read) nor a change that other gateways remember (feed.Commit). Errors are
// those of go-redis; that something is not there is none.

// Eval runs a script that touches one key.
func (s *DB) Eval(ctx context.Context, script *Script, key string, args ...any) *Reply {
	return script.Run(ctx, s.rdb, []string{key}, args...)
}

// EvalBeside runs a script that touches a key and one that is kept beside it.
func (s *DB) EvalBeside(ctx context.Context, script *Script, key, beside string, args ...any) *Reply {
	return script.Run(ctx, s.rdb, []string{key, beside}, args...)
}

// Get returns a value, "" if there is none.
func (s *DB) Get(ctx context.Context, key string) (string, error) {
	value, err := s.rdb.Get(ctx, key).Result()
	return value, IgnoreNil(err)
}

// GetAll returns values in one trip, "" for one that is not there.
func (s *DB) GetAll(ctx context.Context, keys ...string) ([]string, error) {
	if len(keys) == 1 {
		value, err := s.Get(ctx, keys[0])
		return []string{value}, err
	}
	pipe := s.rdb.Pipeline()
	reads := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		reads[i] = pipe.Get(ctx, key)
	}
	_, _ = pipe.Exec(ctx) // says no more than the commands do
	values := make([]string, len(keys))
	for i, read := range reads {
		if err := IgnoreNil(read.Err()); err != nil {
			return nil, err
		}
		values[i] = read.Val()
	}
	return values, nil
}

// Set sets a value, which ends after ttl unless that is 0.
func (s *DB) Set(ctx context.Context, key string, value any, ttl time.Duration) error {
	return s.rdb.Set(ctx, key, value, ttl).Err()
}

// SetAll sets values in one trip.
func (s *DB) SetAll(ctx context.Context, values map[string]string, ttl time.Duration) error {
	pipe := s.rdb.Pipeline()
	for key, value := range values {
		pipe.Set(ctx, key, value, ttl)
	}
	_, err := pipe.Exec(ctx)
	return err
}

// SetNew sets a value unless there is one, and reports whether it did.
func (s *DB) SetNew(ctx context.Context, key string, value any, ttl time.Duration) (bool, error) {
	err := s.rdb.SetArgs(ctx, key, value, redis.SetArgs{Mode: "NX", TTL: ttl}).Err()
	return err == nil, IgnoreNil(err)
}

// Exists reports whether there is something at a key.
func (s *DB) Exists(ctx context.Context, key string) (bool, error) {
	n, err := s.rdb.Exists(ctx, key).Result()
	return n > 0, err
}

// Delete removes what is at a key, and reports whether there was something.
func (s *DB) Delete(ctx context.Context, key string) (bool, error) {
	n, err := s.rdb.Del(ctx, key).Result()
	return n > 0, err
}

// deleteEqualScript deletes a key if it still has the value.
var deleteEqualScript = NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

// DeleteEqual removes a value unless there is another one by now.
func (s *DB) DeleteEqual(ctx context.Context, key, value string) error {
	return s.Eval(ctx, deleteEqualScript, key, value).Err()
}

// Hash returns a hash, empty if there is none.
func (s *DB) Hash(ctx context.Context, key string) (map[string]string, error) {
	return s.rdb.HGetAll(ctx, key).Result()
}

// HashNow returns a hash, and the time of the server.
func (s *DB) HashNow(ctx context.Context, key string) (map[string]string, time.Time, error) {
	pipe := s.rdb.Pipeline()
	clock, fields := pipe.Time(ctx), pipe.HGetAll(ctx, key)
	_, err := pipe.Exec(ctx)
	return fields.Val(), clock.Val(), err
}

// Fields returns fields of a hash, "" for one that is not there.
func (s *DB) Fields(ctx context.Context, key string, fields ...string) ([]string, error) {
	found, err := s.rdb.HMGet(ctx, key, fields...).Result()
	values := make([]string, len(fields))
	for i, v := range found {
		values[i], _ = v.(string)
	}
	return values, err
}

// SetHash writes a hash that ends at an instant, as one step.
func (s *DB) SetHash(ctx context.Context, key string, ends time.Time, fields ...any) error {
	pipe := s.rdb.TxPipeline()
	pipe.HSet(ctx, key, fields...)
	pipe.PExpireAt(ctx, key, ends)
	_, err := pipe.Exec(ctx)
	return err
}

// RemoveFields removes fields of a hash.
func (s *DB) RemoveFields(ctx context.Context, key string, fields ...string) error {
	return s.rdb.HDel(ctx, key, fields...).Err()
}

// AddMember puts something into a set.
func (s *DB) AddMember(ctx context.Context, key, member string) error {
	return s.rdb.SAdd(ctx, key, member).Err()
}

// RemoveMember takes something out of a set.
func (s *DB) RemoveMember(ctx context.Context, key, member string) error {
	return s.rdb.SRem(ctx, key, member).Err()
}

// AddSorted puts something into a set that is sorted by text.
func (s *DB) AddSorted(ctx context.Context, key, member string) error {
	return s.rdb.ZAdd(ctx, key, redis.Z{Member: member}).Err()
}

// RemoveSorted takes something out of a sorted set.
func (s *DB) RemoveSorted(ctx context.Context, key, member string) error {
	return s.rdb.ZRem(ctx, key, member).Err()
}

// Sorted returns the first members of a sorted set between two bounds, each with "["
// or "(" before it for whether it is itself one of them.
func (s *DB) Sorted(ctx context.Context, key, from, to string, most int) ([]string, error) {
	return s.rdb.ZRangeByLex(ctx, key, &redis.ZRangeBy{Min: from, Max: to, Count: int64(most)}).Result()
}

// Hashes reads several hashes in one trip. One that is not there is empty.
func (s *DB) Hashes(ctx context.Context, keys ...string) ([]map[string]string, error) {
	return Hashes(ctx, s.rdb, keys...)
}

// Scan calls f with the keys that match a pattern, some hundred at a time. In a Cluster
// the primaries are looked at side by side.
func (s *DB) Scan(ctx context.Context, pattern string, f func(context.Context, []string) error) error {
	pass := func(ctx context.Context, c redis.Cmdable) error {
		for cursor := uint64(0); ; {
			keys, next, err := c.Scan(ctx, cursor, pattern, 100).Result()
			if err == nil {
				err = f(ctx, keys)
			}
			if cursor = next; err != nil || cursor == 0 {
				return err
			}
		}
	}
	return s.onPrimaries(ctx, pass)
}

// onPrimaries calls f with every primary.
func (s *DB) onPrimaries(ctx context.Context, f func(context.Context, redis.Cmdable) error) error {
	if c, ok := s.rdb.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return f(ctx, c) })
	}
	return f(ctx, s.rdb)
}

// IsNil reports whether a reply is that something is not there.
func IsNil(err error) bool { return errors.Is(err, redis.Nil) }

// ParseUint reads a number as this module stores it. One that is not there is 0.
func ParseUint(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}
