// SPDX-License-Identifier: MIT

package redisdb

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// KeyPrefix begins the name of every key and channel. docs/redis.md lists what each key
// holds and when it expires. Every operation touches one key, so that it works on a Cluster
// without hash tags. The lock of an exchange is the exception: it is kept beside its token.
const KeyPrefix = "mg1:"

// Kinds of keys. A key is KeyPrefix, its kind, a colon and what identifies it.
const (
	KindApplication = "a"
	KindAlias       = "c"
	KindBackend     = "b"
	KindRemoved     = "x"
	KindUser        = "u"
	KindMail        = "m"
	KindToken       = "t"
	KindFamily      = "r"
	KindMeetToken   = "k"
	KindMeetLock    = "l"
	KindReplay      = "i"
	KindQuota       = "f"
	KindSlug        = "s" // of package roomindex
	KindTrial       = "n" // of package trial
	KindLimit       = "q" // of rate limits
)

// Keys of the installation, and channels.
const (
	KeyFeed         = KeyPrefix + "feed"     // number of the last change
	KeyInstallation = KeyPrefix + "inst"     // hash: generation, not-before, withdrawn keys
	KeyIndex        = KeyPrefix + "apps"     // sorted set: name and id of every application
	KeyRekeyed      = KeyPrefix + "rekeyed"  // what the last "meet secret rekey" left under former secrets
	KeyGateways     = KeyPrefix + "gateways" // hash: description of every gateway
	ChannelFeed     = KeyPrefix + "feed"     // every change
)

// ChannelNode and the id of a gateway is the channel of its heartbeats. The hash tag puts it
// in the slot of KeyFeed, as ChannelFeed is.
const ChannelNode = KeyPrefix + "node:{" + KeyFeed + "}:"

// KeyApplication is the record of an application.
func KeyApplication(id string) string { return keyOf(KindApplication, id) }

// KeyAlias is the index entry of an alias.
func KeyAlias(alias string) string { return keyOf(KindAlias, alias) }

// KeyBackend is the index entry of a client id at Meet.
func KeyBackend(clientID string) string { return keyOf(KindBackend, clientID) }

// KeyRemoved marks a client id that must not be adopted again.
func KeyRemoved(clientID string) string { return keyOf(KindRemoved, clientID) }

// KeyUser is the record of a user.
func KeyUser(id string) string { return keyOf(KindUser, id) }

// KeyMail is the index entry of a mail address.
func KeyMail(k *vault.Key, mail string) string {
	return hashedKey(KindMail, k.Sum(vault.ForMails, mail))
}

// KeyToken is the record of an access token. The name is a hash, so that a reader of Redis
// does not learn the id that the claims need.
func KeyToken(tokenID string) string {
	return hashedKey(KindToken, sha256.Sum256([]byte(tokenID)))
}

// RecordID identifies the record of a token. KeyToken is "mg1:t:" and its base64url.
type RecordID [16]byte

// RecordOf returns the RecordID of a token id.
func RecordOf(tokenID []byte) RecordID {
	sum := sha256.Sum256(tokenID)
	return RecordID(sum[:])
}

// Beginning is the first four bytes.
func (id RecordID) Beginning() uint32 { return binary.BigEndian.Uint32(id[:]) }

// ParseRecordID parses what follows "mg1:t:" in a key.
func ParseRecordID(name string) (id RecordID, ok bool) {
	n, err := base64.RawURLEncoding.Strict().Decode(id[:], []byte(name))
	return id, err == nil && n == len(id)
}

// KeyFamily is a family of refresh tokens.
func KeyFamily(id string) string { return keyOf(KindFamily, id) }

// KeyMeetToken is a cached token of Meet.
func KeyMeetToken(k *vault.Key, key string) string {
	sum := k.Sum(vault.ForMeet, key)
	return keyOf(KindMeetToken, hex.EncodeToString(sum[:16]))
}

// KeyMeetLock is the lock of an exchange. The hash tag in braces puts it in the slot of the
// token, so that one script can look for the token and take the lock.
func KeyMeetLock(k *vault.Key, key string) string {
	return keyOf(KindMeetLock, "{"+KeyMeetToken(k, key)+"}")
}

// KeyReplay is the outcome of a request with an Idempotency-Key.
func KeyReplay(k *vault.Key, applicationID, userID, key string) string {
	return hashedKey(KindReplay, k.Sum(vault.ForReplays, "key", applicationID, userID, key))
}

// KeyQuota counts the new users of an application on one day.
func KeyQuota(applicationID string, day time.Time) string {
	return keyOf(KindQuota, applicationID+":"+day.UTC().Format("20060102"))
}

// KeyName is a key of a kind, named by a keyed hash of parts that Redis must not reveal.
func KeyName(k *vault.Key, kind string, parts ...string) string {
	return hashedKey(kind, k.Sum(vault.ForNames, append([]string{kind}, parts...)...))
}

// hashedKey names a key by the first half of a hash.
func hashedKey(kind string, sum [sha256.Size]byte) string {
	return keyOf(kind, base64.RawURLEncoding.EncodeToString(sum[:16]))
}

func keyOf(kind, id string) string { return KeyPrefix + kind + ":" + id }

// ParseKey returns the kind of a key and what identifies it. Keys of the installation have
// no id.
func ParseKey(key string) (kind, id string) {
	kind, id, _ = strings.Cut(strings.TrimPrefix(key, KeyPrefix), ":")
	return kind, id
}
