// SPDX-License-Identifier: MIT

package redisdb

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// nameOf returns the host:port of a server that is one of several, "" for a single server.
func (db *DB) nameOf(server redis.Cmdable) string {
	if db.sentinels != nil {
		return db.sentinels.current().addr
	}
	if client, ok := server.(*redis.Client); ok && db.cluster() != nil {
		return printable(client.Options().Addr)
	}
	return ""
}

// printable returns host:port, and "" for anything else: instead of an address, a URL with a
// password may be configured.
func printable(address string) string {
	if _, _, err := net.SplitHostPort(address); err != nil || strings.ContainsAny(address, "@/") {
		return ""
	}
	return address
}

// redisAt is Redis as the subject of a sentence.
func redisAt(servers string) string {
	if servers == "" {
		return "redis"
	}
	return "redis at " + servers
}

// serverError names the server that an error comes from.
type serverError struct {
	server string // host:port
	err    error
}

func (s *serverError) Error() string { return s.server + ": " + s.err.Error() }
func (s *serverError) Unwrap() error { return s.err }

// fromServer names the server of an error, unless the error says nothing about that server.
func fromServer(server string, err error) error {
	problem := commandProblem(err)
	_, known := answerProblem(err)
	switch {
	case server == "", problem == "", problem == "moved", problem == "canceled", problem == "other" && !known,
		errors.Is(err, ErrNoSentinel), errors.Is(err, ErrNotPrimary):
		return err
	}
	return &serverError{server, err}
}

// FeedServer returns a function that names the server of the feed in an error.
func (db *DB) FeedServer(ctx context.Context) func(error) error {
	server := db.nameOf(nil)
	if cluster := db.cluster(); cluster != nil {
		if primary, err := cluster.MasterForKey(ctx, KeyFeed); err == nil {
			server = db.nameOf(primary)
		}
	}
	return func(err error) error { return fromServer(server, err) }
}

// saying is what is said of servers.
type saying struct{ what, servers string }

// sayings groups servers by what say returns for them, which is "" for nothing.
func sayings[T any](all []T, say func(T) (server, what string)) (list []saying) {
	for _, one := range all {
		server, what := say(one)
		i := slices.IndexFunc(list, func(s saying) bool { return s.what == what })
		switch {
		case what == "":
		case i < 0:
			list = append(list, saying{what, server})
		default:
			list[i].servers += ", " + server
		}
	}
	return list
}
