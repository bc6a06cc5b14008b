// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// peer is what one could use instead of the gateway, and what it leaves undone.
type peer struct {
	*result
	What    string
	Without string
}

func (b *bench) peers(ctx context.Context) error {
	for _, run := range []func(context.Context) error{b.haproxy, b.nginxAuthRequest, b.caddyForwardAuth} {
		if err := run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// against measures a peer against plain Caddy, as all cases are.
func (b *bench) against(ctx context.Context, p peer, l *load, s *server) error {
	cases := b.report.Cases
	p.A, p.B = "plain", "peer"
	err := b.compare(ctx, p.result, b.s.fewer(), on(l, b.plain), on(l, s))
	b.report.Cases = cases
	if err == nil && p.Pairs != nil {
		b.report.Peers = append(b.report.Peers, p)
	}
	return err
}

// haproxyConfig takes the address, the key, the map of users, and the address of Meet.
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

// haproxy verifies the signature and the claims and swaps the token by a map.
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
	s := &server{name: "haproxy"}
	if s.address, err = freeAddress(); err != nil {
		return err
	}
	config := fmt.Sprintf(haproxyConfig, s.address, key, users, b.upstream.address)
	file := filepath.Join(b.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	p, err := b.start("haproxy", nil, "haproxy", "-db", "-f", file)
	if err != nil {
		return err
	}
	defer p.stop()
	s.processes = []*process{p}
	if err := p.listening(ctx, s.address); err != nil {
		return err
	}
	return b.against(ctx, peer{
		result:  &result{ID: "haproxy", Name: "HAProxy `jwt_verify`"},
		What:    "signature, issuer, audience, expiry and scope checked on every request; Meet's token out of a static map",
		Without: "no revocation, no tokens issued, no exchange with Meet, no provisioning, no `/identity`, no contract (paging, errors), keys and users in files",
	}, &load{requests: []request{read(token)}, connections: connections}, s)
}

// startTokenService runs this program as the token service.
func (b *bench) startTokenService(ctx context.Context) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	p, err := b.start("tokenservice", []string{"MEET_GATEWAY_SECRET=" + b.secret}, self, "-token-service", address, "-redis", b.redis.address)
	if err != nil {
		return nil, "", err
	}
	return p, address, p.listening(ctx, address)
}

const subrequestWithout = "no tokens issued, no exchange with Meet (the service has one token for all), no provisioning, no `/identity`, no contract (paging, errors, closed routes); " +
	"every request is two"

func (b *bench) nginxAuthRequest(ctx context.Context) error {
	if _, err := exec.LookPath("nginx"); err != nil {
		b.report.Missing = append(b.report.Missing, "nginx is not installed")
		return nil
	}
	service, address, err := b.startTokenService(ctx)
	if err != nil {
		return err
	}
	defer service.stop()
	s := &server{name: "nginx"}
	if s.address, err = freeAddress(); err != nil {
		return err
	}
	config := fmt.Sprintf(`
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
`, b.upstream.address, address, s.address)
	p, err := startNginx(ctx, b.lab, "nginx-peer", config, s.address)
	if err != nil {
		return err
	}
	defer p.stop()
	s.processes = []*process{p, service}
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
	service, address, err := b.startTokenService(ctx)
	if err != nil {
		return err
	}
	defer service.stop()
	s, err := b.startCaddy(ctx, "forward-auth", caddySite{site: strings.Join([]string{
		"forward_auth " + address + " {", "uri /", "copy_headers Authorization", "}",
		"reverse_proxy " + b.upstream.address,
	}, "\n")})
	if err != nil {
		return err
	}
	defer s.stop()
	s.processes = append(s.processes, service)
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
