// SPDX-License-Identifier: MIT

// Package secrets stores the secrets of applications as hashes, and checks secrets against
// them. The slow hashes of imported secrets are checked in a bounded pool.
package secrets

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

const (
	// MaxLength bounds what is hashed at all. Meet's own secrets have 128 characters.
	MaxLength = 512
	// MaxLive is how many secrets of one application live at a time.
	MaxLive = 2
)

// Kind tells how a secret is kept.
type Kind string

const (
	// HMAC is a secret made here, or one imported and used since: its
	// HMAC-SHA-256 under a derived key is kept.
	HMAC Kind = "hmac"
	// Django is an imported secret that has not been used yet: its Django
	// password hash is kept until the first use.
	Django Kind = "django"
)

// Info is the part of a secret that may be shown.
type Info struct {
	// ID is unique among the secrets of one application.
	ID string `json:"id"`
	// Kind tells how it is kept.
	Kind Kind `json:"kind"`
	// Created is when it was made or imported.
	Created time.Time `json:"created"`
	// LastUsed is when it last authenticated the application, at a resolution
	// of a minute; zero if never.
	LastUsed time.Time `json:"last_used,omitzero"`
	// Expires is when it stops working; zero if never. A secret that is being
	// rotated out has one.
	Expires time.Time `json:"expires,omitzero"`
	// MeetClientID is the client id at Meet that an imported secret belongs to, if
	// the application is to present both there; see LearnBackend.
	MeetClientID string `json:"meet_client_id,omitempty"`
}

// Stored is a secret as it is stored: never the secret itself.
type Stored struct {
	ID      string `json:"id"`
	Kind    Kind   `json:"k"`
	Key     string `json:"key,omitempty"` // id of the master key of an HMAC
	Hash    string `json:"h"`             // base64url HMAC, or an encoded Django hash
	Created int64  `json:"c"`             // unix milliseconds, as Expires
	Expires int64  `json:"e,omitempty"`
	// Client is Info's MeetClientID.
	Client string `json:"m,omitempty"`
}

// New hashes a secret.
func New(kr *vault.Ring, id, applicationID, secret string, created time.Time) Stored {
	k := kr.First()
	sum := k.Sum(vault.ForSecrets, applicationID, secret)
	return Stored{
		ID: id, Kind: HMAC, Key: k.ID,
		Hash: base64.RawURLEncoding.EncodeToString(sum[:]), Created: created.UnixMilli(),
	}
}

// Matches reports in constant time whether the HMAC was made from the secret. It matches
// nothing if its key is no longer configured.
func (v Stored) Matches(kr *vault.Ring, applicationID, secret string) bool {
	k, known := kr.ByID(v.Key), true
	if k == nil {
		k, known = kr.First(), false
	}
	sum := k.Sum(vault.ForSecrets, applicationID, secret)
	want, err := base64.RawURLEncoding.DecodeString(v.Hash)
	return subtle.ConstantTimeCompare(sum[:], want) == 1 && err == nil && known
}

// Expired reports whether the secret has stopped working.
func (v Stored) Expired(now time.Time) bool {
	return v.Expires != 0 && now.UnixMilli() >= v.Expires
}

// Info returns the part of the secret that may be shown.
func (v Stored) Info(lastUsed time.Time) Info {
	i := Info{ID: v.ID, Kind: v.Kind, Created: time.UnixMilli(v.Created).UTC(), LastUsed: lastUsed, MeetClientID: v.Client}
	if v.Expires != 0 {
		i.Expires = time.UnixMilli(v.Expires).UTC()
	}
	return i
}

// NewImported stores a secret that is known only as a Django hash. clientID becomes the
// MeetClientID of its Info.
func NewImported(hash, clientID string, created time.Time) Stored {
	return Stored{ID: IDOf(hash), Kind: Django, Hash: hash, Created: created.UnixMilli(), Client: clientID}
}

// IDOf derives the id of a secret from its Django hash, so that importing the same dump
// again finds the secret even after it was rehashed. Forty bits of the digest of a salted
// hash reveal nothing.
func IDOf(hash string) string {
	sum := sha256.Sum256([]byte(hash))
	const length = 8
	return vault.Base62(sum[:5], length)
}
