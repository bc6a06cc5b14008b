package tokens

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

// Names of everything in Redis, in one place. docs/redis.md tells what each
// holds and how long it stays. One operation touches one key, so that any of
// them works on a Cluster without hash tags.
const keyPrefix = "mg1:"

const (
	keyFeed         = keyPrefix + "feed"     // counter of changes
	keyInstallation = keyPrefix + "inst"     // hash: generation, not-before, withdrawn keys
	keyIndex        = keyPrefix + "apps"     // sorted set: name and id of every application
	keyRekeyed      = keyPrefix + "rekeyed"  // what the last pass has left of former secrets
	keyRekeying     = keyPrefix + "rekeying" // who makes one right now
	keyGateways     = keyPrefix + "gateways" // hash: every gateway, as it describes itself
	channelFeed     = keyPrefix + "feed"     // every change
	channelNode     = keyPrefix + "node:"    // + node: its own heartbeats
)

func keyApplication(id string) string   { return keyPrefix + "a:" + id }
func keyAlias(alias string) string      { return keyPrefix + "c:" + alias }
func keyBackend(clientID string) string { return keyPrefix + "b:" + clientID }
func keyRemoved(clientID string) string { return keyPrefix + "x:" + clientID }
func keyUser(id string) string          { return keyPrefix + "u:" + id }

func keyMail(k *masterKey, m Mail) string {
	sum := k.sum(forMails, string(m))
	return keyPrefix + "m:" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// keyToken names a token's record by a hash of its id, so that who reads Redis
// cannot write the claims that belong to a record.
func keyToken(tokenID string) string {
	sum := sha256.Sum256([]byte(tokenID))
	return keyPrefix + "t:" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

func keyFamily(id string) string { return keyPrefix + "r:" + id }

func keyMeetToken(k *masterKey, key string) string {
	sum := k.sum(forMeet, key)
	return keyPrefix + "k:" + hex.EncodeToString(sum[:16])
}

func keyMeetLock(k *masterKey, key string) string {
	sum := k.sum(forMeet, key)
	return keyPrefix + "l:" + hex.EncodeToString(sum[:16])
}

func keyReplay(k *masterKey, applicationID, userID, key string) string {
	sum := k.sum(forReplays, "key", applicationID, userID, key)
	return keyPrefix + "i:" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

func keyFence(applicationID string, day time.Time) string {
	return keyPrefix + "f:" + applicationID + ":" + day.UTC().Format("20060102")
}

// keyName names what is found by things that Redis must not tell anybody.
func keyName(k *masterKey, kind string, parts ...string) string {
	sum := k.sum(forNames, append([]string{kind}, parts...)...)
	return keyPrefix + kind + ":" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

func keyRate(k *masterKey, of limit.Key) string {
	return keyName(k, "q", of.Policy.String(), of.Subject, of.Detail)
}
