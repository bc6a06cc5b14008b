// SPDX-License-Identifier: MIT

package signing_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
	"github.com/meet-gateway/meet-gateway/tokens/signing"
)

// BenchmarkSet_Parse measures the check of a token's form, signature and claims.
func BenchmarkSet_Parse(b *testing.B) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(b, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(b, err)
	eddsa, err := signing.Parse(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	require.NoError(b, err)
	ring, err := vault.NewRing([][]byte{[]byte("0123456789-0123456789-0123456789")})
	require.NoError(b, err)
	for _, algorithm := range []struct {
		name string
		keys []*signing.Key
	}{{"HS256", nil}, {"EdDSA", []*signing.Key{eddsa}}} {
		b.Run(algorithm.name, func(b *testing.B) {
			set, err := signing.NewSet(ring, algorithm.keys, false)
			require.NoError(b, err)
			raw, err := set.Sign(&sample)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := set.Parse(raw, sample.Issuer, sample.Audience); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// sample are claims of the usual size.
var sample = signing.Claims{
	Issuer: "https://meet.example.org/external-api/v1.0", Audience: "meet-gateway", IssuedAt: 1_800_000_000, ExpiresAt: 1_800_003_600,
	ID: vault.RandomID(vault.TokenID), Subject: vault.RandomID(vault.UserID), ClientID: vault.RandomID(vault.ApplicationID),
	Scope: "rooms:list rooms:retrieve rooms:create", UserID: "0199d1f0-0000-7000-8000-000000000000", Delegated: true,
}
