// SPDX-License-Identifier: MIT

package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
)

// callTimeout bounds a call. The gateway waits for Redis for a shorter time.
const callTimeout = 30 * time.Second

// errUnreachable means that no gateway answered.
var errUnreachable = errors.New("no gateway answers")

// client is a client of a gateway's admin API. caddycmd.AdminAPIRequest hides status and
// headers of answers.
type client struct {
	address string
	origin  string
	socket  bool
	http    *http.Client
}

func newClient(cmd *cobra.Command) (*client, error) {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	var config []byte
	if name := flags.String("config"); name != "" && flags.String("address") == "" {
		var err error
		if config, err = adapted(name, flags.String("adapter")); err != nil {
			return nil, fmt.Errorf("finding the admin endpoint: %w", err)
		}
	}
	address, err := caddycmd.DetermineAdminAPIAddress(flags.String("address"), config, flags.String("config"), "")
	if err != nil {
		return nil, fmt.Errorf("finding the admin endpoint: %w", err)
	}
	return dial(address)
}

// adapted reads a configuration file like Caddy, but without Caddy's log lines.
func adapted(name, adapter string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	base := filepath.Base(name)
	if adapter == "" && (strings.HasPrefix(base, "Caddyfile") || strings.HasSuffix(base, ".caddyfile")) {
		adapter = "caddyfile"
	}
	if adapter == "" {
		return text, nil
	}
	a := caddyconfig.GetAdapter(adapter)
	if a == nil {
		return nil, fmt.Errorf("unknown adapter %q", adapter)
	}
	config, _, err := a.Adapt(text, map[string]any{"filename": name})
	if err != nil {
		return nil, fmt.Errorf("adapting %s: %w", name, err)
	}
	return config, nil
}

func dial(address string) (*client, error) {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil || parsed.PortRangeSize() > 1 {
		return nil, fmt.Errorf("%q is not an admin address; write host:port or unix//path", address)
	}
	a := &client{address: address, origin: "http://" + parsed.JoinHostPort(0)}
	if parsed.IsUnixNetwork() {
		// The address may end in permission bits, as in unix//path|0220.
		parsed.Host, _, _ = strings.Cut(parsed.Host, "|")
		a.socket, a.origin = true, "http://127.0.0.1"
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	a.http = &http.Client{
		Transport: &http.Transport{
			// Not through a proxy, because answers contain secrets.
			Proxy: nil,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, parsed.Network, parsed.JoinHostPort(0))
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a, nil
}

// request is a call. Only method and path are required.
type request struct {
	method, path string
	query        url.Values
	body         any // an io.Reader, or a value to encode as JSON
	ifMatch      string
	slow         bool // not bounded by callTimeout
}

// do calls the gateway. The caller closes the body. It returns errUnreachable, a
// *wire.Problem, or another error.
func (a *client) do(ctx context.Context, in request) (*http.Response, error) {
	body, ok := in.body.(io.Reader)
	if in.body != nil && !ok {
		b, err := json.Marshal(in.body)
		if err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	target := a.origin + wire.Base + in.path
	if len(in.query) > 0 {
		target += "?" + in.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, in.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if in.ifMatch != "" {
		req.Header.Set("If-Match", in.ifMatch)
	}
	if !a.socket {
		req.Header.Set("Origin", a.origin) // Caddy checks it
	}
	req.Header.Set(wire.UserHeader, systemUser())
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, a.unreachable(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		return nil, a.refusal(resp)
	}
	return resp, nil
}

// call is do that reads the whole answer.
func (a *client) call(ctx context.Context, in request) ([]byte, http.Header, error) {
	if !in.slow {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	resp, err := a.do(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the answer of the gateway: %w", err)
	}
	return body, resp.Header, nil
}

// get is call with GET that decodes the answer.
func (a *client) get(ctx context.Context, path string, query url.Values, into any) ([]byte, error) {
	body, _, err := a.call(ctx, request{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return nil, err
	}
	return body, decodeAnswer(body, into)
}

func decodeAnswer(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the answer cannot be read; do the gateway and this command have different versions? %w", err)
	}
	return nil
}

func (a *client) unreachable(err error) error {
	cause := err
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		cause = urlErr.Err
	}
	return &advised{
		fmt.Errorf("%w at %s: %w", errUnreachable, a.address, cause),
		"Is it running? If its admin endpoint is elsewhere, use --address (host:port, or unix//path)\n" +
			"or --config with its configuration",
	}
}

// refusal converts an error answer, which is a problem or an error of Caddy.
func (a *client) refusal(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // use what was received
	elsewhere := resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMisdirectedRequest
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch kind {
	case "application/problem+json":
		p := new(wire.Problem)
		if json.Unmarshal(body, p) == nil && p.Status != 0 {
			return p
		}
	case "application/json":
		if elsewhere {
			break
		}
		var caddyError struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(body, &caddyError) == nil && caddyError.Error != "" {
			return fmt.Errorf("the admin endpoint at %s refused: %s", a.address, caddyError.Error)
		}
	}
	if elsewhere {
		return &advised{
			fmt.Errorf("%s is not the admin endpoint of a gateway (%d); it may be the port of the API", a.address, resp.StatusCode),
			"The admin endpoint is set by CADDY_ADMIN or the option admin, by default localhost:2019; give it with --address",
		}
	}
	return fmt.Errorf("%s answered %s", a.address, resp.Status)
}

// systemUser is the user who runs the command, for the audit log.
func systemUser() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if by := os.Getenv("SUDO_USER"); by != "" {
		name += " (sudo by " + by + ")"
	}
	return wire.Printable(name, 64)
}
