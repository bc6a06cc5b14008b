// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// peer is an alternative to the gateway, with what it checks and what it lacks.
type peer struct {
	*result
	What    string
	Without string
}

func (b *bench) peers(ctx context.Context) error {
	for _, p := range []struct {
		id  string
		run func(context.Context) error
	}{{"haproxy", b.haproxy}, {"nginx", b.nginxAuthRequest}, {"forward-auth", b.caddyForwardAuth}, {"oauth2-proxy", b.oauth2Proxy}} {
		if !strings.Contains(p.id, b.s.Filter) {
			continue
		}
		if err := b.attempt(ctx, p.id, p.run); err != nil {
			return err
		}
	}
	return nil
}

// against measures a peer against plain Caddy.
func (b *bench) against(ctx context.Context, p peer, l *load, s *server) error {
	if err := b.report.Speeds.note("peers"); err != nil {
		return err
	}
	cases := b.report.Cases
	p.A, p.B = "plain", "peer"
	err := b.compare(ctx, p.result, b.s.fewer(), on(l, b.plain), on(l, s))
	b.report.Cases = cases
	if err == nil && p.Pairs != nil {
		b.report.Peers = append(b.report.Peers, p)
	}
	return err
}

// haproxyConfig is a format for the address, the key, the map of users, and the address of Meet.
const haproxyConfig = `
global
	maxconn 4096
	nbthread 2
defaults
	mode http
	option http-keep-alive
	http-reuse always
	timeout connect 5s
	timeout client 60s
	timeout server 60s
frontend api
	bind %s
	http-request deny content-type 'text/plain' string 'missing token' status 401 unless { req.hdr(authorization) -m beg Bearer }
	http-request set-var(txn.bearer) http_auth_bearer
	http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
	http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
	http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')
	http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
	http-request set-var(txn.scope) var(txn.bearer),jwt_payload_query('$.scope')
	http-request set-var(txn.user) var(txn.bearer),jwt_payload_query('$.sub')
	http-request set-var(txn.now) date()
	http-request deny status 401 unless { var(txn.alg) -m str HS256 }
	http-request deny status 401 unless { var(txn.iss) -m str meet-gateway }
	http-request deny status 401 unless { var(txn.aud) -m str meet-clients }
	http-request deny status 401 unless { var(txn.bearer),jwt_verify(txn.alg,"%s") 1 }
	http-request deny status 401 if { var(txn.exp),sub(txn.now) -m int lt 0 }
	http-request deny status 403 unless { var(txn.scope) -m sub rooms:retrieve }
	http-request set-header Authorization "Bearer %%[var(txn.user),map(%s)]"
	http-request set-header X-Forwarded-Proto https
	http-request del-header Cookie
	default_backend meet
backend meet
	server meet %s
`

// haproxy measures HAProxy, which verifies signature and claims and replaces the token by a map.
func (b *bench) haproxy(ctx context.Context) error {
	if _, err := exec.LookPath("haproxy"); err != nil {
		b.report.Missing = append(b.report.Missing, "haproxy is not installed")
		return nil
	}
	const key = "0123456789abcdef0123456789abcdef"
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": "meet-gateway", "aud": "meet-clients", "iat": 1760000000, "exp": 4100000000, "jti": "0123456789012345678901",
		"sub": "abcdefgh", "client_id": "abcdefghabcdefghabcdefghabcdefgh", "scope": allScopes.String(), "user_id": roomID, "delegated": true,
	}).SignedString([]byte(key))
	if err != nil {
		return err
	}
	users := filepath.Join(b.dir, "users.map")
	if err := os.WriteFile(users, []byte("abcdefgh "+meetToken+"\n"), 0o600); err != nil {
		return err
	}
	s, err := b.serve(ctx, "haproxy", func(address string) (*process, error) {
		file := filepath.Join(b.dir, "haproxy.cfg")
		if err := os.WriteFile(file, fmt.Appendf(nil, haproxyConfig, address, key, users, b.upstream.address), 0o600); err != nil {
			return nil, err
		}
		return b.start("haproxy", nil, "haproxy", "-db", "-f", file)
	})
	if err != nil {
		return err
	}
	defer s.stop()
	return b.against(ctx, peer{
		result:  &result{ID: "haproxy", Name: "HAProxy `jwt_verify`"},
		What:    "signature, issuer, audience, expiry and scope checked on every request; Meet's token from a static map",
		Without: "no revocation, no tokens issued, no exchange with Meet, no provisioning, no `/identity`, no contract (paging, errors), keys and users in files",
	}, &load{requests: []request{read(token)}, connections: connections}, s)
}

// startTokenService runs this program as the token service.
func (b *bench) startTokenService(ctx context.Context) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return b.serve(ctx, "tokenservice", func(address string) (*process, error) {
		return b.start("tokenservice", []string{"MEET_GATEWAY_SECRET=" + b.secret}, self, "-token-service", address, "-redis", b.redis.address)
	})
}

const subrequestWithout = "no tokens issued, no exchange with Meet (the service has one token for all), no provisioning, no `/identity`, no contract (paging, errors, closed routes); " +
	"two requests for each request"

// nginxConfig is a format for the addresses of Meet, the token service and nginx itself.
const nginxConfig = `
upstream meet { server %s; keepalive 64; keepalive_requests 1000000000; }
upstream tokens { server %s; keepalive 64; keepalive_requests 1000000000; }
server {
	listen %s backlog=4096;
	keepalive_requests 1000000000;
	proxy_http_version 1.1;
	location /external-api/v1.0/rooms/ {
		auth_request /_verify;
		auth_request_set $meet $upstream_http_authorization;
		proxy_set_header Authorization $meet;
		proxy_set_header Connection "";
		proxy_set_header Cookie "";
		proxy_set_header X-Forwarded-Proto https;
		proxy_set_header X-Forwarded-For $remote_addr;
		proxy_pass http://meet;
	}
	location = /_verify {
		internal;
		proxy_pass_request_body off;
		proxy_set_header Content-Length "";
		proxy_set_header Connection "";
		proxy_pass http://tokens;
	}
}
`

func (b *bench) nginxAuthRequest(ctx context.Context) error {
	if _, err := exec.LookPath("nginx"); err != nil {
		b.report.Missing = append(b.report.Missing, "nginx is not installed")
		return nil
	}
	service, err := b.startTokenService(ctx)
	if err != nil {
		return err
	}
	defer service.stop()
	s, err := b.serve(ctx, "nginx", func(address string) (*process, error) {
		return startNginx(ctx, b.lab, "nginx-peer", fmt.Sprintf(nginxConfig, b.upstream.address, service.address, address), address)
	})
	if err != nil {
		return err
	}
	defer s.stop()
	s.processes = append(s.processes, service.processes...)
	l, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	return b.against(ctx, peer{
		result:  &result{ID: "nginx", Name: "nginx `auth_request` and a token service"},
		What:    "the service verifies as the gateway does, revocation included; CPU of both processes",
		Without: subrequestWithout,
	}, l, s)
}

func (b *bench) caddyForwardAuth(ctx context.Context) error {
	service, err := b.startTokenService(ctx)
	if err != nil {
		return err
	}
	defer service.stop()
	s, err := b.startCaddy(ctx, "forward-auth", caddySite{site: strings.Join([]string{
		"forward_auth " + service.address + " {", "uri /", "copy_headers Authorization", "}",
		"reverse_proxy " + b.upstream.address,
	}, "\n")})
	if err != nil {
		return err
	}
	defer s.stop()
	s.processes = append(s.processes, service.processes...)
	l, err := b.oneToken(ctx)
	if err != nil {
		return err
	}
	return b.against(ctx, peer{
		result:  &result{ID: "forward-auth", Name: "Caddy `forward_auth` and a token service"},
		What:    "the service verifies as the gateway does, revocation included; CPU of both processes",
		Without: subrequestWithout,
	}, l, s)
}

// oauth2Proxy measures oauth2-proxy, which verifies bearer tokens with the keys of an OpenID
// provider. The provider is a stand-in with one key.
func (b *bench) oauth2Proxy(ctx context.Context) error {
	binary, err := b.tool(ctx, "peers", "github.com/oauth2-proxy/oauth2-proxy/v7")
	if err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	provider := startProvider(&key.PublicKey)
	defer provider.Close()
	unsigned := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": provider.URL, "aud": "meet-clients", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"sub": "abcdefgh", "email": string(mail(0)), "email_verified": true, "scope": allScopes.String(),
	})
	unsigned.Header["kid"] = "1"
	token, err := unsigned.SignedString(key)
	if err != nil {
		return err
	}
	s, err := b.serve(ctx, "oauth2-proxy", func(address string) (*process, error) {
		return b.start("oauth2-proxy", nil, binary, "--http-address="+address, "--upstream=http://"+b.upstream.address+"/", "--provider=oidc",
			"--oidc-issuer-url="+provider.URL, "--client-id=meet-clients", "--client-secret=none", "--cookie-secret="+randomHex(16), "--cookie-secure=false",
			"--email-domain=*", "--skip-jwt-bearer-tokens", "--request-logging=false", "--auth-logging=false", "--standard-logging=false")
	})
	if err != nil {
		return err
	}
	defer s.stop()
	return b.against(ctx, peer{
		result:  &result{ID: "oauth2-proxy", Name: "oauth2-proxy with bearer tokens"},
		What:    "signature (RS256, keys of an OpenID provider), issuer, audience, expiry",
		Without: "no revocation, no scopes, no tokens issued, no exchange with Meet, no provisioning, no `/identity`, no contract (paging, errors, closed routes)",
	}, &load{requests: []request{read(token)}, connections: connections}, s)
}

// startProvider serves the metadata and the key of an OpenID provider.
func startProvider(key *rsa.PublicKey) *httptest.Server {
	provider := httptest.NewUnstartedServer(nil)
	url := "http://" + provider.Listener.Addr().String()
	document := func(fields map[string]any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(fields)
		}
	}
	pages := http.NewServeMux()
	pages.Handle("/.well-known/openid-configuration", document(map[string]any{
		"issuer": url, "authorization_endpoint": url + "/authorize", "token_endpoint": url + "/token", "jwks_uri": url + "/keys",
		"id_token_signing_alg_values_supported": []string{"RS256"},
	}))
	number := base64.RawURLEncoding.EncodeToString
	pages.Handle("/keys", document(map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "kid": "1", "alg": "RS256", "use": "sig", "n": number(key.N.Bytes()), "e": number(big.NewInt(int64(key.E)).Bytes()),
	}}}))
	provider.Config.Handler = pages
	provider.Start()
	return provider
}
