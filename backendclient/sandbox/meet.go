// SPDX-License-Identifier: MIT

package sandbox

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// prefix is where Meet mounts its external API; EXTERNAL_API_VERSION is a constant.
const prefix = "/external-api/v1.0/"

// Meet is a Meet in memory: the handler of its external API and the data
// behind it. It is safe for concurrent use.
type Meet struct {
	settings  Settings
	now       func() time.Time
	db        *database
	recorder  *recorder
	exchanges *atomic.Int64
	parseJSON func(body []byte) (any, error)
}

// Option configures how the sandbox runs. [Settings] configure how it answers.
type Option func(*Meet)

// WithClock sets the clock for issuing and checking tokens. Default: [time.Now].
func WithClock(now func() time.Time) Option {
	return func(m *Meet) { m.now = now }
}

// WithRecorder sets how many requests [Meet.Requests] returns. Default: 256.
func WithRecorder(n int) Option {
	return func(m *Meet) { m.recorder = newRecorder(n) }
}

// New returns a Meet with these settings and without any data.
func New(s Settings, options ...Option) *Meet {
	m := &Meet{
		settings:  s,
		now:       time.Now,
		db:        newDatabase(),
		recorder:  newRecorder(256),
		exchanges: new(atomic.Int64),
		parseJSON: parseJSON,
	}
	for _, o := range options {
		o(m)
	}
	return m
}

// With returns a Meet with other settings over the same data, recorder and
// counters: the same installation, restarted.
func (m *Meet) With(s Settings) *Meet {
	other := *m
	other.settings = s
	return &other
}

// Settings returns the settings, as a start for [Meet.With].
func (m *Meet) Settings() Settings { return m.settings }

// Exchanges returns how many token requests made Meet check a secret. Each costs a real Meet
// about a second of CPU.
func (m *Meet) Exchanges() int { return int(m.exchanges.Load()) }

// ServeHTTP answers as Meet behind its web server does.
func (m *Meet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	m.recorder.record(r, body)
	c := &call{
		r:         r,
		body:      body,
		host:      r.Host,
		https:     firstValue(r.Header.Values("X-Forwarded-Proto")) == "https",
		language:  acceptedLanguage(r.Header.Get("Accept-Language")),
		now:       m.now(),
		parseJSON: m.parseJSON,
	}
	a := refuseBroken(r)
	switch {
	case a != nil:
	case err != nil:
		a = c.page(badRequestPage)
	default:
		a = m.answer(c)
	}
	m.write(w, c, a)
}

// answer goes through Django's middleware in its order.
func (m *Meet) answer(c *call) *answer {
	if m.settings.SecureSSLRedirect && !c.https && !isHeartbeat(c.r.URL.Path) {
		return m.redirectToHTTPS(c)
	}
	if c.r.Method == http.MethodOptions && c.r.Header.Get("Access-Control-Request-Method") != "" {
		return m.withCORS(c, c.preflight())
	}
	if !m.allowsHost(c.host) {
		return m.withCORS(c, c.wrongHost())
	}
	// Some middleware reads the session's user unless a view has authenticated the request.
	c.session = true
	return m.withCORS(c, m.route(c))
}

// route calls the view of a path. Like Django it decodes %2F, accepts no other spelling of a
// path, and redirects if only the final slash is missing.
func (m *Meet) route(c *call) *answer {
	path := c.r.URL.Path
	if view := m.view(path); view != nil {
		return view(c)
	}
	if !strings.HasSuffix(path, "/") && m.view(path+"/") != nil {
		location := c.r.URL.EscapedPath() + "/"
		if c.r.URL.RawQuery != "" {
			location += "?" + c.r.URL.RawQuery
		}
		return c.redirect(location)
	}
	return c.page(notFoundPage)
}

// view returns the view of a path, or nil.
func (m *Meet) view(path string) func(*call) *answer {
	name, external := strings.CutPrefix(path, prefix)
	switch {
	case isHeartbeat(path):
		return (*call).heartbeat
	case !external || !m.settings.ExternalAPIEnabled:
		return nil
	case name == "application/token/":
		return m.tokenView
	case name == "rooms/":
		return m.collectionView
	}
	id, isRoom := strings.CutPrefix(name, "rooms/")
	id, hasSlash := strings.CutSuffix(id, "/")
	if !isRoom || !hasSlash || id == "" || strings.ContainsAny(id, "/.") {
		return nil
	}
	return func(c *call) *answer { return m.roomView(c, id) }
}

// isHeartbeat reports whether the path is a health check, which needs no https.
func isHeartbeat(path string) bool {
	path = strings.TrimSuffix(path, "/")
	return path == "/__heartbeat__" || path == "/__lbheartbeat__"
}

func (c *call) heartbeat() *answer {
	if strings.HasPrefix(c.r.URL.Path, "/__heartbeat__") {
		return c.json(http.StatusOK, map[string]string{"status": "ok"})
	}
	return c.page(emptyPage)
}

// redirectToHTTPS is Django's SecurityMiddleware. It precedes the middleware that sets the usual
// headers.
func (m *Meet) redirectToHTTPS(c *call) *answer {
	c.bare = true
	if !m.allowsHost(c.host) {
		return c.wrongHost()
	}
	return c.redirect("https://" + c.host + c.r.URL.RequestURI())
}

func (c *call) wrongHost() *answer {
	a := c.page(badRequestPage)
	a.chunked = true
	return a
}

// allowsHost checks a Host header against the allowed names, with any port.
func (m *Meet) allowsHost(host string) bool {
	name, ok := splitHost(host)
	if !ok {
		return false
	}
	return slices.ContainsFunc(m.settings.AllowedHosts, func(allowed string) bool {
		return allowed == "*" || name == allowed ||
			strings.HasPrefix(allowed, ".") && (name == allowed[1:] || strings.HasSuffix(name, allowed))
	})
}

// splitHost returns the name in a Host header, in lower case and without port and final dot,
// and whether Django accepts the header.
func splitHost(host string) (name string, ok bool) {
	name, port := strings.ToLower(host), ""
	if at := strings.LastIndexByte(name, ':'); at >= 0 && !strings.HasSuffix(name, "]") {
		name, port = name[:at], name[at+1:]
	}
	if strings.Trim(port, "0123456789") != "" {
		return "", false
	}
	name = strings.TrimSuffix(name, ".")
	if inner, isIP := strings.CutPrefix(name, "["); isIP {
		inner, isIP = strings.CutSuffix(inner, "]")
		return name, isIP && inner != "" && strings.Trim(inner, "0123456789abcdef:.") == ""
	}
	return name, name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

// preflight answers any preflight, before Host is checked.
func (c *call) preflight() *answer {
	a := c.page(emptyPage)
	a.preflight = true
	return a
}

// withCORS adds the headers of django-cors-headers for an allowed origin.
func (m *Meet) withCORS(c *call, a *answer) *answer {
	origin := c.r.Header.Get("Origin")
	if origin == "" || !slices.Contains(m.settings.CORSOrigins, origin) {
		return a
	}
	a.header.Set("Access-Control-Allow-Origin", origin)
	a.header.Set("Access-Control-Allow-Credentials", "true")
	if a.preflight {
		a.header.Set("Access-Control-Allow-Headers", "accept, authorization, content-type, user-agent, x-csrftoken, x-requested-with")
		a.header.Set("Access-Control-Allow-Methods", "DELETE, GET, OPTIONS, PATCH, POST, PUT")
		a.header.Set("Access-Control-Max-Age", "86400")
	}
	return a
}

// firstValue returns the first value of a header with several lines or a list.
func firstValue(values []string) string {
	first, _, _ := strings.Cut(strings.Join(values, ","), ",")
	return strings.TrimSpace(first)
}
