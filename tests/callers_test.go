// SPDX-License-Identifier: MIT

package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
	"github.com/meet-gateway/meet-gateway/tests/gatewaytest"
	"github.com/meet-gateway/meet-gateway/tokens"
)

// caller is a real client: the requests that it sends, and the parts of each response
// that it uses.
type caller struct {
	Client   string `json:"client"`
	Where    string `json:"where"`
	ReliesOn string `json:"relies_on"`
	// Gate holds the options that the client needs.
	Gate []string `json:"gate"`
	Meet struct {
		// BaseURL is the base of Meet's room URLs. Default: as recorded.
		BaseURL *string `json:"base_url"`
		// SlugCollisions is how many creations fail over a slug that is taken.
		SlugCollisions int `json:"slug_collisions"`
		// ForeignToken is a token of Meet's identity provider.
		ForeignToken string `json:"foreign_token"`
	} `json:"meet"`
	Exchanges []struct {
		About   string `json:"about"`
		Request struct {
			Method  string            `json:"method"`
			Path    string            `json:"path"`
			Headers map[string]string `json:"headers"`
			Body    *string           `json:"body"`
		} `json:"request"`
		Answer struct {
			Status   int               `json:"status"`
			Needs    map[string]string `json:"needs"`
			Contains string            `json:"contains"`
		} `json:"answer"`
		// TokenLives checks that the token is valid until expires_in has passed.
		TokenLives bool `json:"token_lives"`
	} `json:"exchanges"`
}

func TestCallers(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "callers", "*.json"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 11)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			var c caller
			decoder := json.NewDecoder(bytes.NewReader(content))
			decoder.DisallowUnknownFields()
			require.NoError(t, decoder.Decode(&c))
			require.NotEmpty(t, c.ReliesOn)
			c.replay(t)
		})
	}
}

func (c *caller) replay(t *testing.T) {
	meet := gatewaytest.StartMeet(t, c.settings(), c.faults)
	meet.AddUser(sandbox.User{ID: "a11ce000-0000-4000-8000-00000000000a", Sub: "alice", Email: "alice@example.com", Active: true})
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: meet.Backend() + "\n" + strings.Join(c.Gate, "\n")})
	app := g.AddApplication(func(a *tokens.Application) { a.Domains = []string{"example.com"} })
	known := map[string]string{
		"client_id": app.ID, "client_secret": app.Secret, "basic": basicOf(app.ID, app.Secret),
		"mail": "alice@example.com", "unknown": "nobody@example.com",
	}
	for i, exchange := range c.Exchanges {
		at := fmt.Sprintf("%d: %s", i+1, exchange.About)
		var body io.Reader
		if exchange.Request.Body != nil {
			body = strings.NewReader(filled(*exchange.Request.Body, known))
		}
		r, err := http.NewRequestWithContext(t.Context(), exchange.Request.Method, g.Base()+filled(exchange.Request.Path, known), body)
		require.NoError(t, err)
		for name, value := range exchange.Request.Headers {
			r.Header.Set(name, filled(value, known))
		}
		a := g.Send(r)
		require.Equal(t, exchange.Answer.Status, a.Status, "%s: %s", at, a.Body)
		require.Equal(t, jsonType, a.Header.Get("Content-Type"), at)
		require.Contains(t, a.Body, exchange.Answer.Contains, at)
		object := a.JSON(t)
		for name, kind := range exchange.Answer.Needs {
			require.NoError(t, is(object, name, kind), "%s: %s", at, a.Body)
		}
		for name, as := range map[string]string{"access_token": "token", "token_type": "token_type", "id": "id"} {
			if text, ok := object[name].(string); ok {
				known[as] = text
			}
		}
		if exchange.TokenLives {
			identity := g.Do(http.MethodGet, base+"/identity", "", "Authorization", gatewaytest.Bearer(known["token"])).JSON(t)
			left := identity["payload"].(map[string]any)["valid_until"].(float64)
			require.Greater(t, left, object["expires_in"].(float64)-30, at)
		}
	}
}

func (c *caller) settings() sandbox.Settings {
	s := sandbox.Production()
	if c.Meet.BaseURL != nil {
		s.BaseURL = *c.Meet.BaseURL
	}
	if c.Meet.ForeignToken != "" {
		s.ResourceServer = sandbox.ResourceServer{
			Mode: sandbox.ResourceServerActive,
			Tokens: map[string]sandbox.ForeignToken{c.Meet.ForeignToken: {
				Sub: "alice", ClientID: "agent", Issuer: sandbox.ForeignIssuer, Scope: "lasuite_meet rooms:create",
			}},
		}
	}
	return s
}

// faults makes Meet refuse some creations because of their slugs, which Meet checks
// before it queries the database.
func (c *caller) faults(meet http.Handler) http.Handler {
	left := c.Meet.SlugCollisions
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if left > 0 && r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/rooms/") {
			left--
			w.Header().Set("Content-Type", jsonType)
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"slug":["Room with this Slug already exists."]}`)
			return
		}
		meet.ServeHTTP(w, r)
	})
}

var placeholder = regexp.MustCompile(`\{([a-z_]+)\}`)

// filled inserts the values that are known so far.
func filled(text string, known map[string]string) string {
	return placeholder.ReplaceAllStringFunc(text, func(name string) string {
		if value, ok := known[strings.Trim(name, "{}")]; ok {
			return value
		}
		return name
	})
}

var isUUID = regexp.MustCompile(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

// is checks that a response field has the form that the client needs.
func is(object map[string]any, name, kind string) error {
	value, there := object[name]
	text, isText := value.(string)
	var ok bool
	switch literal, isLiteral := strings.CutPrefix(kind, "="); {
	case isLiteral:
		ok = text == literal
	case kind == "absent":
		ok = !there
	case kind == "string":
		ok = text != ""
	case kind == "uuid":
		ok = isUUID.MatchString(text)
	case kind == "url":
		u, err := url.Parse(text)
		ok = isText && err == nil && u.Scheme == "https" && u.Host != "" && u.Path != ""
	case kind == "null":
		ok = there && value == nil
	case kind == "number":
		_, ok = value.(float64)
	case kind == "list":
		_, ok = value.([]any)
	case kind == "object":
		_, ok = value.(map[string]any)
	}
	if !ok {
		return fmt.Errorf("%s is not %s", name, kind)
	}
	return nil
}

func TestCallers_NeedsCanFail(t *testing.T) {
	object := map[string]any{"text": "x", "empty": "", "number": 1.0, "null": nil, "relative": "/x"}
	for name, kinds := range map[string][]string{
		"text":     {"absent", "uuid", "url", "null", "number", "list", "object", "=y", "never heard of"},
		"empty":    {"string", "absent"},
		"number":   {"string", "=1"},
		"null":     {"string", "absent", "number"},
		"relative": {"url"},
		"missing":  {"string", "null", "=x"},
	} {
		for _, kind := range kinds {
			require.Error(t, is(object, name, kind), "%s %s", name, kind)
		}
	}
}

// Go's OAuth client works with every authentication style, with its token cache and with
// refresh tokens.
func TestCallers_GoOAuth2(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{})
	app := g.AddApplication(refreshing)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ctx = context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: gatewaytest.Judged})
	for name, style := range map[string]oauth2.AuthStyle{
		"auto": oauth2.AuthStyleAutoDetect, "params": oauth2.AuthStyleInParams, "header": oauth2.AuthStyleInHeader,
	} {
		config := clientcredentials.Config{
			ClientID: app.ID, ClientSecret: app.Secret, TokenURL: g.Base() + "/application/token", Scopes: []string{"ada@example.org"}, AuthStyle: style,
		}
		source := config.TokenSource(ctx)
		first, err := source.Token()
		require.NoError(t, err, name)
		require.InDelta(t, time.Hour, time.Until(first.Expiry), float64(time.Minute), name)
		again, err := source.Token()
		require.NoError(t, err, name)
		require.Equal(t, first.AccessToken, again.AccessToken, name)

		res, err := oauth2.NewClient(ctx, source).Post(g.Base()+"/rooms", jsonType, strings.NewReader("{}"))
		require.NoError(t, err, name)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusCreated, res.StatusCode, name)

		flow := oauth2.Config{ClientID: app.ID, ClientSecret: app.Secret, Endpoint: oauth2.Endpoint{TokenURL: config.TokenURL, AuthStyle: style}}
		renewed, err := flow.TokenSource(ctx, &oauth2.Token{RefreshToken: first.RefreshToken, Expiry: time.Now().Add(-time.Hour)}).Token()
		require.NoError(t, err, name)
		require.NotEqual(t, first.AccessToken, renewed.AccessToken, name)
		require.NotEqual(t, first.RefreshToken, renewed.RefreshToken, name)
	}
}

// curl -L turns a redirected POST into a GET, so the gateway must not redirect.
func TestCallers_Curl(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Config{Gate: "base_path /external-api/v1.0 /\nbackend sandbox"})
	app := g.AddApplication(nil)
	for _, root := range []string{g.URL, g.Base()} {
		for _, slash := range []string{"", "/"} {
			at := root + slash
			status, body := curl(t, root+"/application/token"+slash, "-H", "Content-Type: application/json", "-d", gatewaytest.TokenBody(app.ID, app.Secret, "ada@example.org"))
			require.Equal(t, "200 redirects=0", status, at)
			token := jsonText(t, body, "access_token")

			// As a form, which is curl's default, with Basic.
			status, body = curl(t, root+"/application/token"+slash, "-u", app.ID+":"+app.Secret, "-d", "grant_type=client_credentials", "--data-urlencode", "scope=ada@example.org")
			require.Equal(t, "200 redirects=0", status, at+body)

			status, body = curl(t, root+"/rooms"+slash, "-X", "POST", "-H", "Authorization: Bearer "+token)
			require.Equal(t, "201 redirects=0", status, at)
			id := jsonText(t, body, "id")
			for _, path := range []string{"/rooms", "/rooms/" + id, "/identity", "/identity/source"} {
				status, body = curl(t, root+path+slash, "-H", "Authorization: Bearer "+token)
				require.Equal(t, "200 redirects=0", status, at+path)
				require.Contains(t, body, "{", path)
			}
			status, _ = curl(t, root+"/identity"+slash, "-u", app.ID+":"+app.Secret)
			require.Equal(t, "200 redirects=0", status, at)
		}
	}
}

// curl runs the real curl and returns the status, the number of redirects, and the
// body.
func curl(t *testing.T, address string, args ...string) (status, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	args = slices.Concat([]string{"-sS", "-L", "--noproxy", "*", "-w", "\n%{http_code} redirects=%{num_redirects}"}, args, []string{address})
	cmd := exec.CommandContext(ctx, "curl", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	i := bytes.LastIndexByte(out, '\n')
	return string(out[i+1:]), string(out[:i])
}

func jsonText(t *testing.T, body, name string) string {
	t.Helper()
	var object map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &object), body)
	text, _ := object[name].(string)
	require.NotEmpty(t, text, body)
	return text
}
