// SPDX-License-Identifier: MIT

package caddymodule

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/meet-gateway/meet-gateway/backendclient"
	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/caddymodule/doctor"
	"github.com/meet-gateway/meet-gateway/caddymodule/option"
	"github.com/meet-gateway/meet-gateway/caddymodule/store"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

const (
	// doctorTimeout is the timeout of a whole diagnosis.
	doctorTimeout = 4 * time.Second
	// meetProbeTimeout is the timeout for probing Meet.
	meetProbeTimeout = 3 * time.Second
	// doctorApplications and doctorAliases limit how many are checked.
	doctorApplications = 2000
	doctorAliases      = 500
	// hintPeriod is how long hints of refused requests count.
	hintPeriod = time.Hour
)

// Diagnose implements admin.Gateway. It changes nothing, except for a temporary key of
// its own in Redis.
func (a *App) Diagnose(ctx context.Context, adminAddress string) wire.Diagnosis {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	d := wire.Diagnosis{Checks: doctor.Count()}
	f := &doctor.Facts{Now: time.Now(), Configuration: a.configurationFacts(adminAddress)}
	meets := make(chan []doctor.Meet, 1)
	go func() { meets <- a.meetFacts(ctx) }()
	replicas := make(chan []tokens.Replica, 1)
	go func() { replicas <- a.store.Tokens().UnusableReplicas(ctx) }()
	a.redisFacts(ctx, f)
	f.Redis.Replicas = <-replicas
	if f.Redis.Problem == "" {
		var err error
		if f.Applications, err = a.applicationFacts(ctx); err != nil {
			d.Unfinished = append(d.Unfinished, "not all applications could be looked at in time")
		}
	}
	f.Meets = <-meets
	d.Findings = doctor.Diagnose(f)
	d.Healthy = len(d.Findings) == 0
	return d
}

func (a *App) configurationFacts(adminAddress string) doctor.Configuration {
	_, embedded := a.store.(*store.Embedded)
	c := doctor.Configuration{Embedded: embedded, AdminAddress: adminAddress, GatewaysExpected: cmp.Or(a.Gateways, limit.DefaultNodes)}
	secrets, err := resolveSecrets(a.Secrets, a.store.Secret())
	if err == nil && !embedded {
		for i, secret := range secrets {
			distinct := map[byte]bool{}
			for _, b := range secret {
				distinct[b] = true
			}
			literal := i < len(a.Secrets) && !option.Holds(a.Secrets[i])
			c.Secrets = append(c.Secrets, doctor.Secret{Literal: literal, Distinct: len(distinct), Length: len(secret)})
		}
	}
	c.Sites = sites()
	return c
}

// sites returns the listeners of the running configuration.
func sites() []doctor.Site {
	mod, err := caddy.ActiveContext().AppIfConfigured("http")
	if err != nil {
		return nil
	}
	var list []doctor.Site
	for name, server := range mod.(*caddyhttp.App).Servers {
		if strings.HasPrefix(name, "remaining_auto_https") { // these only redirect
			continue
		}
		proxied := trustsProxies(server)
		for _, address := range server.Listen {
			list = append(list, doctor.Site{Address: address, Plain: len(server.TLSConnPolicies) == 0, Proxied: proxied})
		}
	}
	slices.SortFunc(list, func(x, y doctor.Site) int { return cmp.Compare(x.Address, y.Address) })
	return list
}

// trustsProxies reports whether trusted_proxies names any. The shipped Caddyfile with an
// empty MEET_TRUSTED_PROXIES has a static list without ranges. Caddy does not export what
// it made of trusted_proxies. If a field is renamed, or the source is not a static list,
// assume that there are proxies.
func trustsProxies(server *caddyhttp.Server) bool {
	source := reflect.ValueOf(server).Elem().FieldByName("trustedProxies")
	if !source.IsValid() {
		return true
	}
	if source.IsNil() {
		return false
	}
	if source.Elem().Type() != reflect.TypeFor[*caddyhttp.StaticIPRange]() {
		return true
	}
	ranges := source.Elem().Elem().FieldByName("Ranges")
	return !ranges.IsValid() || ranges.Len() > 0
}

func (a *App) redisFacts(ctx context.Context, f *doctor.Facts) {
	s := a.Authority().Status(ctx)
	f.Redis = doctor.Redis{
		Problem: s.Store.Error, Mode: s.Store.Mode, Latency: time.Duration(s.Store.Latency), FeedFresh: s.Feed.Fresh, FeedProblem: s.Feed.Error,
	}
	f.Gateways, f.Keys, f.MissingKeys, f.KeysError = s.Gateways, s.Keys, s.MissingKeys, s.KeysError
	f.Gateways = slices.DeleteFunc(f.Gateways, func(g tokens.Gateway) bool {
		_, former := retiredGateways.Load(g.ID) // this process under an earlier configuration
		return former
	})
	redis, ok := a.store.(*store.Redis)
	if !ok {
		return
	}
	f.Redis.WaitReplicas = redis.WaitReplicas
	if settings, err := redis.Tokens().Settings(ctx); err == nil {
		f.Redis.Servers = settings
	}
	permissions, err := redis.Tokens().Permissions(ctx)
	if err == nil {
		f.Redis.Permissions = permissions
	}
	f.Redis.Replica = s.Store.Error != "" && a.Authority().Health(ctx).Problem == "replica"
	if permissions.Refusing() {
		f.Redis.Problem = "" // Redis answers; the missing permissions are reported instead
	}
}

// applicationFacts reads applications until the limit or the timeout.
func (a *App) applicationFacts(ctx context.Context) ([]doctor.Application, error) {
	var list []doctor.Application
	aliases := 0
	o := tokens.ListOptions{Limit: wire.MaxPage}
	for len(list) < doctorApplications {
		page, err := a.Authority().Applications(ctx, o)
		if err != nil {
			return list, err
		}
		for _, app := range page.Applications {
			one := doctor.Application{Application: app}
			for _, alias := range app.Aliases {
				if aliases++; aliases > doctorAliases {
					break
				}
				owner, err := a.Authority().CurrentApplication(ctx, alias)
				if errors.Is(err, tokens.ErrNotFound) || err == nil && owner.ID != app.ID {
					one.LostAliases = append(one.LostAliases, alias)
				}
			}
			list = append(list, one)
		}
		if page.Next == "" {
			return list, nil
		}
		o.After = page.Next
	}
	return list, nil
}

func (a *App) meetFacts(ctx context.Context) []doctor.Meet {
	ctx, cancel := context.WithTimeout(ctx, meetProbeTimeout)
	defer cancel()
	hints := a.outages.recent("backend", time.Now(), hintPeriod)
	list := make([]doctor.Meet, len(a.handlers))
	var asked sync.WaitGroup
	for i, h := range a.handlers {
		asked.Go(func() { list[i] = h.meetFacts(ctx) })
	}
	asked.Wait()
	since := time.Now().Add(-hintPeriod)
	for i, h := range a.handlers {
		seen := h.client.Observations()
		hints = slices.DeleteFunc(hints, func(hint string) bool { return seen.Explains(hint, since) })
		m := &list[i]
		m.NoAudience, m.DuplicateMails, m.UnknownUsers = seen.NoAudience(since), seen.DuplicateUser.After(since), seen.UserNotFound.After(since)
		m.Issued, m.TokenLifetime, m.PageSize = seen.TokenAt.After(since), seen.TokenLifetime, seen.PageSize
	}
	if len(list) > 0 {
		list[0].Hints = hints // outages are shared by all handlers
	}
	return list
}

// meetFacts sends Meet an empty token request. Meet refuses it before it checks a
// secret or creates a user.
func (h *Handler) meetFacts(ctx context.Context) doctor.Meet {
	m := doctor.Meet{Host: h.host, Sandbox: h.sandbox, Credentials: h.fallback.ClientID != ""}
	if h.sandbox {
		return m
	}
	m.Plain, m.TLSExpires = h.upstreamFacts(ctx)
	path := h.meetPath() + pathMeetToken
	req, err := http.NewRequestWithContext(h.upstream.Context(ctx), http.MethodPost, "https://"+cmp.Or(h.host, "meet")+path, strings.NewReader("{}"))
	if err != nil {
		m.Problem = "its host or path is not one"
		return m
	}
	req.Host = h.host
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("X-Forwarded-Proto", "https")
	resp, err := h.upstream.RoundTrip(req)
	if err != nil {
		m.Problem = connectionProblem(err)
		return m
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16)) // a truncated body is not the recorded answer
	m.Status, m.Location = resp.StatusCode, resp.Header.Get("Location")
	m.JSON = strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json")
	m.AsRecorded = isRecordedAnswer(body)
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		m.Date = date
	}
	return m
}

// isRecordedAnswer reports whether body is Meet's recorded answer to an empty token
// request: a list of texts for each of its fields.
func isRecordedAnswer(body []byte) bool {
	var fields map[string][]string
	if json.Unmarshal(body, &fields) != nil || len(fields) != 4 {
		return false
	}
	for _, name := range []string{"client_id", "client_secret", "grant_type", "scope"} {
		if len(fields[name]) == 0 {
			return false
		}
	}
	return true
}

// connectionProblem describes a connection failure. Its text holds nothing of the request.
func connectionProblem(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not trusted"
	}
	if proxy, ok := errors.AsType[*backendclient.TransportError](err); ok && proxy.Err != nil {
		err = proxy.Err
	}
	return err.Error()
}

// upstreamFacts reports whether Meet is reached without TLS over a public network, and
// when the first upstream's certificate expires.
func (h *Handler) upstreamFacts(ctx context.Context) (plain bool, expires time.Time) {
	proxy, ok := h.upstream.Handler().(*reverseproxy.Handler)
	if !ok || len(proxy.Upstreams) == 0 {
		return false, time.Time{}
	}
	transport, ok := proxy.Transport.(*reverseproxy.HTTPTransport)
	host, _, err := net.SplitHostPort(proxy.Upstreams[0].Dial)
	if !ok || err != nil {
		return false, time.Time{}
	}
	if transport.TLS == nil {
		ip, err := netip.ParseAddr(host)
		return err == nil && !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast(), time.Time{}
	}
	name := cmp.Or(transport.TLS.ServerName, host)
	if strings.ContainsRune(name, '{') {
		name = host
	}
	// Only the expiry is read. The probe above verifies the certificate.
	dialer := tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}} //nolint:gosec // nothing is sent
	conn, err := dialer.DialContext(ctx, "tcp", proxy.Upstreams[0].Dial)
	if err != nil {
		return false, time.Time{}
	}
	defer conn.Close()
	if secure, ok := conn.(*tls.Conn); ok {
		if chain := secure.ConnectionState().PeerCertificates; len(chain) > 0 {
			expires = chain[0].NotAfter
		}
	}
	return false, expires
}
