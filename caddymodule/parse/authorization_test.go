// SPDX-License-Identifier: MIT

package parse

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func basicValue(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestParseAuthorization(t *testing.T) {
	for _, tc := range []struct {
		header []string
		want   Credential
		err    error
	}{
		{nil, Credential{}, nil},
		{[]string{""}, Credential{}, nil},
		{[]string{"  "}, Credential{}, nil},
		{[]string{"Bearer a.b.c"}, Credential{Scheme: SchemeBearer, Token: "a.b.c"}, nil},
		{[]string{"bEARER  \t a.b.c "}, Credential{Scheme: SchemeBearer, Token: "a.b.c"}, nil},
		{[]string{"Bearer"}, Credential{Scheme: SchemeBearer}, ErrAuthorizationValue},
		{[]string{"Bearer "}, Credential{Scheme: SchemeBearer}, ErrAuthorizationValue},
		{[]string{"Bearer a b"}, Credential{Scheme: SchemeBearer}, ErrAuthorizationValue},
		{[]string{"Bearer a,Bearer b"}, Credential{Scheme: SchemeBearer}, ErrAuthorizationValue},
		{[]string{"Bearer a\x00"}, Credential{Scheme: SchemeBearer}, ErrAuthorizationValue},
		{[]string{"Bearer é"}, Credential{Scheme: SchemeBearer}, ErrAuthorizationEncoding},
		{[]string{"Bearer \xff"}, Credential{Scheme: SchemeBearer}, ErrAuthorizationEncoding},
		{[]string{"Bearer a", "Bearer a"}, Credential{Scheme: SchemeOther}, ErrAuthorizationRepeated},
		{[]string{"Bearer a", ""}, Credential{Scheme: SchemeOther}, ErrAuthorizationRepeated},
		{[]string{"BearerX a"}, Credential{Scheme: SchemeOther}, nil},
		{[]string{"Token a"}, Credential{Scheme: SchemeOther}, nil},
		{[]string{"Digest username=x"}, Credential{Scheme: SchemeOther}, nil},
		{[]string{"basic " + basicValue("id:secret")}, Credential{Scheme: SchemeBasic, ID: "id", Secret: "secret"}, nil},
		{[]string{"Basic " + basicValue("id:a:b:")}, Credential{Scheme: SchemeBasic, ID: "id", Secret: "a:b:"}, nil},
		{[]string{"Basic " + basicValue("id:")}, Credential{Scheme: SchemeBasic, ID: "id"}, nil},
		{[]string{"Basic"}, Credential{Scheme: SchemeBasic}, ErrAuthorizationValue},
		{[]string{"Basic " + basicValue("id")}, Credential{Scheme: SchemeBasic}, ErrAuthorizationValue},
		{[]string{"Basic " + basicValue(":secret")}, Credential{Scheme: SchemeBasic}, ErrAuthorizationValue},
		{[]string{"Basic " + basicValue("id:se\ncret")}, Credential{Scheme: SchemeBasic}, ErrAuthorizationValue},
		{[]string{"Basic " + basicValue("i\x00d:secret")}, Credential{Scheme: SchemeBasic}, ErrAuthorizationValue},
		{[]string{"Basic " + basicValue("id:\xff")}, Credential{Scheme: SchemeBasic}, ErrAuthorizationValue},
		{[]string{"Basic aWQ6c2VjcmV0cw"}, Credential{Scheme: SchemeBasic}, ErrAuthorizationValue},
		{[]string{"Basic " + basicValue("id:secret") + " x"}, Credential{Scheme: SchemeBasic}, ErrAuthorizationValue},
		{[]string{"Basic %%%"}, Credential{Scheme: SchemeBasic}, ErrAuthorizationValue},
		{[]string{"Basic é"}, Credential{Scheme: SchemeBasic}, ErrAuthorizationEncoding},
	} {
		got, err := Authorization(http.Header{"Authorization": tc.header})
		require.ErrorIs(t, err, tc.err, "%q", tc.header)
		require.Equal(t, tc.want, got, "%q", tc.header)
	}
}

func TestAuthorization_PrintsNoCredential(t *testing.T) {
	a := Credential{Scheme: SchemeBasic, ID: "canary-id", Secret: "canary-secret", Token: "canary-token"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(verb, a), "canary")
	}
}

func TestFormDecoded(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a%2Bb": "a+b", "a+b": "a b", "100%": "100%", "%zz": "%zz", "a%00": "a%00", "a%3Ab": "a:b",
	} {
		require.Equal(t, want, FormDecoded(in), in)
	}
}

func FuzzParseAuthorization(f *testing.F) {
	for _, s := range []string{
		"", "Bearer a.b.c", "bearer", "Basic " + basicValue("id:secret"), "Basic x", "Bearer a b", "Digest x", "Basic " + basicValue("\x00:"), "Bearer \xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		a, err := Authorization(http.Header{"Authorization": {value}})
		if err != nil || a.Scheme == SchemeNone || a.Scheme == SchemeOther {
			require.Empty(t, a.Token+a.ID+a.Secret)
			return
		}
		require.NotContains(t, a.Token, " ")
		require.NotContains(t, a.ID, ":")
		if a.Scheme == SchemeBasic {
			require.NotEmpty(t, a.ID)
		} else {
			require.NotEmpty(t, a.Token)
		}
	})
}
