// SPDX-License-Identifier: MIT

package backendclient_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// No verb, logger or encoding prints a secret. %p is left out because it calls no method, and
// go vet refuses it for anything but pointers.
func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	token, err := newClient(t, newMeet(sandbox.Production())).Token(context.Background(), alice)
	require.NoError(t, err)

	var out bytes.Buffer
	type nested struct {
		C *backendclient.Credentials
		T *backendclient.Token
		K []backendclient.Caller
	}
	for _, v := range []any{full, &full, alice, &alice, token, nested{&full, token, []backendclient.Caller{alice}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		require.NoError(t, json.NewEncoder(&out).Encode(v))
	}
	for _, secret := range []string{full.ClientSecret, fmt.Sprintf("%x", full.ClientSecret), token.Value(), alice.Mail, fmt.Sprintf("%x", alice.Mail)} {
		require.NotContains(t, out.String(), secret)
	}
	require.Contains(t, out.String(), "app-full")
}
