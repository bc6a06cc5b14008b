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

	"github.com/meet-gateway/meet-gateway/caddymodule/admin/wire"
	"github.com/meet-gateway/meet-gateway/caddymodule/doctor"
	"github.com/meet-gateway/meet-gateway/caddymodule/option"
	"github.com/meet-gateway/meet-gateway/caddymodule/store"
	"github.com/meet-gateway/meet-gateway/tokens"
	"github.com/meet-gateway/meet-gateway/tokens/limit"
)

const (
	// doctorTimeout bounds all that the doctor asks.
	doctorTimeout = 4 * time.Second
	// meetProbeTimeout bounds what one Meet is asked.
	meetProbeTimeout = 3 * time.Second
	// doctorApplications is how many applications are looked at, doctorAliases how many
	// of their aliases.
	doctorApplications = 2000
	doctorAliases      = 500
	// hintsFor is for how long a hint of a refused request counts.
	hintsFor = time.Hour
)

// Diagnose implements admin.Gateway. It changes nothing, here, in Redis or at Meet,
// but for a key of its own in Redis that it removes.
func (a *App) Diagnose(ctx context.Context, adminAddress string) wire.Diagnosis {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	d := wire.Diagnosis{Checks: doctor.Count()}
	f := &doctor.Facts{Now: time.Now(), Configuration: a.configurationFacts(adminAddress)}
	meets := make(chan []doctor.Meet, 1)
	go func() { meets <- a.meetFacts(ctx) }()
	a.redisFacts(ctx, f)
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

// sites are the servers of the running configuration that the directive may be on.
func sites() []doctor.Site {
	mod, err := caddy.ActiveContext().AppIfConfigured("http")
	if err != nil {
		return nil
	}
	var list []doctor.Site
	for name, server := range mod.(*caddyhttp.App).Servers {
		if strings.HasPrefix(name, "remaining_auto_https") { // they redirect, and nothing else
			continue
		}
		// Caddy keeps the configuration of trusted_proxies no longer than it needs it,
		// and what it made of it to itself. Of another Caddy nothing is known.
		trusted := reflect.ValueOf(server).Elem().FieldByName("trustedProxies")
		proxied := !trusted.IsValid() || !trusted.IsNil()
		for _, address := range server.Listen {
			list = append(list, doctor.Site{Address: address, Plain: len(server.TLSConnPolicies) == 0, Proxied: proxied})
		}
	}
	slices.SortFunc(list, func(x, y doctor.Site) int { return cmp.Compare(x.Address, y.Address) })
	return list
}

func (a *App) redisFacts(ctx context.Context, f *doctor.Facts) {
	s := a.Authority().Status(ctx)
	f.Redis = doctor.Redis{
		Problem: s.Store.Error, Mode: s.Store.Mode, Latency: time.Duration(s.Store.Latency), FeedFresh: s.Feed.Fresh, FeedProblem: s.Feed.Error,
	}
	f.Gateways, f.Keys, f.MissingKeys, f.KeysError = s.Gateways, s.Keys, s.MissingKeys, s.KeysError
	f.Gateways = slices.DeleteFunc(f.Gateways, func(g tokens.Gateway) bool {
		_, former := outgoing.Load(g.ID) // this process, as it was configured before
		return former
	})
	redis, ok := a.store.(*store.Redis)
	if !ok {
		return
	}
	f.Redis.WaitReplicas = redis.WaitReplicas
	if settings, err := redis.Tokens().Settings(ctx); err == nil {
		f.Redis.Settings = settings
	}
	permissions, err := redis.Tokens().Permissions(ctx)
	if err == nil {
		f.Redis.Permissions = permissions
	}
	f.Redis.Replica = s.Store.Error != "" && a.Authority().Health(ctx).Problem == "replica"
	if permissions.Refusing {
		f.Redis.Problem = "" // it answers, and what it refuses is known
	}
}

// applicationFacts reads the applications, as many as time allows.
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
	hints := a.outages.recent("backend", time.Now(), hintsFor)
	list := make([]doctor.Meet, len(a.Gates()))
	var asked sync.WaitGroup
	for i, gate := range a.Gates() {
		asked.Go(func() { list[i] = gate.meetFacts(ctx) })
	}
	asked.Wait()
	since := time.Now().Add(-hintsFor)
	for i, gate := range a.Gates() {
		seen := gate.client.Observations()
		hints = slices.DeleteFunc(hints, func(hint string) bool { return seen.Explains(hint, since) })
		m := &list[i]
		m.NoAudience, m.DuplicateMails, m.UnknownUsers = seen.NoAudience(since), seen.DuplicateUser.After(since), seen.UserNotFound.After(since)
		m.Issued, m.TokenLifetime, m.PageSize = seen.TokenAt.After(since), seen.TokenLifetime, seen.PageSize
	}
	if len(list) > 0 {
		list[0].Hints = hints // outages are counted for all gates together
	}
	return list
}

// meetFacts sends Meet an empty request for a token. Meet refuses it before it looks
// at any secret, so it costs nothing and creates no user.
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
		m.Problem = unreachable(err)
		return m
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16)) // what broke off is not as recorded
	m.Status, m.Location = resp.StatusCode, resp.Header.Get("Location")
	m.JSON = strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json")
	m.AsRecorded = namesFields(body)
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		m.Date = date
	}
	return m
}

// namesFields reports whether an answer is the one that was recorded for an empty
// request: a list of texts for each field of a token request, and nothing else.
func namesFields(body []byte) bool {
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

// unreachable is why a connection failed, without an address.
func unreachable(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if name, ok := errors.AsType[*net.DNSError](err); ok && name.IsNotFound {
		return "its name is not found"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not trusted"
	}
	return "it cannot be reached; the log has the cause"
}

// upstreamFacts tells whether Meet is reached without TLS across a public network,
// and when the certificate of its first upstream ends.
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
	// Only when the certificate ends is looked at: whether it is trusted, the request
	// through the transport tells.
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
