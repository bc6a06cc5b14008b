// SPDX-License-Identifier: MIT

package tests

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/tests/child"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
)

// A Caddy built by xcaddy serves the configurations of README and docs, as Caddyfile and as JSON.
// MEET_GATEWAY_CADDY is that Caddy, which .ci/deploy-check builds.
func TestRelease_XcaddyBuild(t *testing.T) {
	caddy := os.Getenv("MEET_GATEWAY_CADDY")
	if caddy == "" {
		t.Skip("make deploy-check builds a Caddy with xcaddy and runs this")
	}
	in := newInstallation(t, "ada@example.com")
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("0123456789-0123456789-0123456789-abc"), 0o600))
	for form, language := range map[string]string{"README.md": "caddyfile", "caddyfile.md": "json"} {
		t.Run(language, func(t *testing.T) {
			config := ""
			for _, b := range documented(t) {
				if b.file == form && b.language == language && strings.Contains(b.text, "meet.internal") {
					config = b.text
					break
				}
			}
			site, plain, admin := claimPort(t), claimPort(t), claimPort(t)
			for old, with := range map[string]map[string]string{
				"/run/secrets/meet_gateway":                            {"caddyfile": secret, "json": secret},
				"api.meet.example.org":                                 {"caddyfile": "http://" + site.Addr(), "json": "127.0.0.1"},
				"https://meet.internal":                                {"caddyfile": "http://" + in.meet.Address},
				"meet.internal:443":                                    {"json": in.meet.Address},
				`,` + "\n" + `                              "tls": {}`: {"json": ""},
				"http://, https://":                                    {"caddyfile": "http://:" + strings.Split(site.Addr(), ":")[1]},
				`":80"`:                                                {"json": `"` + plain.Addr() + `"`},
				`"listen":`:                                            {"json": `"automatic_https": {"disable": true}, "listen":`},
				`":443"`:                                               {"json": `"` + site.Addr() + `"`},
				`,` + "\n" + `          "tls_connection_policies": [` + "\n            {}\n          ]": {"json": ""},
			} {
				if with, here := with[language]; here {
					require.Contains(t, config, old)
					config = strings.Replace(config, old, with, 1)
				}
			}
			file := filepath.Join(t.TempDir(), "config")
			require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
			args := []string{"run", "--config", file}
			if language == "caddyfile" {
				args = append(args, "--adapter", "caddyfile")
			}
			out, home := new(output), t.TempDir()
			cmd := exec.Command(caddy, args...)
			cmd.Env = []string{
				"HOME=" + home, "XDG_DATA_HOME=" + home, "XDG_CONFIG_HOME=" + home, "PATH=" + os.Getenv("PATH"), "CADDY_ADMIN=" + admin.Addr(),
				"REDIS_URL=" + in.redis.URL(), "MEET_CLIENT_ID=" + gatewaytest.MeetClientID, "MEET_CLIENT_SECRET=" + gatewaytest.MeetClientSecret,
			}
			cmd.Stdout, cmd.Stderr = out, out
			process, err := child.Start(cmd)
			require.NoError(t, err)
			t.Cleanup(process.Terminate)
			g := &member{installation: in, site: site, admin: admin}
			client := &http.Client{Timeout: 20 * time.Second}
			require.Eventually(t, func() bool {
				status, _, _ := call(client, http.MethodGet, "http://"+admin.Addr()+"/meet-gateway/health/ready", "", "")
				return status == http.StatusOK || !process.Running()
			}, time.Minute, 20*time.Millisecond)
			require.True(t, process.Running(), out.String())

			id, key := g.application("Calendar")
			status, answer, text := call(client, http.MethodPost, g.url()+tokenPath, "", gatewaytest.TokenBody(id, key, "ada@example.com"))
			require.Equal(t, http.StatusOK, status, text)
			token, _ := answer["access_token"].(string)
			status, _, text = call(client, http.MethodPost, g.url()+"/rooms/", token, "{}")
			require.Equal(t, http.StatusCreated, status, text)
			other, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url()+"/rooms/", nil)
			require.NoError(t, err)
			other.Host = "other.example"
			res, err := client.Do(other)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, http.StatusMisdirectedRequest, res.StatusCode, "a health check by address fails without a site")
		})
	}
}
