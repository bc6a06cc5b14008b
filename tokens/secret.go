// SPDX-License-Identifier: MIT

package tokens

import (
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"time"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// Prefixes of secrets and of refresh tokens, by which scanners find leaked ones.
const (
	SecretPrefix  = "mgs_"
	RefreshPrefix = "mgr_"

	// maxSecret bounds what is hashed at all. Meet's own secrets have 128 characters.
	maxSecret = 512
	// maxSecrets is how many secrets of one application live at a time.
	maxSecrets = 2
)

// NewClientSecret makes a secret for [Authority.CreateApplicationWithSecret].
func NewClientSecret() string { return vault.NewSecret(SecretPrefix) }

// ChecksumOK reports whether s has the form of a secret or refresh token made
// here and a checksum that fits: false means a typo or something else. It says
// nothing about whether the secret is right, and never decides anything on a
// request.
func ChecksumOK(s string) bool {
	return (strings.HasPrefix(s, SecretPrefix) || strings.HasPrefix(s, RefreshPrefix)) &&
		len(s) > len(SecretPrefix)+vault.ChecksumDigits && vault.ChecksumOK(s)
}

// NewPassword returns a random password of 256 bits.
func NewPassword() string { return vault.RandomID(43) }

// SecretKind tells how a secret is kept.
type SecretKind string

const (
	// SecretHMAC is a secret made here, or one imported and used since: its
	// HMAC-SHA-256 under a derived key is kept.
	SecretHMAC SecretKind = "hmac"
	// SecretDjango is an imported secret that has not been used yet: its Django
	// password hash is kept until the first use.
	SecretDjango SecretKind = "django"
)

// SecretInfo is what may be shown of a secret.
type SecretInfo struct {
	// ID tells the secrets of one application apart.
	ID string `json:"id"`
	// Kind tells how it is kept.
	Kind SecretKind `json:"kind"`
	// Created is when it was made or imported.
	Created time.Time `json:"created"`
	// LastUsed is when it last authenticated the application, at a resolution
	// of a minute; zero if never.
	LastUsed time.Time `json:"last_used,omitzero"`
	// Expires is when it stops working; zero if never. A secret that is being
	// rotated out has one.
	Expires time.Time `json:"expires,omitzero"`
	// MeetClientID is the client id at Meet that an imported secret belongs to, if
	// the application is to present both there; see [Authority.LearnBackend].
	MeetClientID string `json:"meet_client_id,omitempty"`
}

// storedSecret is a secret as it is stored: never the secret itself.
type storedSecret struct {
	ID      string     `json:"id"`
	Kind    SecretKind `json:"k"`
	Key     string     `json:"key,omitempty"` // id of the master key of an HMAC
	Hash    string     `json:"h"`             // base64url HMAC, or an encoded Django hash
	Created int64      `json:"c"`             // unix milliseconds, as Expires
	Expires int64      `json:"e,omitempty"`
	// Client is SecretInfo's MeetClientID.
	Client string `json:"m,omitempty"`
}

// newStoredSecret makes what is stored of a secret.
func newStoredSecret(kr *vault.Ring, id, applicationID, secret string, created time.Time) storedSecret {
	k := kr.First()
	sum := k.Sum(vault.ForSecrets, applicationID, secret)
	return storedSecret{
		ID: id, Kind: SecretHMAC, Key: k.ID,
		Hash: base64.RawURLEncoding.EncodeToString(sum[:]), Created: created.UnixMilli(),
	}
}

// matches reports whether the secret is the one the HMAC was made from, in
// constant time. A storedSecret made with a secret that is no longer configured
// matches nothing.
func matches(kr *vault.Ring, v storedSecret, applicationID, secret string) bool {
	k, known := kr.ByID(v.Key), true
	if k == nil {
		k, known = kr.First(), false
	}
	sum := k.Sum(vault.ForSecrets, applicationID, secret)
	want, err := base64.RawURLEncoding.DecodeString(v.Hash)
	return subtle.ConstantTimeCompare(sum[:], want) == 1 && err == nil && known
}

func (v storedSecret) expired(now time.Time) bool {
	return v.Expires != 0 && now.UnixMilli() >= v.Expires
}

func (v storedSecret) info(lastUsed time.Time) SecretInfo {
	i := SecretInfo{ID: v.ID, Kind: v.Kind, Created: time.UnixMilli(v.Created).UTC(), LastUsed: lastUsed, MeetClientID: v.Client}
	if v.Expires != 0 {
		i.Expires = time.UnixMilli(v.Expires).UTC()
	}
	return i
}
