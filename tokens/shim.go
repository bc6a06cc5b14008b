// SPDX-License-Identifier: MIT

package tokens

import (
	"cmp"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// Ids are cryptographically random and drawn from 62 letters and digits.
const (
	applicationIDLength = vault.ApplicationID
	userIDLength        = vault.UserID
	tokenIDLength       = vault.TokenID

	// MinSecret is the shortest secret accepted, in bytes.
	MinSecret = vault.MinSecret
)

func randomID(n int) string { return vault.RandomID(n) }

func isID(s string, n int) bool { return vault.IsID(s, n) }

func base62(b []byte, width int) string { return vault.Base62(b, width) }

// Store is a handle on Redis, shared by everything in this package.
type Store = redisdb.DB

// StoreSettings is what Redis says of itself.
type StoreSettings = redisdb.Settings

// Permissions is what the Redis user may not do.
type Permissions = redisdb.Permissions

// RedisOptions tell how to reach Redis.
type RedisOptions = redisdb.Options

// DefaultRedisTimeout bounds connecting to Redis, one command, and waiting for
// a free connection, each.
const DefaultRedisTimeout = redisdb.DefaultTimeout

// OpenRedis makes a Store. It does not connect: an unreachable Redis shows at
// the first call, as ErrUnavailable.
func OpenRedis(o RedisOptions) (*Store, error) { return redisdb.Open(o) }

// Command is a command that was sent to Redis, or a pipeline of several.
type Command = redisdb.Command

// CommandProblems are the kinds of failures of a command, for a metric label.
var CommandProblems = redisdb.CommandProblems

func notNil(err error) error {
	if redisdb.IsNil(err) {
		return nil
	}
	return err
}

func firstOf(a, b string) string { return cmp.Or(a, b) }

const (
	keyPrefix       = redisdb.KeyPrefix
	keyFeed         = redisdb.KeyFeed
	keyInstallation = redisdb.KeyInstallation
	keyIndex        = redisdb.KeyIndex
	keyRekeyed      = redisdb.KeyRekeyed
	keyGateways     = redisdb.KeyGateways
	channelFeed     = redisdb.ChannelFeed
	channelNode     = redisdb.ChannelNode
)

func keyApplication(id string) string   { return redisdb.KeyApplication(id) }
func keyAlias(alias string) string      { return redisdb.KeyAlias(alias) }
func keyBackend(clientID string) string { return redisdb.KeyBackend(clientID) }
func keyRemoved(clientID string) string { return redisdb.KeyRemoved(clientID) }
func keyUser(id string) string          { return redisdb.KeyUser(id) }

func keyMail(k *vault.Key, m Mail) string             { return redisdb.KeyMail(k, string(m)) }
func keyToken(tokenID string) string                  { return redisdb.KeyToken(tokenID) }
func keyFamily(id string) string                      { return redisdb.KeyFamily(id) }
func keyMeetToken(k *vault.Key, key string) string    { return redisdb.KeyMeetToken(k, key) }
func keyMeetLock(k *vault.Key, key string) string     { return redisdb.KeyMeetLock(k, key) }
func keyReplay(k *vault.Key, a, u, key string) string { return redisdb.KeyReplay(k, a, u, key) }
func keyFence(id string, day time.Time) string        { return redisdb.KeyFence(id, day) }
func keyName(k *vault.Key, kind string, parts ...string) string {
	return redisdb.KeyName(k, kind, parts...)
}

// keyRate names the shared count of a limit. One that is changed begins anew.
func keyRate(k *vault.Key, of limit.Key, r limit.Rate) string {
	return keyName(k, "q", of.Policy.String(), of.Subject, of.Detail, r.String())
}
