// SPDX-License-Identifier: MIT

package redisdb

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// KeyPrefix begins the name of everything in Redis. The names are in this one
// place; docs/redis.md tells what each holds and how long it stays. One operation
// touches one key, so that any of them works on a Cluster without hash tags; a lock of
// an exchange alone is kept beside what it is for.
const KeyPrefix = "mg1:"

// Keys of the installation, and channels.
const (
	KeyFeed         = KeyPrefix + "feed"     // counter of changes
	KeyInstallation = KeyPrefix + "inst"     // hash: generation, not-before, withdrawn keys
	KeyIndex        = KeyPrefix + "apps"     // sorted set: name and id of every application
	KeyRekeyed      = KeyPrefix + "rekeyed"  // what the last pass has left of former secrets
	KeyGateways     = KeyPrefix + "gateways" // hash: every gateway, as it describes itself
	ChannelFeed     = KeyPrefix + "feed"     // every change
	ChannelNode     = KeyPrefix + "node:"    // + node: its own heartbeats
)

// KeyApplication names an application's record.
func KeyApplication(id string) string { return KeyPrefix + "a:" + id }

// KeyAlias names the index entry of a further client id.
func KeyAlias(alias string) string { return KeyPrefix + "c:" + alias }

// KeyBackend names the index entry of a client id at Meet.
func KeyBackend(clientID string) string { return KeyPrefix + "b:" + clientID }

// KeyRemoved names the mark of a client id that must not be adopted again.
func KeyRemoved(clientID string) string { return KeyPrefix + "x:" + clientID }

// KeyUser names a user's record.
func KeyUser(id string) string { return KeyPrefix + "u:" + id }

// KeyMail names the index entry of a mail address, by a keyed hash.
func KeyMail(k *vault.Key, mail string) string {
	sum := k.Sum(vault.ForMails, mail)
	return KeyPrefix + "m:" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// KeyToken names a token's record by a hash of its id, so that who reads Redis
// cannot write the claims that belong to a record.
func KeyToken(tokenID string) string {
	id := RecordOf([]byte(tokenID))
	return KeyPrefix + "t:" + base64.RawURLEncoding.EncodeToString(id[:])
}

// RecordID is what tells the record of a token from others, in its name.
type RecordID [16]byte

// RecordOf is that of the record of a token.
func RecordOf(tokenID []byte) RecordID {
	sum := sha256.Sum256(tokenID)
	return RecordID(sum[:])
}

// Beginning is the first four bytes.
func (id RecordID) Beginning() uint32 { return binary.BigEndian.Uint32(id[:]) }

// ParseRecordID reads it from the name of a record, without what the names of all have.
func ParseRecordID(name string) (id RecordID, ok bool) {
	n, err := base64.RawURLEncoding.Strict().Decode(id[:], []byte(name))
	return id, err == nil && n == len(id)
}

// KeyFamily names a family of refresh tokens.
func KeyFamily(id string) string { return KeyPrefix + "r:" + id }

// KeyMeetToken names a kept token of Meet, by a keyed hash.
func KeyMeetToken(k *vault.Key, key string) string {
	sum := k.Sum(vault.ForMeet, key)
	return KeyPrefix + "k:" + hex.EncodeToString(sum[:16])
}

// KeyMeetLock names the lock of an exchange. What is in braces is the name of the token
// that is exchanged for: a Cluster keeps both at one server, so that one script can look
// for the token and take the lock.
func KeyMeetLock(k *vault.Key, key string) string {
	return KeyPrefix + "l:{" + KeyMeetToken(k, key) + "}"
}

// KeyReplay names what became of a request with an Idempotency-Key.
func KeyReplay(k *vault.Key, applicationID, userID, key string) string {
	sum := k.Sum(vault.ForReplays, "key", applicationID, userID, key)
	return KeyPrefix + "i:" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// KeyFence names the count of an application's new users of a day.
func KeyFence(applicationID string, day time.Time) string {
	return KeyPrefix + "f:" + applicationID + ":" + day.UTC().Format("20060102")
}

// KeyName names what is found by things that Redis must not tell anybody.
func KeyName(k *vault.Key, kind string, parts ...string) string {
	sum := k.Sum(vault.ForNames, append([]string{kind}, parts...)...)
	return KeyPrefix + kind + ":" + base64.RawURLEncoding.EncodeToString(sum[:16])
}
