// SPDX-License-Identifier: MIT

package tokens

import (
	"strings"

	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// SecretPrefix begins secrets, so that scanners find leaked ones.
const SecretPrefix = "mgs_"

// NewClientSecret makes a secret for [Authority.CreateApplicationWithSecret].
func NewClientSecret() string { return vault.NewSecret(SecretPrefix) }

// ChecksumOK reports whether s has the form of a secret or refresh token of a gateway, and a
// matching checksum; if not, it has a typo or is something else. It does not check whether
// the secret is right.
func ChecksumOK(s string) bool {
	return (strings.HasPrefix(s, SecretPrefix) || strings.HasPrefix(s, RefreshPrefix)) &&
		len(s) > len(SecretPrefix)+vault.ChecksumDigits && vault.ChecksumOK(s)
}

// NewPassword returns a random password of 256 bits.
func NewPassword() string { return vault.RandomID(43) }

// SecretKind is how a secret is stored.
type SecretKind = secrets.Kind

// SecretInfo is the part of a secret that may be shown.
type SecretInfo = secrets.Info

// Kinds of secrets.
const (
	SecretHMAC   = secrets.HMAC
	SecretDjango = secrets.Django
)
