// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// The methods below are for commands that need neither feed.Read nor feed.Commit. Their
// errors are those of go-redis, except that a missing key is not an error.

// IgnoreNil drops the error that means a missing key.
func IgnoreNil(err error) error {
	if IsNil(err) {
		return nil
	}
	return err
}

// IsNil reports whether an error means a missing key.
func IsNil(err error) bool { return errors.Is(err, redis.Nil) }

// Get returns a value, "" for a missing key.
func (db *DB) Get(ctx context.Context, key string) (string, error) {
	value, err := db.rdb.Get(ctx, key).Result()
	return value, IgnoreNil(err)
}

// GetAll returns values in one round trip, "" for a missing key.
func (db *DB) GetAll(ctx context.Context, keys ...string) ([]string, error) {
	pipe := db.rdb.Pipeline()
	reads := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		reads[i] = pipe.Get(ctx, key)
	}
	_, _ = pipe.Exec(ctx) // each has its own error
	values := make([]string, len(keys))
	for i, read := range reads {
		if err := IgnoreNil(read.Err()); err != nil {
			return nil, err
		}
		values[i] = read.Val()
	}
	return values, nil
}

// Set sets a value, which expires after ttl unless that is 0.
func (db *DB) Set(ctx context.Context, key string, value any, ttl time.Duration) error {
	return db.rdb.Set(ctx, key, value, ttl).Err()
}

// SetAll sets values in one round trip.
func (db *DB) SetAll(ctx context.Context, values map[string]string, ttl time.Duration) error {
	pipe := db.rdb.Pipeline()
	for key, value := range values {
		pipe.Set(ctx, key, value, ttl)
	}
	_, err := pipe.Exec(ctx)
	return err
}

// SetNew sets a value unless the key exists, and reports whether it did.
func (db *DB) SetNew(ctx context.Context, key string, value any, ttl time.Duration) (bool, error) {
	err := db.rdb.SetArgs(ctx, key, value, redis.SetArgs{Mode: "NX", TTL: ttl}).Err()
	return err == nil, IgnoreNil(err)
}

// Exists reports whether a key exists.
func (db *DB) Exists(ctx context.Context, key string) (bool, error) {
	n, err := db.rdb.Exists(ctx, key).Result()
	return n > 0, err
}

// Delete removes a key, and reports whether it existed.
func (db *DB) Delete(ctx context.Context, key string) (bool, error) {
	n, err := db.rdb.Del(ctx, key).Result()
	return n > 0, err
}

var deleteEqualScript = NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

// DeleteEqual removes a key if it has the given value.
func (db *DB) DeleteEqual(ctx context.Context, key, value string) error {
	return db.Eval(ctx, deleteEqualScript, key, value).Err()
}

// Hash returns a hash, empty for a missing key.
func (db *DB) Hash(ctx context.Context, key string) (map[string]string, error) {
	return db.rdb.HGetAll(ctx, key).Result()
}

// Hashes returns hashes in one round trip, empty for a missing key.
func (db *DB) Hashes(ctx context.Context, keys ...string) ([]map[string]string, error) {
	return Hashes(ctx, db.rdb, keys...)
}

// Hashes is DB.Hashes for the reader that feed.Read passes.
func Hashes(ctx context.Context, r redis.Cmdable, keys ...string) ([]map[string]string, error) {
	pipe := r.Pipeline()
	hashes := queueHashes(ctx, pipe, keys)
	_, _ = pipe.Exec(ctx) // each has its own error
	return hashes()
}

// ValueAndHashes is Hashes that also reads a value, empty for a missing key.
func ValueAndHashes(ctx context.Context, r redis.Cmdable, name string, keys ...string) (value []byte, hashes []map[string]string, err error) {
	pipe := r.Pipeline()
	first, read := pipe.Get(ctx, name), queueHashes(ctx, pipe, keys)
	_, _ = pipe.Exec(ctx) // each has its own error
	if value, err = first.Bytes(); IgnoreNil(err) != nil {
		return nil, nil, err
	}
	hashes, err = read()
	return value, hashes, err
}

// queueHashes adds reads of hashes to a pipeline. The function that it returns gives
// their results.
func queueHashes(ctx context.Context, pipe redis.Pipeliner, keys []string) func() ([]map[string]string, error) {
	reads := make([]*redis.MapStringStringCmd, len(keys))
	for i, key := range keys {
		reads[i] = pipe.HGetAll(ctx, key)
	}
	return func() ([]map[string]string, error) {
		hashes := make([]map[string]string, len(keys))
		for i, read := range reads {
			var err error
			if hashes[i], err = read.Result(); err != nil {
				return nil, err
			}
		}
		return hashes, nil
	}
}

// HashNow returns a hash, and the time of the server.
func (db *DB) HashNow(ctx context.Context, key string) (map[string]string, time.Time, error) {
	pipe := db.rdb.Pipeline()
	clock, fields := pipe.Time(ctx), pipe.HGetAll(ctx, key)
	_, err := pipe.Exec(ctx)
	return fields.Val(), clock.Val(), err
}

// Fields returns fields of a hash, "" for a missing one.
func (db *DB) Fields(ctx context.Context, key string, fields ...string) ([]string, error) {
	found, err := db.rdb.HMGet(ctx, key, fields...).Result()
	values := make([]string, len(fields))
	for i, v := range found {
		values[i], _ = v.(string)
	}
	return values, err
}

// SetHash writes a hash and when it expires, in one transaction.
func (db *DB) SetHash(ctx context.Context, key string, expires time.Time, fields ...any) error {
	pipe := db.rdb.TxPipeline()
	pipe.HSet(ctx, key, fields...)
	pipe.PExpireAt(ctx, key, expires)
	_, err := pipe.Exec(ctx)
	return err
}

// RemoveFields removes fields of a hash.
func (db *DB) RemoveFields(ctx context.Context, key string, fields ...string) error {
	return db.rdb.HDel(ctx, key, fields...).Err()
}

// AddMember adds a member to a set.
func (db *DB) AddMember(ctx context.Context, key, member string) error {
	return db.rdb.SAdd(ctx, key, member).Err()
}

// RemoveMember removes a member of a set.
func (db *DB) RemoveMember(ctx context.Context, key, member string) error {
	return db.rdb.SRem(ctx, key, member).Err()
}

// AddSorted adds a member to a set that is sorted by name.
func (db *DB) AddSorted(ctx context.Context, key, member string) error {
	return db.rdb.ZAdd(ctx, key, redis.Z{Member: member}).Err()
}

// RemoveSorted removes a member of a sorted set.
func (db *DB) RemoveSorted(ctx context.Context, key, member string) error {
	return db.rdb.ZRem(ctx, key, member).Err()
}

// Sorted returns the first members of a sorted set between two bounds, which begin with
// "[" (inclusive) or "(" (exclusive).
func (db *DB) Sorted(ctx context.Context, key, from, to string, limit int) ([]string, error) {
	return db.rdb.ZRangeByLex(ctx, key, &redis.ZRangeBy{Min: from, Max: to, Count: int64(limit)}).Result()
}

// Scan calls f with the keys that match a pattern, some hundred at a time. It visits the
// primaries of a Cluster in parallel.
func (db *DB) Scan(ctx context.Context, pattern string, f func(context.Context, []string) error) error {
	return db.onPrimaries(ctx, func(ctx context.Context, c redis.Cmdable) error {
		for cursor := uint64(0); ; {
			keys, next, err := c.Scan(ctx, cursor, pattern, 100).Result()
			if err == nil {
				err = f(ctx, keys)
			}
			if cursor = next; err != nil || cursor == 0 {
				return err
			}
		}
	})
}

// onPrimaries calls f for every primary, in parallel.
func (db *DB) onPrimaries(ctx context.Context, f func(context.Context, redis.Cmdable) error) error {
	if c, ok := db.rdb.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return f(ctx, c) })
	}
	return f(ctx, db.rdb)
}

// ParseUint parses a number from Redis. A missing or malformed one is 0.
func ParseUint(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}
