// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Command is a command that was sent to Redis, or a pipeline of several.
type Command struct {
	// Name is the name of the command, in lower case; "pipeline" for several in one.
	Name string
	// Began is when it was handed to the connection pool. Took is the time until the
	// answer; it includes waiting for a connection and one retry.
	Began time.Time
	Took  time.Duration
	// Problem is one of [CommandProblems], or "" for an answer.
	Problem string
}

// OnCommand sets a function that is called after every command, for metrics and traces,
// with the context of the command. It is called concurrently and must not block. nil
// removes it.
func (db *DB) OnCommand(f func(context.Context, Command)) {
	if f == nil {
		db.onCommand.Store(nil)
		return
	}
	db.onCommand.Store(&f)
}

// observeCommands hooks into each server of a Cluster, below the client that redirects.
func (db *DB) observeCommands() {
	if c, ok := db.rdb.(*redis.ClusterClient); ok {
		c.OnNewNode(func(node *redis.Client) { node.AddHook(commandHook{db, node}) })
		return
	}
	db.rdb.AddHook(commandHook{db, db.rdb})
}

// commandHook reports names and outcomes of commands, and names the server in their errors. It
// does not look at arguments, which hold keys and values.
type commandHook struct {
	db     *DB
	server redis.Cmdable
}

// DialHook implements redis.Hook.
func (commandHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h commandHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		h.report(ctx, cmd.Name(), began, err)
		return h.named(err)
	}
}

// ProcessPipelineHook implements redis.Hook. If Redis refuses the password of a new
// connection, go-redis returns that error for the pipeline, but none for its commands, whose
// empty answers would read as missing keys. So every command gets the error.
func (h commandHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		if !slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Err() != nil }) {
			for _, c := range cmds {
				c.SetErr(err)
			}
		}
		h.report(ctx, "pipeline", began, err)
		for _, c := range cmds {
			if failed := c.Err(); failed != nil {
				c.SetErr(h.named(failed))
			}
		}
		return h.named(err)
	}
}

func (h commandHook) named(err error) error {
	if err == nil {
		return nil
	}
	return fromServer(h.db.nameOf(h.server), err)
}

func (h commandHook) report(ctx context.Context, name string, began time.Time, err error) {
	problem := commandProblem(err)
	if problem == "noperm" {
		h.db.permissions.refused.Store(true)
	}
	if f := h.db.onCommand.Load(); f != nil {
		(*f)(ctx, Command{Name: name, Began: began, Took: time.Since(began), Problem: problem})
	}
}

// Interface guards
var _ redis.Hook = commandHook{}
