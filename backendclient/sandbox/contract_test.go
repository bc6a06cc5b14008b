// SPDX-License-Identifier: MIT

package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/meet-gateway/meet-gateway/backendclient/sandbox"
)

// leftOut lists the recorded lines that the sandbox answers differently, with the reason. A
// line that passes must not be listed.
var leftOut = map[string]string{
	"list-full-width":         "Python reads digits of any script as a page number; a gateway sends its own digits",
	"create-multipart-nested": "an accident of the parser for nested form fields; a gateway sends JSON",
}

// direct lists the lines that net/http's server refuses with its own 400 before a handler sees
// them. For these, the handler is called without a server.
var direct = map[string]string{
	"host-missing":  "no Host header in HTTP/1.1",
	"host-userinfo": "malformed Host header",
	"host-comma":    "malformed Host header",
	"any-host-bad":  "malformed Host header",
}

// ownAddress stands for the address that the backend's own host name resolves to.
const ownAddress = "192.0.2.7"

// TestContract replays the recording, variant by variant from fresh fixtures.
func TestContract(t *testing.T) {
	header, lines := readRecording(t)
	replayed := map[string]bool{}
	var variants []string
	for _, l := range lines {
		if !slices.Contains(variants, l.Variant) {
			variants = append(variants, l.Variant)
		}
	}
	for _, variant := range variants {
		t.Run(variant, func(t *testing.T) {
			p := newPlayer(t, header, variant)
			for _, l := range lines {
				if l.Variant != variant {
					continue
				}
				replayed[l.ID] = true
				t.Run(l.ID, func(t *testing.T) {
					faults := p.play(t, l)
					reason, left := leftOut[l.ID]
					switch {
					case left && len(faults) == 0:
						t.Errorf("passes, but is left out: %s", reason)
					case left && l.Level == "core":
						t.Error("a line of level core must not be left out")
					case left:
						t.Skip(reason)
					}
					for _, f := range faults {
						t.Error(f)
					}
				})
			}
		})
	}
	for id := range leftOut {
		require.Contains(t, replayed, id, "left out, but not in the recording")
	}
	for id := range direct {
		require.Contains(t, replayed, id, "direct, but not in the recording")
	}
	require.Len(t, replayed, len(lines))
}

// player plays the lines of one variant against one sandbox.
type player struct {
	header   recordingHeader
	settings sandbox.Settings
	meet     *sandbox.Meet
	address  string
	now      time.Time
	bodies   map[string]any    // responses by line
	users    map[string]string // generated users by line
}

func newPlayer(t *testing.T, h recordingHeader, variant string) *player {
	p := &player{
		header:   h,
		settings: h.settings(t, variant),
		now:      time.Date(2026, time.September, 1, 12, 0, 0, 0, time.UTC),
		bodies:   map[string]any{},
		users:    map[string]string{},
	}
	p.meet = sandbox.New(p.settings, sandbox.WithClock(func() time.Time { return p.now }), sandbox.WithParser(exactJSON))
	p.meet.LoadFixtures()
	server := httptest.NewServer(p.meet)
	t.Cleanup(server.Close)
	p.address = server.Listener.Addr().String()
	return p
}

// play sends a line's request and returns what differs in the answer.
func (p *player) play(t *testing.T, l line) []string {
	exchanges := p.meet.Exchanges()
	var got *received
	if _, ok := direct[l.ID]; ok {
		got = p.call(t, l)
	} else {
		got = p.send(t, l.Request.Method, p.rawRequest(t, l))
	}
	c := &comparison{player: p, line: l, got: got, bound: map[string]string{}}
	for placeholder, source := range l.Uses {
		c.bound[placeholder] = p.used(t, source)
	}
	c.status()
	c.headers()
	c.framing()
	c.body()
	c.jwt()
	if h := l.PasswordHash; h != nil && *h != (p.meet.Exchanges() == exchanges+1) {
		c.fault("password_hash is %t, exchanges went from %d to %d", *h, exchanges, p.meet.Exchanges())
	}
	return c.faults
}

// used returns the value that "id in the response body of LINE" names.
func (p *player) used(t *testing.T, source string) string {
	id, ok := strings.CutPrefix(source, "id in the response body of ")
	require.True(t, ok, source)
	body, ok := p.bodies[id].(map[string]any)
	require.True(t, ok, "no body of %s", id)
	return body["id"].(string)
}

// expand fills the placeholders of a request.
func (p *player) expand(t *testing.T, l line, text string) string {
	text = repeat.ReplaceAllStringFunc(text, func(s string) string {
		m := repeat.FindStringSubmatch(s)
		n, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		return strings.Repeat(m[1], n)
	})
	text = strings.ReplaceAll(text, "<own-address>", ownAddress)
	for placeholder, source := range l.Uses {
		text = strings.ReplaceAll(text, placeholder, p.used(t, source))
	}
	for name, tok := range l.Tokens {
		if strings.Contains(text, name) {
			text = strings.ReplaceAll(text, name, p.token(t, tok))
		}
	}
	require.NotContains(t, text, "<token:")
	return text
}

var repeat = regexp.MustCompile(`<rep:(.+?):(\d+)>`)

// headerLines returns the header as it goes over the wire, one line each.
func (p *player) headerLines(t *testing.T, l line) [][2]string {
	var lines [][2]string
	for name, value := range l.Request.Headers {
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		for _, v := range list {
			lines = append(lines, [2]string{name, latin1(p.expand(t, l, v.(string)))})
		}
	}
	return lines
}

// latin1 returns the bytes of a recorded text, in which each rune stands for one byte.
func latin1(text string) string {
	b := make([]byte, 0, len(text))
	for _, r := range text {
		b = append(b, byte(r))
	}
	return string(b)
}

func (p *player) requestBody(t *testing.T, l line) (body []byte, sent bool) {
	switch {
	case l.Request.BodyBase64 != nil:
		return l.Request.BodyBase64, true
	case l.Request.Body != nil:
		return []byte(p.expand(t, l, *l.Request.Body)), true
	}
	return nil, false
}

// rawRequest writes the request as it was sent.
func (p *player) rawRequest(t *testing.T, l line) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", l.Request.Method, p.expand(t, l, l.Request.Path))
	chunked := false
	for _, h := range p.headerLines(t, l) {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
		chunked = chunked || h[0] == "Transfer-Encoding"
	}
	body, sent := p.requestBody(t, l)
	switch {
	case chunked:
		fmt.Fprintf(&b, "\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	case sent:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	default:
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

// token makes a token as the line describes it.
func (p *player) token(t *testing.T, tok token) string {
	switch {
	case tok.Value != "":
		return tok.Value
	case tok.IssuedBy != "":
		return p.issued(t, tok)
	}
	key := p.settings.JWTSecretKey
	if key == "" {
		key = sandbox.Production().JWTSecretKey
	}
	switch tok.SignedWith {
	case "fixture key":
	case "nothing":
		key = ""
	default:
		key = p.header.Signing.UnknownKey
	}
	signed := part(t, tok.Header) + "." + part(t, p.claims(t, tok.Claims))
	return signed + "." + signature(t, tok.Header["alg"].(string), key, signed)
}

func part(t *testing.T, v any) string {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return base64.RawURLEncoding.EncodeToString(b)
}

func signature(t *testing.T, algorithm, key, signed string) string {
	hashes := map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}
	if algorithm == "none" {
		return ""
	}
	require.Contains(t, hashes, algorithm)
	mac := hmac.New(hashes[algorithm], []byte(key))
	mac.Write([]byte(signed))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// claims fills the placeholders of claims.
func (p *player) claims(t *testing.T, claims map[string]any) map[string]any {
	filled := map[string]any{}
	for name, v := range claims {
		if text, ok := v.(string); ok {
			if seconds, ok := p.seconds(t, text); ok {
				v = seconds
			} else {
				v = p.expand(t, line{}, text)
			}
		}
		filled[name] = v
	}
	return filled
}

var nowPlaceholder = regexp.MustCompile(`^<now([-+][0-9.]+)?>$`)

func (p *player) seconds(t *testing.T, text string) (float64, bool) {
	m := nowPlaceholder.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	offset := 0.0
	if m[1] != "" {
		var err error
		offset, err = strconv.ParseFloat(m[1], 64)
		require.NoError(t, err)
	}
	return float64(p.now.Unix()) + offset, true
}

// issued gets a token from the token endpoint.
func (p *player) issued(t *testing.T, tok token) string {
	form := url.Values{
		"client_id":     {tok.Application},
		"client_secret": {p.header.Fixtures.Applications[tok.Application].Secret},
		"grant_type":    {"client_credentials"},
		"scope":         {tok.Scope},
	}
	r := httptest.NewRequest(http.MethodPost, "/external-api/v1.0/application/token/", strings.NewReader(form.Encode()))
	r.Host = "meet.example.org"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-Proto", "https")
	w := httptest.NewRecorder()
	p.meet.ServeHTTP(w, r)
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.NotEmpty(t, answer.AccessToken)
	return answer.AccessToken
}

// received is an answer.
type received struct {
	status  int
	header  http.Header
	body    []byte
	chunked bool
	length  string // Content-Length
	overTCP bool
	closed  bool // by the server, after the answer
}

// send writes a request and reads the answer until the server closes.
func (p *player) send(t *testing.T, method string, raw []byte) *received {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.address)
	require.NoError(t, err)
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	require.NoError(t, conn.SetDeadline(deadline))
	_, err = conn.Write(raw)
	require.NoError(t, err)

	from := bufio.NewReader(conn)
	r := &http.Request{Method: method}
	response, err := http.ReadResponse(from, r)
	require.NoError(t, err)
	if response.StatusCode == http.StatusContinue {
		response, err = http.ReadResponse(from, r)
		require.NoError(t, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	_, err = from.ReadByte()
	return &received{
		status:  response.StatusCode,
		header:  response.Header,
		body:    body,
		chunked: slices.Contains(response.TransferEncoding, "chunked"),
		length:  response.Header.Get("Content-Length"),
		overTCP: true,
		closed:  response.Close && errors.Is(err, io.EOF),
	}
}

// call gives a request to the handler without a server.
func (p *player) call(t *testing.T, l line) *received {
	r := httptest.NewRequest(l.Request.Method, l.Request.Path, nil)
	r.Host = ""
	for _, h := range p.headerLines(t, l) {
		if h[0] == "Host" {
			r.Host = h[1]
			continue
		}
		r.Header.Add(h[0], h[1])
	}
	w := httptest.NewRecorder()
	p.meet.ServeHTTP(w, r)
	return &received{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
}

// comparison compares an answer to a line.
type comparison struct {
	*player
	line   line
	got    *received
	bound  map[string]string // values of the placeholders in this line
	faults []string
}

func (c *comparison) fault(format string, values ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, values...))
}

func (c *comparison) status() {
	if c.got.status != c.line.Response.Status {
		c.fault("status is %d, recorded %d: %.300s", c.got.status, c.line.Response.Status, c.got.body)
	}
}

// headers compares all headers except those that net/http sets: the recorded ones, and the
// constant ones with their exceptions.
func (c *comparison) headers() {
	want := map[string]string{}
	for name, value := range c.line.Response.Headers {
		want[http.CanonicalHeaderKey(name)] = c.resolveText(value, c.got.header.Get(name))
	}
	maps.Copy(want, c.constantHeaders())
	got := map[string]string{}
	for name, values := range c.got.header {
		switch name {
		case "Date", "Content-Length", "Transfer-Encoding", "Connection":
		default:
			got[name] = strings.Join(values, " | ")
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		c.fault("headers (-recorded +sandbox):\n%s", d)
	}
}

// fromWebServer reports whether the page is the web server's own, which has no charset.
func (c *comparison) fromWebServer() bool {
	return c.line.Response.Headers["Content-Type"] == "text/html"
}

// constantHeaders follows constant_headers in the header file.
func (c *comparison) constantHeaders() map[string]string {
	constant := c.header.ConstantHeaders.Values
	want := map[string]string{}
	if c.fromWebServer() {
		return want
	}
	for name, value := range constant {
		if name != "Connection" { // see framing
			want[name] = value
		}
	}
	response := c.line.Response
	_, hasVary := response.Headers["Vary"]
	https := c.isHTTPS()
	if !https {
		delete(want, "Strict-Transport-Security")
	}
	if strings.HasPrefix(response.Headers["Location"], "https://") && response.Status == http.StatusMovedPermanently {
		delete(want, "X-Frame-Options")
	}
	if response.Status == http.StatusBadRequest && !hasVary && !https { // wrong Host
		for _, name := range []string{"X-Frame-Options", "X-Content-Type-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy"} {
			delete(want, name)
		}
	}
	return want
}

// isHTTPS reports whether the request counted as https.
func (c *comparison) isHTTPS() bool {
	for name, value := range c.line.Request.Headers {
		if strings.EqualFold(name, "X-Forwarded-Proto") {
			if list, ok := value.([]any); ok {
				value = list[0]
			}
			first, _, _ := strings.Cut(value.(string), ",")
			return strings.TrimSpace(first) == "https"
		}
	}
	return false
}

// framing checks how the length of the body is sent, and that the connection is closed.
func (c *comparison) framing() {
	if !c.got.overTCP {
		return
	}
	response := c.line.Response
	vary := response.Headers["Vary"]
	wrongHost := response.Status == http.StatusBadRequest && !c.fromWebServer() &&
		strings.HasPrefix(response.Headers["Content-Type"], "text/html") && !strings.HasSuffix(vary, "Cookie")
	chunked := wrongHost || response.Status == http.StatusMovedPermanently && c.line.Request.Method != http.MethodHead
	if c.got.chunked != chunked || (c.got.length != "") == chunked {
		c.fault("chunked is %t, Content-Length %q, recorded chunked %t", c.got.chunked, c.got.length, chunked)
	}
	if _, dated := c.got.header["Date"]; dated == c.fromWebServer() {
		c.fault("has a Date: %t", dated)
	}
	if !c.got.closed {
		c.fault("the connection stays open")
	}
}

func (c *comparison) body() {
	want, got := c.line.Response.Body, any(string(c.got.body))
	var parsed any
	if json.Unmarshal(c.got.body, &parsed) == nil {
		got = parsed
	} else if len(c.got.body) > 300 {
		got = string(c.got.body[:300])
	}
	if d := cmp.Diff(c.resolve(want, got), got); d != "" {
		c.fault("body (-recorded +sandbox):\n%s", d)
	}
	c.bodies[c.line.ID] = got
}

// resolve replaces each placeholder with the value in the answer if that value has the right
// form and is the same in every place.
func (c *comparison) resolve(want, got any) any {
	switch want := want.(type) {
	case string:
		if key, ok := strings.CutPrefix(want, "<room:"); ok {
			return c.room(strings.TrimSuffix(key, ">"))
		}
		text, _ := got.(string)
		return c.resolveText(want, text)
	case []any:
		list, _ := got.([]any)
		resolved := make([]any, len(want))
		for i, w := range want {
			var g any
			if i < len(list) {
				g = list[i]
			}
			resolved[i] = c.resolve(w, g)
		}
		return resolved
	case map[string]any:
		object, _ := got.(map[string]any)
		resolved := map[string]any{}
		for k, w := range want {
			resolved[k] = c.resolve(w, object[k])
		}
		return resolved
	}
	return want
}

var placeholder = regexp.MustCompile(`<(jwt|uuid|slug|text|timestamp|value|own-address|pin:\d+)>`)

func (c *comparison) resolveText(want, got string) string {
	at := placeholder.FindStringIndex(want)
	if at == nil {
		return want
	}
	before, name, after := want[:at[0]], want[at[0]:at[1]], want[at[1]:]
	form, bound := c.form(name)
	m := regexp.MustCompile(`(?s)^` + regexp.QuoteMeta(before) + `(` + form + `)` + regexp.QuoteMeta(after) + `$`).FindStringSubmatch(got)
	if m == nil {
		return want
	}
	if bound {
		c.bound[name] = m[1]
	}
	return got
}

// form returns the pattern of a placeholder's value, and whether the value is the same
// everywhere in one answer.
func (c *comparison) form(name string) (pattern string, bound bool) {
	if value, ok := c.bound[name]; ok {
		return regexp.QuoteMeta(value), true
	}
	if n, ok := strings.CutPrefix(name, "<pin:"); ok {
		return `[0-9]{` + strings.TrimSuffix(n, ">") + `}`, false
	}
	switch name {
	case "<uuid>":
		return `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`, true
	case "<slug>":
		return `[a-z]{3}-[a-z]{4}-[a-z]{3}`, true
	case "<jwt>":
		return `[\w-]+\.[\w-]+\.[\w-]+`, false
	case "<own-address>":
		return regexp.QuoteMeta(ownAddress), false
	case "<timestamp>":
		return `\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT`, false
	}
	return `.+`, false
}

// room returns a fixture as the settings of the variant show it.
func (c *comparison) room(key string) any {
	f, ok := c.header.Fixtures.Rooms[key]
	if !ok {
		return "no fixture " + key
	}
	room := map[string]any{
		"id": f.ID, "name": f.Name, "slug": f.Slug, "access_level": f.AccessLevel, "configuration": f.Configuration,
	}
	if c.settings.BaseURL != "" {
		room["url"] = c.settings.BaseURL + "/" + f.Slug
	}
	if telephony := c.settings.Telephony; telephony.Enabled {
		var pin any
		if f.PIN != nil {
			pin = *f.PIN
		}
		room["telephony"] = map[string]any{
			"enabled": true, "phone_number": telephony.PhoneNumber, "pin_code": pin, "default_country": telephony.DefaultCountry,
		}
	}
	return room
}

// jwt compares the token in an answer, and checks its signature.
func (c *comparison) jwt() {
	want := c.line.Response.JWT
	if want == nil {
		return
	}
	object, _ := c.bodies[c.line.ID].(map[string]any)
	text, _ := object["access_token"].(string)
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		c.fault("no token")
		return
	}
	var header, claims map[string]any
	for i, into := range []*map[string]any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(b, into) != nil {
			c.fault("part %d of the token is no JSON", i)
			return
		}
	}
	if d := cmp.Diff(want.Header, header); d != "" {
		c.fault("token header (-recorded +sandbox):\n%s", d)
	}
	wanted, _ := c.resolve(want.Claims, claims).(map[string]any)
	for name, v := range wanted {
		if m, ok := v.(string); ok && nowPlaceholder.MatchString(m) {
			wanted[name] = c.at(m)
		}
	}
	if d := cmp.Diff(wanted, claims); d != "" {
		c.fault("claims (-recorded +sandbox):\n%s", d)
	}
	mac := hmac.New(map[string]func() hash.Hash{"HS256": sha256.New, "HS512": sha512.New}[c.settings.JWTAlgorithm], []byte(c.settings.JWTSecretKey))
	mac.Write([]byte(parts[0] + "." + parts[1]))
	if parts[2] != base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) {
		c.fault("the signature is wrong")
	}
	c.user(want.User, claims["user_id"])
}

// at returns the time of a placeholder.
func (c *comparison) at(text string) float64 {
	offset, _ := strconv.ParseFloat(nowPlaceholder.FindStringSubmatch(text)[1], 64)
	return float64(c.now.Unix()) + offset
}

// user checks whether a token is for a new user or for the user of another line.
func (c *comparison) user(want string, got any) {
	id, _ := got.(string)
	if other, ok := strings.CutPrefix(want, "as in "); ok {
		if id != c.users[other] {
			c.fault("user %s is not that of %s", id, other)
		}
		return
	}
	if want != "new" {
		return
	}
	for name, u := range c.header.Fixtures.Users {
		if u.ID == id {
			c.fault("user is %s, not new", name)
		}
	}
	for other, known := range c.users {
		if known == id {
			c.fault("user is that of %s, not new", other)
		}
	}
	c.users[c.line.ID] = id
}
