// SPDX-License-Identifier: MIT

package tests

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/child"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// The documented proxies pass on the caller's address and the URL it used, and drop forwarding
// headers of the caller.
func TestProxies_AsDocumented(t *testing.T) {
	docs, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	block := func(language string) string {
		found := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(docs)
		require.NotNil(t, found, language)
		return string(found[1])
	}
	// The proxy calls from another address than the caller, which also uses loopback.
	const proxy = "127.0.0.2"
	for name, start := range map[string]func(t *testing.T, gateway string) string{
		"nginx": func(t *testing.T, gateway string) string {
			address, certificate, key := claimProxy(t)
			location := strings.Replace(block("nginx"), "127.0.0.1:8080;", gateway+";\n\tproxy_bind "+proxy+";", 1)
			dir := t.TempDir()
			runProxy(t, address, fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	server {
		listen %[2]s ssl; ssl_certificate %[3]s; ssl_certificate_key %[4]s;
		%[5]s
	}
}`, dir, address, certificate, key, location), "nginx", "-e", "stderr", "-p", dir, "-c")
			return address
		},
		"haproxy": func(t *testing.T, gateway string) string {
			address, certificate, key := claimProxy(t)
			both := filepath.Join(t.TempDir(), "both.pem")
			var pem []byte
			for _, file := range []string{certificate, key} {
				part, err := os.ReadFile(file)
				require.NoError(t, err)
				pem = append(pem, part...)
			}
			require.NoError(t, os.WriteFile(both, pem, 0o600))
			backend := strings.Replace(block("haproxy"), "127.0.0.1:8080", gateway+" source "+proxy, 1)
			runProxy(t, address, "defaults\n\ttimeout connect 5s\n\ttimeout client 20s\n\ttimeout server 20s\nfrontend f\n\tmode http\n\tbind "+address+" ssl crt "+both+
				"\n\tdefault_backend gateway\n"+backend, "haproxy", "-f")
			return address
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := gatewaytest.Start(t, gatewaytest.Config{Servers: "trusted_proxies static " + proxy + "\ntrusted_proxies_strict"})
			within := func(network string) *gatewaytest.Client {
				return g.AddApplication(func(a *tokens.Application) { a.Networks = []netip.Prefix{netip.MustParsePrefix(network)} })
			}
			true127, false203 := within("127.0.0.1/32"), within("203.0.113.0/24")
			address := start(t, strings.TrimPrefix(g.URL, "http://"))
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
			t.Cleanup(client.CloseIdleConnections)
			ask := func(method, path, body string) (int, map[string]any) {
				r, err := http.NewRequestWithContext(t.Context(), method, "https://"+address+path, strings.NewReader(body))
				require.NoError(t, err)
				for header, value := range map[string]string{
					"Content-Type": jsonType, "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example",
					"X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/evil",
				} {
					r.Header.Set(header, value)
				}
				res, err := client.Do(r)
				require.NoError(t, err)
				defer res.Body.Close()
				read, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				var object map[string]any
				require.NoError(t, json.Unmarshal(read, &object), string(read))
				return res.StatusCode, object
			}
			status, _ := ask("POST", tokenPath, gatewaytest.TokenBody(true127.ID, true127.Secret, "ada@example.org"))
			require.Equal(t, 200, status)
			status, _ = ask("POST", tokenPath, gatewaytest.TokenBody(false203.ID, false203.Secret, "ada@example.org"))
			require.Equal(t, 403, status, "the address in the caller's header")
			_, metadata := ask("GET", "/external-api/v1.0/.well-known/oauth-authorization-server", "")
			require.Equal(t, "https://"+address+"/external-api/v1.0", metadata["issuer"])
		})
	}
}

func claimProxy(t *testing.T) (address, certificate, key string) {
	t.Helper()
	claim, err := child.ClaimPort()
	require.NoError(t, err)
	t.Cleanup(claim.Release)
	certificate, key, _ = selfSigned(t)
	return claim.Addr(), certificate, key
}

// runProxy starts a proxy with a configuration, whose file is its last argument.
func runProxy(t *testing.T, address, config, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	require.NoError(t, err, "install it with .ci/install")
	file := filepath.Join(t.TempDir(), name+".conf")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	out := new(output)
	cmd := exec.Command(path, append(args, file)...)
	cmd.Stdout, cmd.Stderr = out, out
	process, err := child.Start(cmd)
	require.NoError(t, err)
	t.Cleanup(process.Terminate)
	require.Eventually(t, func() bool {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			_ = conn.Close()
		}
		return err == nil || !process.Running()
	}, 20*time.Second, 20*time.Millisecond)
	require.True(t, process.Running(), out.String())
}
