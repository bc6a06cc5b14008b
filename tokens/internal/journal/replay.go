// SPDX-License-Identifier: MIT

package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
)

// perTrip is how many entries are replayed in one round trip.
const perTrip = 512

// Replay runs entries in the order given and returns those that had been lost, whose
// scripts answer 1. emptied means that the same server was emptied or set back, perhaps
// on purpose: nothing is created there that no longer exists.
func Replay(ctx context.Context, db *redisdb.DB, entries []Entry, now time.Time, emptied bool) (lost []Entry, err error) {
	for len(entries) > 0 {
		trip := entries[:min(len(entries), perTrip)]
		entries = entries[len(trip):]
		pipe := db.Client().Pipeline()
		cmds := make([]*redis.Cmd, len(trip))
		for i, e := range trip {
			if args, due := e.args(now, emptied); due {
				// The source, since a pipeline cannot fall back when a hash is unknown.
				cmds[i] = e.Script.Eval(ctx, pipe, []string{e.Key}, args...)
			}
		}
		if pipe.Len() == 0 {
			continue
		}
		_, _ = pipe.Exec(ctx) // each has its own error
		for i, cmd := range cmds {
			if cmd == nil {
				continue
			}
			if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
				return lost, err //nolint:wrapcheck // wrapped by the caller
			}
			if n, _ := cmd.Int64(); n == 1 {
				lost = append(lost, trip[i])
			}
		}
	}
	return lost, nil
}

// Write replays one entry and waits for the configured replicas.
func (e Entry) Write(ctx context.Context, db *redisdb.DB, now time.Time) (lost bool, err error) {
	args, due := e.args(now, false)
	if !due {
		return false, nil
	}
	reply, err := db.Write(ctx, e.Script, e.Key, args...)
	if err != nil {
		return false, err
	}
	n, _ := reply.Int64()
	return n == 1, nil
}

// scripts are those that feed messages may name, by hash.
var scripts = map[string]*redisdb.Script{}

// NewScript makes a script for entries that feed messages carry. Call it only to
// initialize package variables.
func NewScript(source string) *redisdb.Script {
	s := redisdb.NewScript(source)
	scripts[s.Hash()] = s
	return s
}

// wire is an entry in a feed message.
type wire struct {
	Rank    Rank     `json:"r"`
	Name    string   `json:"n,omitempty"`
	Version int64    `json:"v,omitempty"`
	Key     string   `json:"k"`
	Script  string   `json:"s"`
	Args    [][]byte `json:"a,omitempty"`
	Expires int64    `json:"e,omitempty"` // unix milliseconds
	Stays   bool     `json:"p,omitempty"`
}

// MarshalJSON names the script by its hash.
func (e Entry) MarshalJSON() ([]byte, error) {
	w := wire{Rank: e.Rank, Name: e.Name, Version: e.Version, Key: e.Key, Script: e.Script.Hash(), Stays: e.Stays}
	if !e.Expires.IsZero() {
		w.Expires = e.Expires.UnixMilli()
	}
	for _, arg := range e.Args {
		switch v := arg.(type) {
		case []byte:
			w.Args = append(w.Args, v)
		default:
			w.Args = append(w.Args, []byte(fmt.Sprint(v)))
		}
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads an entry. Its script is nil if this version does not know it,
// or it is of no rank that others are told of.
func (e *Entry) UnmarshalJSON(b []byte) error {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("entry of a journal: %w", err)
	}
	*e = Entry{Rank: w.Rank, Name: w.Name, Version: w.Version, Key: w.Key, Script: scripts[w.Script], Stays: w.Stays}
	if w.Rank >= ranks || bounds[w.Rank].own {
		e.Rank, e.Script = Revocations, nil
	}
	if w.Expires != 0 {
		e.Expires = time.UnixMilli(w.Expires)
	}
	for _, arg := range w.Args {
		e.Args = append(e.Args, string(arg))
	}
	return nil
}
