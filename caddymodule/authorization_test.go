// SPDX-License-Identifier: MIT

package caddymodule

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func basicValue(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestParseAuthorization(t *testing.T) {
	for _, tc := range []struct {
		header []string
		want   authorization
		err    error
	}{
		{nil, authorization{}, nil},
		{[]string{""}, authorization{}, nil},
		{[]string{"  "}, authorization{}, nil},
		{[]string{"Bearer a.b.c"}, authorization{scheme: schemeBearer, token: "a.b.c"}, nil},
		{[]string{"bEARER  \t a.b.c "}, authorization{scheme: schemeBearer, token: "a.b.c"}, nil},
		{[]string{"Bearer"}, authorization{scheme: schemeBearer}, errAuthorizationValue},
		{[]string{"Bearer "}, authorization{scheme: schemeBearer}, errAuthorizationValue},
		{[]string{"Bearer a b"}, authorization{scheme: schemeBearer}, errAuthorizationValue},
		{[]string{"Bearer a,Bearer b"}, authorization{scheme: schemeBearer}, errAuthorizationValue},
		{[]string{"Bearer a\x00"}, authorization{scheme: schemeBearer}, errAuthorizationValue},
		{[]string{"Bearer é"}, authorization{scheme: schemeBearer}, errAuthorizationEncoding},
		{[]string{"Bearer \xff"}, authorization{scheme: schemeBearer}, errAuthorizationEncoding},
		{[]string{"Bearer a", "Bearer a"}, authorization{scheme: schemeOther}, errAuthorizationRepeated},
		{[]string{"Bearer a", ""}, authorization{scheme: schemeOther}, errAuthorizationRepeated},
		{[]string{"BearerX a"}, authorization{scheme: schemeOther}, nil},
		{[]string{"Token a"}, authorization{scheme: schemeOther}, nil},
		{[]string{"Digest username=x"}, authorization{scheme: schemeOther}, nil},
		{[]string{"basic " + basicValue("id:secret")}, authorization{scheme: schemeBasic, id: "id", secret: "secret"}, nil},
		{[]string{"Basic " + basicValue("id:a:b:")}, authorization{scheme: schemeBasic, id: "id", secret: "a:b:"}, nil},
		{[]string{"Basic " + basicValue("id:")}, authorization{scheme: schemeBasic, id: "id"}, nil},
		{[]string{"Basic"}, authorization{scheme: schemeBasic}, errAuthorizationValue},
		{[]string{"Basic " + basicValue("id")}, authorization{scheme: schemeBasic}, errAuthorizationValue},
		{[]string{"Basic " + basicValue(":secret")}, authorization{scheme: schemeBasic}, errAuthorizationValue},
		{[]string{"Basic " + basicValue("id:se\ncret")}, authorization{scheme: schemeBasic}, errAuthorizationValue},
		{[]string{"Basic " + basicValue("i\x00d:secret")}, authorization{scheme: schemeBasic}, errAuthorizationValue},
		{[]string{"Basic " + basicValue("id:\xff")}, authorization{scheme: schemeBasic}, errAuthorizationValue},
		{[]string{"Basic aWQ6c2VjcmV0cw"}, authorization{scheme: schemeBasic}, errAuthorizationValue},
		{[]string{"Basic " + basicValue("id:secret") + " x"}, authorization{scheme: schemeBasic}, errAuthorizationValue},
		{[]string{"Basic %%%"}, authorization{scheme: schemeBasic}, errAuthorizationValue},
		{[]string{"Basic é"}, authorization{scheme: schemeBasic}, errAuthorizationEncoding},
	} {
		got, err := parseAuthorization(http.Header{"Authorization": tc.header})
		require.ErrorIs(t, err, tc.err, "%q", tc.header)
		require.Equal(t, tc.want, got, "%q", tc.header)
	}
}

func TestAuthorization_PrintsNoCredential(t *testing.T) {
	a := authorization{scheme: schemeBasic, id: "canary-id", secret: "canary-secret", token: "canary-token"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(verb, a), "canary")
	}
}

func TestFormDecoded(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a%2Bb": "a+b", "a+b": "a b", "100%": "100%", "%zz": "%zz", "a%00": "a%00", "a%3Ab": "a:b",
	} {
		require.Equal(t, want, formDecoded(in), in)
	}
}

func FuzzParseAuthorization(f *testing.F) {
	for _, s := range []string{
		"", "Bearer a.b.c", "bearer", "Basic " + basicValue("id:secret"), "Basic x", "Bearer a b", "Digest x", "Basic " + basicValue("\x00:"), "Bearer \xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		a, err := parseAuthorization(http.Header{"Authorization": {value}})
		if err != nil || a.scheme == schemeNone || a.scheme == schemeOther {
			require.Empty(t, a.token+a.id+a.secret)
			return
		}
		require.NotContains(t, a.token, " ")
		require.NotContains(t, a.id, ":")
		if a.scheme == schemeBasic {
			require.NotEmpty(t, a.id)
		} else {
			require.NotEmpty(t, a.token)
		}
	})
}

// The headers of a request that is let through: what is read of them, and what an
// answer starts from.
func BenchmarkHeaders(b *testing.B) {
	in := http.Header{
		"Accept":        {"application/json"},
		"Authorization": {"Bearer " + strings.Repeat("eyJhbGciOiJIUzI1NiJ9.", 25)},
		"User-Agent":    {"test"},
		"X-Request-Id":  {"0123456789abcdef"},
	}
	w := discard{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		c := &call{w: w, requestID: requestID(in)}
		c.setAnswerHeaders()
		if _, err := parseAuthorization(in); err != nil {
			b.Fatal(err)
		}
	}
}
