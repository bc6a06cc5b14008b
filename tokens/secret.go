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
type SecretKind = secrets.Kind

// SecretInfo is what may be shown of a secret.
type SecretInfo = secrets.Info

// Kinds of secrets.
const (
	SecretHMAC   = secrets.HMAC
	SecretDjango = secrets.Django
)
