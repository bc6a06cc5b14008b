// SPDX-License-Identifier: MIT

package backendclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Options configures a [Client]. Transport and Host are required.
type Options struct {
	// Transport sends requests to Meet. It must not follow redirects. The URL of a request
	// names Host; the transport may change it to dial another address, because it owns the
	// request. A transport that is a proxy should report failures as *TransportError.
	Transport http.RoundTripper

	// Context, if set, derives the context of each request to Meet from the caller's, so
	// that the transport can add values.
	Context func(context.Context) context.Context

	// Detach, if set, derives the context of an exchange from that of the first caller. The
	// result must not end with that caller; it may keep values. Default: no value is kept.
	Detach func(context.Context) context.Context

	// BasePath is the prefix of the API at Meet. Default: "/external-api/v1.0".
	BasePath string

	// Host is sent as Host header: Meet's public name, one of its ALLOWED_HOSTS, with the
	// port unless it is the default one.
	Host string

	// Store shares tokens between processes. If it is nil, they are not shared.
	Store TokenStore

	// MaxExchanges is how many exchanges run at once. Each costs Meet a second of CPU and a
	// worker. An exchange that waits longer than ExchangeTimeout fails with ErrBusy.
	// Applications take turns, however many users each of them asks for. Default: 2.
	MaxExchanges int

	// ExchangeTimeout bounds one exchange. Default: 15 s.
	ExchangeTimeout time.Duration

	// RequestTimeout bounds one request for rooms. A call may make several requests.
	// Default: 10 s.
	RequestTimeout time.Duration

	// MaxBody bounds the answer that is read, in bytes. Default: 4 MiB.
	MaxBody int64

	// MaxTokens is how many tokens are kept in this process, at about 200 bytes each. If there are
	// more, one that was not used lately is dropped. Default: 16384.
	MaxTokens int

	// Previous is a client whose tokens this one takes over, if both are for the same Meet
	// and have the same MaxTokens. Both may be used at the same time.
	Previous *Client

	// PageWorkers is how many pages of one list are fetched at once. Default: 4.
	PageWorkers int

	// MayRenew enables [Client.Renew] and decides for whom tokens are renewed. It gets a
	// caller with its identity and the application that last used the token.
	MayRenew func(context.Context, Caller) bool

	// RenewFor is how long after a user's last request tokens are renewed. If a token is
	// usable for less than 12 h, this is at most a quarter of that time. Default: 24 h.
	RenewFor time.Duration

	// Now is the clock for lifetimes. Default: time.Now.
	Now func() time.Time

	// OnExchange is called after every exchange with the outcome, one of Reasons, and the
	// time it took, including the wait for a slot. It may be called concurrently.
	OnExchange func(outcome string, took time.Duration)
}

// Client calls Meet's external API. It is safe for concurrent use. It needs no closing:
// exchanges and requests end by their timeouts, and [Client.Renew] with its context.
type Client struct {
	options     Options // with defaults
	timeoutPool *timeoutPool

	counters     counters
	observations observations

	renewalQueue   *renewalQueue
	pausedRenewals *cache[Credentials, time.Time] // applications that Meet refused to renew for, until when
	renewals       renewalCounters

	turns   *fairQueue // of exchanges
	flights singleflight.Group
	waiters waiters

	tokens              *tokenCache
	refusedCallers      *cache[identity, *Error]    // callers that Meet refused recently
	refusedApplications *cache[Credentials, *Error] // applications that Meet refused recently
	distrusted          *cache[identity, string]    // tokens that Meet refused recently
	suspected           *cache[identity, struct{}]  // callers whose token was replaced after a server error
	refetched           *cache[identity, struct{}]  // callers whose token was fetched again for a scope
	disabledSessions    *cache[string, *Error]      // sessions of users that Meet called disabled recently

	roomCounts      *cache[identity, int] // by the user's last list
	pageSize        atomic.Int64          // of Meet's list by default
	honoursPageSize atomic.Bool           // Meet is known to obey page_size
}

const (
	defaultBasePath        = "/external-api/v1.0"
	defaultMaxExchanges    = 2
	defaultExchangeTimeout = 15 * time.Second
	defaultRequestTimeout  = 10 * time.Second
	defaultMaxBody         = 4 << 20
	defaultMaxTokens       = 16384
	defaultPageWorkers     = 4
	defaultRenewFor        = 24 * time.Hour

	maxRemembered = 4096 // entries of the caches for refusals and the like
)

// check refuses unusable options.
func (o Options) check() error {
	if o.Transport == nil {
		return errors.New("a transport is required")
	}
	if o.Host == "" || strings.ContainsAny(o.Host, " \t\r\n/@?#\\") {
		return fmt.Errorf("host %q: must be meet's public host name", o.Host)
	}
	if o.BasePath != "" && !canonical(o.BasePath+"/") {
		return fmt.Errorf("base path %q: must be an absolute path without empty or dot segments", o.BasePath)
	}
	if o.MaxExchanges < 0 || o.MaxTokens < 0 || o.PageWorkers < 0 || o.MaxBody < 0 || o.ExchangeTimeout < 0 || o.RequestTimeout < 0 || o.RenewFor < 0 {
		return errors.New("limits and timeouts must not be negative")
	}
	return nil
}

// New returns a client. It sends no request.
func New(o Options) (*Client, error) {
	o.BasePath = strings.TrimRight(cmp.Or(o.BasePath, defaultBasePath), "/")
	if err := o.check(); err != nil {
		return nil, err
	}
	o.MaxExchanges = cmp.Or(o.MaxExchanges, defaultMaxExchanges)
	o.ExchangeTimeout = cmp.Or(o.ExchangeTimeout, defaultExchangeTimeout)
	o.RequestTimeout = cmp.Or(o.RequestTimeout, defaultRequestTimeout)
	o.MaxBody = cmp.Or(o.MaxBody, defaultMaxBody)
	o.MaxTokens = cmp.Or(o.MaxTokens, defaultMaxTokens)
	o.PageWorkers = cmp.Or(o.PageWorkers, defaultPageWorkers)
	o.RenewFor = cmp.Or(o.RenewFor, defaultRenewFor)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Context == nil {
		o.Context = func(ctx context.Context) context.Context { return ctx }
	}
	if o.Detach == nil {
		o.Detach = func(context.Context) context.Context { return context.Background() }
	}
	previous := o.Previous
	o.Previous = nil // or all clients before would be kept

	c := &Client{
		options:             o,
		timeoutPool:         newTimeoutPool(o.RequestTimeout),
		renewalQueue:        &renewalQueue{limit: o.MaxTokens},
		pausedRenewals:      newCache[Credentials, time.Time](maxRemembered),
		turns:               newFairQueue(o.MaxExchanges),
		tokens:              newTokenCache(o.MaxTokens),
		refusedCallers:      newCache[identity, *Error](maxRemembered),
		refusedApplications: newCache[Credentials, *Error](maxRemembered),
		distrusted:          newCache[identity, string](maxRemembered),
		suspected:           newCache[identity, struct{}](maxRemembered),
		refetched:           newCache[identity, struct{}](maxRemembered),
		disabledSessions:    newCache[string, *Error](maxRemembered),
		roomCounts:          newCache[identity, int](maxRemembered),
	}
	if p := previous; p != nil && p.options.Host == o.Host && p.options.BasePath == o.BasePath && p.options.MaxTokens == o.MaxTokens {
		c.tokens, c.distrusted, c.renewalQueue = p.tokens, p.distrusted, p.renewalQueue
	}
	c.pageSize.Store(meetPageSize)
	return c, nil
}
