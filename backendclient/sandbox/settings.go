// SPDX-License-Identifier: MIT

package sandbox

import (
	"crypto/rand"
	"time"
)

// Settings are the settings of a Meet installation that change what a client
// of its external API sees. Meet's own name of each stands in its comment.
// The zero value is a Meet with everything switched off; start from
// [Production] or [Quickstart].
type Settings struct {
	// ExternalAPIEnabled is EXTERNAL_API_ENABLED. Off, every path under
	// /external-api is an HTML 404.
	ExternalAPIEnabled bool
	// ApplicationEnabled is APPLICATION_ENABLED. Off, the token endpoint is a
	// JSON 404 and tokens of applications are not looked at.
	ApplicationEnabled bool

	// JWTSecretKey is APPLICATION_JWT_SECRET_KEY. Empty is unset, which makes
	// every exchange and every rooms request a 500.
	JWTSecretKey string
	// JWTAlgorithm is APPLICATION_JWT_ALG: HS256, HS384 or HS512.
	JWTAlgorithm string
	// JWTIssuer is APPLICATION_JWT_ISSUER.
	JWTIssuer string
	// JWTAudience is APPLICATION_JWT_AUDIENCE. Nil is unset. A pointer to the
	// empty string issues tokens that the same Meet then refuses.
	JWTAudience *string
	// JWTExpiration is APPLICATION_JWT_EXPIRATION_SECONDS, in whole seconds.
	JWTExpiration time.Duration
	// TokenType is APPLICATION_JWT_TOKEN_TYPE, the token_type of the answer.
	// The rooms take the scheme Bearer whatever it says.
	TokenType string

	// BaseURL is APPLICATION_BASE_URL, to which a room's url is a slash and its
	// slug appended. Empty is unset: rooms have no url and creations no Location.
	BaseURL string
	// AllowedHosts is DJANGO_ALLOWED_HOSTS: names in lower case, ".example.org"
	// for a domain and all below it, "*" for any. Meet adds the address that
	// its own host name resolves to; the sandbox does not.
	AllowedHosts []string
	// SecureSSLRedirect is SECURE_SSL_REDIRECT: 301 to https for every request
	// without X-Forwarded-Proto: https.
	SecureSSLRedirect bool
	// CORSOrigins is DJANGO_CORS_ALLOWED_ORIGINS.
	CORSOrigins []string

	// AllowUserCreation is APPLICATION_ALLOW_USER_CREATION. Unknown users are
	// provisioned only with it, MailFallback and not SubImmutable.
	AllowUserCreation bool
	// MailFallback is OIDC_FALLBACK_TO_EMAIL_FOR_IDENTIFICATION.
	MailFallback bool
	// SubImmutable is OIDC_USER_SUB_FIELD_IMMUTABLE.
	SubImmutable bool

	// DefaultAccessLevel is EXTERNAL_API_DEFAULT_ACCESS_LEVEL: public, trusted
	// or restricted.
	DefaultAccessLevel string
	// AllowPublicAccess is EXTERNAL_API_ALLOW_PUBLIC_ACCESS. Public rooms are
	// also allowed where public is the default.
	AllowPublicAccess bool
	// Telephony is the group ROOM_TELEPHONY_*.
	Telephony Telephony
	// ResourceServer is the group OIDC_RS_* with the identity provider behind it.
	ResourceServer ResourceServer

	// PageSize is the number of rooms on a page of the list. Meet has 20.
	PageSize int
	// HonourPageSize makes the list obey page_size (1 to 100), as the published
	// API promises and today's Meet does not.
	HonourPageSize bool
	// SlugFilter makes the list obey slug, as a future Meet may.
	SlugFilter bool

	// ExchangeDelay is how long checking a secret takes. Meet spends about a
	// second of CPU on it; the sandbox sleeps, and by default does not.
	ExchangeDelay time.Duration
	// KeepAlive leaves connections open. Meet's default workers close each
	// after one response, so a faithful sandbox does too.
	KeepAlive bool
	// AnyApplication accepts any unknown client_id with any secret as an active
	// application with all scopes and no restriction on domains. It exists in
	// the sandbox only, for trying things out.
	AnyApplication bool
}

// Telephony is the group of settings ROOM_TELEPHONY_*.
type Telephony struct {
	// Enabled is ROOM_TELEPHONY_ENABLED. Off, rooms have no telephony key.
	Enabled bool
	// PhoneNumber is ROOM_TELEPHONY_PHONE_NUMBER. Empty is unset: null.
	PhoneNumber string
	// DefaultCountry is ROOM_TELEPHONY_DEFAULT_COUNTRY. Empty is unset: US.
	DefaultCountry string
	// PINLength is ROOM_TELEPHONY_PIN_LENGTH. Zero is unset: 10.
	PINLength int
}

// ResourceServer configures what happens to a Bearer token that is not Meet's own. A configured
// Meet asks its identity provider about it.
type ResourceServer struct {
	// Mode is whether a resource server is configured, and how its identity provider behaves.
	Mode ResourceServerMode
	// Tokens are the foreign tokens that the identity provider knows in
	// [ResourceServerActive]; any other is inactive.
	Tokens map[string]ForeignToken
	// ScopePrefix is OIDC_RS_SCOPES_PREFIX, which a scope may carry with a
	// colon: with "lasuite_meet", lasuite_meet:rooms:list is rooms:list.
	ScopePrefix string
}

// ResourceServerMode is one behaviour of a resource server.
type ResourceServerMode int

const (
	// ResourceServerOff is no OIDC_RS_CLIENT_SECRET: 401 with a text about it.
	ResourceServerOff ResourceServerMode = iota
	// ResourceServerInactive is an identity provider that calls every token
	// inactive, answers 401 or 500, or not in JSON: 400 in HTML.
	ResourceServerInactive
	// ResourceServerUnreachable is no connection to the identity provider: 500
	// in HTML.
	ResourceServerUnreachable
	// ResourceServerActive is an identity provider that knows some tokens.
	ResourceServerActive
)

// ForeignToken is what the identity provider says of an active token.
type ForeignToken struct {
	// Sub is the user's subject; a user not yet known is created.
	Sub string
	// ClientID is for whom the token was made. Empty is missing: 400 in HTML.
	ClientID string
	// Issuer is the token's issuer, which must be [ForeignIssuer].
	Issuer string
	// Scope holds the scopes with spaces between; lasuite_meet must be one.
	Scope string
}

// ForeignIssuer is the OIDC_OP_URL of the sandbox.
const ForeignIssuer = "https://idp.example.org"

// allScopes are the scopes that Meet knows.
var allScopes = []string{"rooms:list", "rooms:retrieve", "rooms:create", "rooms:update", "rooms:delete"}

// Production returns the settings of the recorded production installation:
// only Host meet.example.org, https demanded, no provisioning. Its signing key
// is public.
func Production() Settings {
	audience := "meet-clients"
	return Settings{
		ExternalAPIEnabled: true,
		ApplicationEnabled: true,
		JWTSecretKey:       "fixture-signing-key-not-a-real-secret-0123456789",
		JWTAlgorithm:       "HS256",
		JWTIssuer:          "lasuite-meet",
		JWTAudience:        &audience,
		JWTExpiration:      time.Hour,
		TokenType:          "Bearer",
		BaseURL:            "https://meet.example.org",
		AllowedHosts:       []string{"meet.example.org"},
		SecureSSLRedirect:  true,
		SubImmutable:       true,
		DefaultAccessLevel: "trusted",
		Telephony:          Telephony{Enabled: true, PhoneNumber: "+33100000000", DefaultCountry: "FR", PINLength: 10},
		PageSize:           20,
	}
}

// Quickstart returns settings for trying things out: any Host, no https
// demanded, every mail address provisioned, telephony on, connections kept, a
// random signing key. Set BaseURL to where the rooms' web pages would be.
func Quickstart() Settings {
	s := Production()
	s.JWTSecretKey = rand.Text() + rand.Text()
	s.AllowedHosts = []string{"*"}
	s.SecureSSLRedirect = false
	s.AllowUserCreation = true
	s.MailFallback = true
	s.SubImmutable = false
	s.KeepAlive = true
	return s
}

// provisions reports whether the settings allow provisional users.
func (s *Settings) provisions() bool {
	return s.AllowUserCreation && s.MailFallback && !s.SubImmutable
}

// allowsPublic reports whether clients may create public rooms.
func (s *Settings) allowsPublic() bool {
	return s.AllowPublicAccess || s.DefaultAccessLevel == "public"
}
