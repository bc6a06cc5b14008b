// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Command is a command that was sent to Redis, or a pipeline of several.
type Command struct {
	// Name is the command's, in lower case; "pipeline" for several in one.
	Name string
	// Began is when it was handed to the connection pool; Took is the time until
	// the answer, waiting for a connection and one retry included.
	Began time.Time
	Took  time.Duration
	// Problem is one of [CommandProblems], or "" for an answer.
	Problem string
}

// CommandProblems are the kinds of failures of a command, for a metric label:
// what Redis answers (the first word of its error in lower case), what the network
// does, and `other`.
var CommandProblems = []string{
	"timeout", "connection", "canceled", "oom", "misconf", "readonly", "loading", "clusterdown", "moved", "noperm", "noauth", "noreplicas", "other",
}

// OnCommand sets what is told of every command that is sent to Redis from now on:
// for metrics and traces. It is called from several goroutines and must not block.
// The context is the one of the command. nil is nobody.
func (s *DB) OnCommand(f func(context.Context, Command)) {
	if f == nil {
		s.onCommand.Store(nil)
		return
	}
	s.onCommand.Store(&f)
}

// commandHook tells of commands (redis.Hook). It looks at names and outcomes only:
// arguments hold keys and values.
type commandHook struct {
	told    *atomic.Pointer[func(context.Context, Command)]
	refused *atomic.Bool
}

// DialHook implements redis.Hook.
func (commandHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h commandHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		h.tell(ctx, cmd.Name(), began, err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h commandHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		h.tell(ctx, "pipeline", began, err)
		return err
	}
}

func (h commandHook) tell(ctx context.Context, name string, began time.Time, err error) {
	problem := commandProblem(err)
	if problem == "noperm" {
		h.refused.Store(true)
	}
	if told := h.told.Load(); told != nil {
		(*told)(ctx, Command{Name: name, Began: began, Took: time.Since(began), Problem: problem})
	}
}

// observeCommands puts the hook where each attempt at each server passes: a Cluster
// redirects below its own client.
func (s *DB) observeCommands() {
	hook := commandHook{told: &s.onCommand, refused: &s.permitted.refused}
	if c, ok := s.rdb.(*redis.ClusterClient); ok {
		c.OnNewNode(func(node *redis.Client) { node.AddHook(hook) })
		return
	}
	s.rdb.AddHook(hook)
}

// redisProblems are the first words of errors that Redis answers with.
var redisProblems = []struct{ prefix, problem string }{
	{"OOM", "oom"},
	{"MISCONF", "misconf"},
	{"READONLY", "readonly"},
	{"LOADING", "loading"},
	{"CLUSTERDOWN", "clusterdown"},
	{"MASTERDOWN", "readonly"},
	{"MOVED", "moved"},
	{"ASK", "moved"},
	{"TRYAGAIN", "moved"},
	{"NOPERM", "noperm"},
	{"The user executing the script", "noperm"},
	{"ACL failure", "noperm"},
	{"NOAUTH", "noauth"},
	{"WRONGPASS", "noauth"},
	{"NOREPLICAS", "noreplicas"},
}

// commandProblem names the kind of an error, out of [CommandProblems]. That a key
// is not there, or a script not loaded yet, is an answer.
func commandProblem(err error) string {
	if err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "NOSCRIPT") {
		return ""
	}
	for _, p := range redisProblems {
		if redis.HasErrorPrefix(err, p.prefix) {
			return p.problem
		}
	}
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &network) && network.Timeout(), errors.Is(err, redis.ErrPoolTimeout):
		return "timeout"
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, ErrNoSentinel), errors.Is(err, ErrNotPrimary):
		return "connection"
	}
	return "other"
}

// Interface guards
var _ redis.Hook = commandHook{}
