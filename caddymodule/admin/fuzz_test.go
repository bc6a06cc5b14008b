// SPDX-License-Identifier: MIT

package admin

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tokens"
)

// FuzzApplicationFields reads bodies of PATCH and entries of apply. What is taken
// comes back the same from an export.
func FuzzApplicationFields(f *testing.F) {
	for _, seed := range []string{
		`{"name":"Calendar","domains":["Example.org",".example.net","*"],"scopes":["rooms:list"],"active":null}`,
		`{"name":"x","networks":["192.0.2.7","2001:db8::1/32"],"token_lifetime":"90s","refresh":true,"limits":{"token":"10/m"}}`,
		`{"name":"x","room_defaults":{"access_level":"public","configuration":{"a":[1]}},"denied_mails":["Ada@example.org"],"aliases":["a"]}`,
		`{"name":"x","backend":{"client_id":"c","client_secret":"s"},"note":"\u0000"}`,
		`{"name":"x","name":"y"}`, `{"name":7}`, `[]`, `null`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		app, err := readApplication(body)
		if err != nil {
			status := problemOf(err).Status
			require.Contains(t, []int{http.StatusBadRequest, http.StatusUnprocessableEntity}, status, err)
			return
		}
		element, err := exported(app)
		require.NoError(t, err)
		again := tokens.Application{Active: true}
		again.Backend = app.Backend // no export has the secret
		given, err := readObject([]byte(element), append([]string{"id"}, applicationFieldNames()...))
		require.NoError(t, err)
		require.NoError(t, setFields(&again, given))
		checked, err := again.Checked()
		require.NoError(t, err)
		require.Empty(t, changedFields(app, checked), element)
	})
}

func readApplication(body []byte) (*tokens.Application, error) {
	given, err := readObject(body, applicationFieldNames())
	if err != nil {
		return nil, err
	}
	app := tokens.Application{Active: true}
	if err := setFields(&app, given); err != nil {
		return nil, err
	}
	return app.Checked()
}
