// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Script is a Lua script that touches one key.
type Script = redis.Script

// Reply is the answer to a script.
type Reply = redis.Cmd

// NewScript makes a script of Lua source.
func NewScript(source string) *Script { return redis.NewScript(source) }

// Eval runs a script that touches one key, and waits for no replica.
func (db *DB) Eval(ctx context.Context, script *Script, key string, args ...any) *Reply {
	return script.Run(ctx, db.rdb, []string{key}, args...)
}

// EvalBeside runs a script that touches a key and another one in the same slot of a
// Cluster.
func (db *DB) EvalBeside(ctx context.Context, script *Script, key, beside string, args ...any) *Reply {
	return script.Run(ctx, db.rdb, []string{key, beside}, args...)
}

// Write runs a script that changes one key and waits for Options.WaitReplicas replicas, so
// that a failover to one of them does not lose the change. After an error the change may
// or may not have been made.
func (db *DB) Write(ctx context.Context, script *Script, key string, args ...any) (*Reply, error) {
	if db.wait == 0 {
		cmd := db.Eval(ctx, script, key, args...)
		return cmd, IgnoreNil(cmd.Err())
	}
	cluster, ok := db.rdb.(*redis.ClusterClient)
	if !ok {
		return db.writeReplicated(ctx, db.rdb, script, key, args...)
	}
	for retried := false; ; retried = true {
		node, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("finding the primary: %w", err)
		}
		cmd, err := db.writeReplicated(ctx, node, script, key, args...)
		if _, moved := redis.IsMovedError(err); !moved || retried {
			return cmd, err
		}
		cluster.ReloadState(ctx)
	}
}

// writeReplicated sends the script and WAIT through one connection. WAIT counts only what
// its own connection has written, and a server that became the primary in between would
// confirm a write that it never saw.
func (db *DB) writeReplicated(ctx context.Context, node redis.Cmdable, script *Script, key string, args ...any) (*Reply, error) {
	pipe := node.Pipeline()
	// The source, since a pipeline cannot fall back to it when the hash is unknown.
	cmd := script.Eval(ctx, pipe, []string{key}, args...)
	waited := pipe.Do(ctx, "WAIT", db.wait, db.replicaTimeout().Milliseconds())
	_, err := pipe.Exec(ctx)
	if err = IgnoreNil(err); err != nil {
		return cmd, err // wrapped by the caller
	}
	n, err := waited.Int()
	if err != nil {
		return cmd, fmt.Errorf("waiting for replicas: %w", err)
	}
	if n < db.wait {
		return cmd, fmt.Errorf("waiting for replicas: %d of %d acknowledged", n, db.wait)
	}
	return cmd, nil
}

// replicaTimeout bounds WAIT. It is shorter than the timeout for its answer.
func (db *DB) replicaTimeout() time.Duration { return db.timeout * 3 / 4 }
