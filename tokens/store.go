// SPDX-License-Identifier: MIT

package tokens

import (
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// MinSecret is the shortest secret accepted, in bytes.
const MinSecret = vault.MinSecret

// Store is a connection to Redis.
type Store = redisdb.DB

// StoreSettings are the settings of a server of Redis that matter here.
type StoreSettings = redisdb.Settings

// StoreWarnings lists the settings that lose data.
func StoreWarnings(servers []StoreSettings) []string { return redisdb.Warnings(servers) }

// Permissions is what the Redis user may not do.
type Permissions = redisdb.Permissions

// Lack is what the Redis user may not do at one server.
type Lack = redisdb.Lack

// Replica is a replica that this gateway could not use after a failover.
type Replica = redisdb.Replica

// RedisOptions are the addresses and credentials of Redis.
type RedisOptions = redisdb.Options

// OpenRedis makes a Store. It does not connect: if Redis cannot be reached, the first call
// returns ErrUnavailable.
func OpenRedis(o RedisOptions) (*Store, error) { return redisdb.Open(o) }

// Command is a command that was sent to Redis, or a pipeline of several.
type Command = redisdb.Command

// CommandProblems are the kinds of failures of a command, for a metric label.
var CommandProblems = redisdb.CommandProblems
