// SPDX-License-Identifier: MIT

package tokens

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens/internal/installation"
	"github.com/meet-gateway/meet-gateway/tokens/internal/redisdb"
	"github.com/meet-gateway/meet-gateway/tokens/internal/secrets"
)

// FuzzStoredRecords reads arbitrary records of applications, users and the installation.
// An unreadable record is unavailable or not found, and is never read as another
// application. A readable record survives a round trip.
func FuzzStoredRecords(f *testing.F) {
	const id = "abcdefghijklmnopqrstuvwxyz012345"
	keys := testKeyring(f, "0123456789abcdef0123456789abcdef")
	codec := &applicationCodec{keys: keys, now: time.Now}
	users := &users{core: &core{keys: keys, now: time.Now}}
	whole := &Application{
		ID: id, Name: "Calendar", Type: "classic", Active: true, Scopes: MeetScopes(), Domains: []string{"example.org"}, Note: "x",
		DeniedMails: []Mail{"ada@example.org"}, Backend: &BackendCredentials{"c", "s"}, Limits: map[string]string{"token": "1/1m"},
		Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, RoomDefaults: RoomDefaults{Configuration: json.RawMessage(`{"a":1}`)},
		storedSecrets: []secrets.Stored{secrets.New(keys, "secret01", id, "x", time.Now())},
	}
	document, err := codec.encode(whole)
	require.NoError(f, err)
	for _, seed := range []string{
		document, `{"f":1,"id":"` + id + `","name":"x","limits":{"token":"nonsense"},"denied":["not a mail"],"nets":["192.0.2.1/24"]}`,
		`{"f":1,"id":"` + id + `","secrets":[{}],"rooms":{"configuration":null},"created":-1}`, `{"f":1,"id":"another"}`, `{"f":9}`, `null`, ``,
	} {
		f.Add(seed, "m:meet.example.org", "1700000000000 rooms:create")
		f.Add(seed, "g:"+id, "18446744073709551615")
		f.Add(seed, "s:", "-1")
	}
	sealedMail := string(keys.Seal([]byte("ada@example.org"), redisdb.KeyUser("abcdefgh")))
	f.Fuzz(func(t *testing.T, document, field, value string) {
		app, err := codec.decode(id, map[string]string{field: value, fieldDocument: document, fieldVersion: "1"})
		switch {
		case err != nil:
			if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
		case app.ID != id:
			t.Fatalf("%q was read as another application", document)
		default:
			_ = app.MayDelegate("ada@example.org")
			_, _, _, _ = app.Warnings(), app.LearnsBackend(), app.AllowsSource(netip.MustParseAddr("192.0.2.1")), app.Rates()
			app.NotGranted = nil // not stored in the document
			again, err := codec.encode(app)
			require.NoError(t, err)
			reread, err := codec.decode(id, map[string]string{fieldDocument: again, fieldVersion: "1"})
			require.NoError(t, err)
			reread.LastUsed = app.LastUsed
			want, err := json.Marshal(app)
			require.NoError(t, err)
			got, err := json.Marshal(reread)
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(got))
		}
		if u, err := users.decode("abcdefgh", map[string]string{field: value, fieldMail: sealedMail}); err == nil {
			require.Equal(t, Mail("ada@example.org"), u.Mail)
			if field == fieldGrantFloor {
				require.Equal(t, redisdb.ParseUint(value), u.revokedUpTo(id))
			}
			_ = grantState{&installation.State{}, &Application{ID: id}, u}.cacheKey()
		}
		if in, err := installation.Parse(map[string]string{field: value}); err == nil {
			_ = grantState{in, whole, &User{Mail: "ada@example.org"}}.check(generations{}, time.Now(), "key")
		}
	})
}
