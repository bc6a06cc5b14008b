// SPDX-License-Identifier: MIT

package signing

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/vault"
)

// BenchmarkSet_Parse measures the check of a token's form, signature and claims.
func BenchmarkSet_Parse(b *testing.B) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(b, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(b, err)
	eddsa, err := Parse(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	require.NoError(b, err)
	ring, err := vault.NewRing([][]byte{[]byte("0123456789-0123456789-0123456789")})
	require.NoError(b, err)
	for _, algorithm := range []struct {
		name string
		keys []*Key
	}{{"HS256", nil}, {"EdDSA", []*Key{eddsa}}} {
		b.Run(algorithm.name, func(b *testing.B) {
			set, err := NewSet(ring, algorithm.keys, false)
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
