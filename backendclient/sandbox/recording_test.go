// SPDX-License-Identifier: MIT

package sandbox_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// line is one exchange of testdata/meet-backend.jsonl; testdata/README.md says
// what its fields mean.
type line struct {
	ID           string            `json:"id"`
	Level        string            `json:"level"`
	Variant      string            `json:"variant"`
	Request      lineRequest       `json:"request"`
	Tokens       map[string]token  `json:"tokens"`
	Response     lineResponse      `json:"response"`
	PasswordHash *bool             `json:"password_hash"`
	Uses         map[string]string `json:"uses"`
}

type lineRequest struct {
	Method     string         `json:"method"`
	Path       string         `json:"path"`
	Headers    map[string]any `json:"headers"` // text, or a list where one is sent twice
	Body       *string        `json:"body"`
	BodyBase64 []byte         `json:"body_base64"`
}

type lineResponse struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    any               `json:"body"`
	JWT     *struct {
		Header map[string]any `json:"header"`
		Claims map[string]any `json:"claims"`
		User   string         `json:"user"` // "new" or "as in LINE"
	} `json:"jwt"`
}

type token struct {
	Header      map[string]any `json:"header"`
	Claims      map[string]any `json:"claims"`
	SignedWith  string         `json:"signed_with"`
	IssuedBy    string         `json:"issued_by"`
	Application string         `json:"application"`
	Scope       string         `json:"scope"`
	Value       string         `json:"value"`
}

// recordingHeader is what the lines share: testdata/meet-backend-header.json.
type recordingHeader struct {
	Variants map[string]struct {
		Settings map[string]*string `json:"settings"`
	} `json:"variants"`
	Signing struct {
		UnknownKey string `json:"unknown_key"`
	} `json:"signing"`
	Fixtures struct {
		Users map[string]struct {
			ID string `json:"id"`
		} `json:"users"`
		Applications map[string]struct {
			Secret string `json:"client_secret"`
		} `json:"applications"`
		Rooms map[string]struct {
			ID            string  `json:"id"`
			Name          string  `json:"name"`
			Slug          string  `json:"slug"`
			AccessLevel   string  `json:"access_level"`
			Configuration any     `json:"configuration"`
			PIN           *string `json:"pin_code"`
		} `json:"rooms"`
	} `json:"fixtures"`
	ConstantHeaders struct {
		Values map[string]string `json:"values"`
	} `json:"constant_headers"`
	Counts struct {
		Lines int `json:"lines"`
	} `json:"counts"`
}

func readRecording(t *testing.T) (recordingHeader, []line) {
	t.Helper()
	b, err := os.ReadFile("testdata/meet-backend-header.json")
	require.NoError(t, err)
	var h recordingHeader
	require.NoError(t, json.Unmarshal(b, &h))

	b, err = os.ReadFile("testdata/meet-backend.jsonl")
	require.NoError(t, err)
	var lines []line
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, len(b))
	for s.Scan() {
		var l line
		require.NoError(t, json.Unmarshal(s.Bytes(), &l))
		lines = append(lines, l)
	}
	require.NoError(t, s.Err())
	require.Len(t, lines, h.Counts.Lines)
	return h, lines
}

// settings makes the settings of a variant from Meet's own names.
func (h *recordingHeader) settings(t *testing.T, variant string) sandbox.Settings {
	t.Helper()
	v, ok := h.Variants[variant]
	require.True(t, ok, "variant %s", variant)
	s := sandbox.Production()
	s.AllowedHosts = append(s.AllowedHosts, ownAddress)
	for name, value := range v.Settings {
		text := ""
		if value != nil {
			text = *value
		}
		switch name {
		case "DJANGO_CORS_ALLOWED_ORIGINS":
			s.CORSOrigins = strings.Split(text, ",")
		case "DJANGO_ALLOWED_HOSTS":
			s.AllowedHosts = strings.Split(text, ",")
		case "EXTERNAL_API_ENABLED":
			s.ExternalAPIEnabled = text == "True"
		case "EXTERNAL_API_DEFAULT_ACCESS_LEVEL":
			s.DefaultAccessLevel = text
		case "EXTERNAL_API_ALLOW_PUBLIC_ACCESS":
			s.AllowPublicAccess = text == "True"
		case "APPLICATION_ENABLED":
			s.ApplicationEnabled = text == "True"
		case "APPLICATION_ALLOW_USER_CREATION":
			s.AllowUserCreation = text == "True"
		case "APPLICATION_BASE_URL":
			s.BaseURL = text
		case "APPLICATION_JWT_SECRET_KEY":
			s.JWTSecretKey = text
		case "APPLICATION_JWT_ALG":
			s.JWTAlgorithm = text
		case "APPLICATION_JWT_ISSUER":
			s.JWTIssuer = text
		case "APPLICATION_JWT_AUDIENCE":
			s.JWTAudience = value
		case "APPLICATION_JWT_TOKEN_TYPE":
			s.TokenType = text
		case "APPLICATION_JWT_EXPIRATION_SECONDS":
			seconds, err := strconv.Atoi(text)
			require.NoError(t, err)
			s.JWTExpiration = time.Duration(seconds) * time.Second
		case "OIDC_FALLBACK_TO_EMAIL_FOR_IDENTIFICATION":
			s.MailFallback = text == "True"
		case "OIDC_USER_SUB_FIELD_IMMUTABLE":
			s.SubImmutable = text == "True"
		case "ROOM_TELEPHONY_ENABLED":
			s.Telephony.Enabled = text == "True"
		case "ROOM_TELEPHONY_PHONE_NUMBER":
			s.Telephony.PhoneNumber = text
		case "ROOM_TELEPHONY_DEFAULT_COUNTRY":
			s.Telephony.DefaultCountry = text
		case "ROOM_TELEPHONY_PIN_LENGTH":
			length, err := strconv.Atoi(text)
			require.NoError(t, err)
			s.Telephony.PINLength = length
		case "OIDC_RS_CLIENT_SECRET":
			s.ResourceServer.Mode = identityProviders[variant]
			s.ResourceServer.Tokens = foreignTokens
		case "OIDC_RS_SCOPES_PREFIX":
			s.ResourceServer.ScopePrefix = text
		case "OIDC_OP_URL", "OIDC_OP_INTROSPECTION_ENDPOINT", "OIDC_RS_SCOPES": // come with the above
		default:
			t.Fatalf("variant %s has an unknown setting %s", variant, name)
		}
	}
	return s
}

// identityProviders is the behaviour of the identity provider in each variant, as
// identity_provider in the header file.
var identityProviders = map[string]sandbox.ResourceServerMode{
	"rs-inactive":     sandbox.ResourceServerInactive,
	"rs-unreachable":  sandbox.ResourceServerUnreachable,
	"rs-idp-401":      sandbox.ResourceServerInactive,
	"rs-idp-500":      sandbox.ResourceServerInactive,
	"rs-idp-not-json": sandbox.ResourceServerInactive,
	"rs-active":       sandbox.ResourceServerActive,
	"rs-scope-prefix": sandbox.ResourceServerActive,
}

// foreignTokens are the tokens that the identity provider of the recording knows.
var foreignTokens = func() map[string]sandbox.ForeignToken {
	const scope = "openid lasuite_meet rooms:list rooms:retrieve rooms:create"
	active := func(sub string) sandbox.ForeignToken {
		return sandbox.ForeignToken{Sub: sub, ClientID: "partner", Issuer: sandbox.ForeignIssuer, Scope: scope}
	}
	tokens := map[string]sandbox.ForeignToken{
		"foreign-alice":         active("sub-alice"),
		"foreign-carol":         active("sub-carol"),
		"foreign-new":           active("sub-brand-new"),
		"foreign-inactive-user": active("sub-ivan"),
		"foreign-nosub":         active(""),
	}
	without := func(name string, change func(*sandbox.ForeignToken)) {
		t := active("sub-alice")
		change(&t)
		tokens[name] = t
	}
	without("foreign-only-gate-scope", func(t *sandbox.ForeignToken) { t.Scope = "openid lasuite_meet" })
	without("foreign-wrongscope", func(t *sandbox.ForeignToken) { t.Scope = "openid" })
	without("foreign-noscope", func(t *sandbox.ForeignToken) { t.Scope = "" })
	without("foreign-noaud", func(t *sandbox.ForeignToken) { t.ClientID = "" })
	without("foreign-wrong-iss", func(t *sandbox.ForeignToken) { t.Issuer = "https://other.example" })
	return tokens
}()
