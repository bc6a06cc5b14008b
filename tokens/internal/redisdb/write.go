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
	cluster := db.cluster()
	if cluster == nil {
		return db.writeReplicated(ctx, db.rdb, false, script, key, args...)
	}
	node, err := cluster.MasterForKey(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("finding the primary: %w", err)
	}
	cmd, err := db.writeReplicated(ctx, node, false, script, key, args...)
	for range maxRedirects {
		addr, asked := redis.IsAskError(err)
		if !asked {
			var moved bool
			if addr, moved = redis.IsMovedError(err); !moved {
				break
			}
			cluster.ReloadState(ctx) // for later writes: it does not wait
		}
		server := db.serverAt(addr)
		cmd, err = db.writeReplicated(ctx, server, asked, script, key, args...)
		_ = server.Close()
	}
	return cmd, err
}

// serverAt makes a client for a server to which a Cluster redirects. The caller closes it.
func (db *DB) serverAt(addr string) *redis.Client {
	simple := db.options.Simple()
	simple.Addr = addr
	server := redis.NewClient(simple)
	server.AddHook(commandHook{db, server})
	return server
}

// maxRedirects bounds how often a Cluster may redirect one command.
const maxRedirects = 3

// writeReplicated sends the script and WAIT through one connection. WAIT counts only what
// its own connection has written, and a server that became the primary in between would
// confirm a write that it never saw. asked means that the slot of the key is moving to the
// server and the key is there already.
func (db *DB) writeReplicated(ctx context.Context, server redis.Cmdable, asked bool, script *Script, key string, args ...any) (*Reply, error) {
	pipe := server.Pipeline()
	if asked {
		pipe.Do(ctx, "ASKING")
	}
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
